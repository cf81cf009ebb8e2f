"""fit: train a network on a recording by backpropagation through time, with early stopping."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.checks import option, path_of, real_number, true_or_false, whole_number
from sparse_mrnn.display import progress_bar
from sparse_mrnn.errors import DivergenceError, SavedFileError, ShapeError, TrainingError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.files.nested import unpack
from sparse_mrnn.files.tensors import CHECKPOINT, read_tensors
from sparse_mrnn.lowering.layout import Int64
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording.reading import need
from sparse_mrnn.state.differences import differences, first_of
from sparse_mrnn.training.checkpoint import load_checkpoint, save_checkpoint
from sparse_mrnn.training.guard import GROWING, check_finite
from sparse_mrnn.training.recorded import Recorded
from sparse_mrnn.training.recorded_loss import RecordedLoss

CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints; the last epoch is always saved."""


def fit(
    net: mRNNBase,
    recorded: Recorded,
    inputs: Tensor | None = None,
    epochs: int = 100,
    *,
    stim_input: Tensor | None = None,
    x0: Tensor | None = None,
    loss: RecordedLoss | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    lr: float = 1e-3,
    batch: int | None = None,
    held_out: float | Sequence[int] = 0.2,
    patience: int = 20,
    clip: float | None = 1.0,
    noise: bool = False,
    checkpoint_steps: int | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    mode: str = "create",
    seed: int = 0,
    progress: bool = True,
) -> Any:
    """Train a network so that its units do what was recorded; some of the units may not have been.

    Whatever is trainable is trained: weights, or shared gains, biases, time constants and initial states, as
    the graph declares them. After each epoch the loss of the held-out trials is computed, without noise; the
    network ends with the parameters of the epoch at which it was least.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    recorded : Recorded
    inputs : Tensor, laid out as for ``forward``, optional
        Of all trials of the recording, in their order. Default: zeros.
    epochs : int
        Passes over the trials, at most.
    stim_input : Tensor, laid out as for ``forward``, optional
    x0 : Tensor, shape (trials, units), optional
        Initial states. Default: the network's initial condition.
    loss : RecordedLoss, optional
        Default: ``RecordedLoss(net, recorded)``. Give one to weight regions.
    optimizer : torch optimizer, optional
        Of parameters of ``net`` and ``loss``. Default: Adam of all of them, with the learning rate ``lr``.
    lr : float
    batch : int, optional
        Trials of a step of the optimiser. Default: all.
    held_out : float or sequence of int
        Share of the trials that are not trained on, drawn from each condition; or their numbers. 0: none, and
        the network ends with the parameters of the last epoch.
    patience : int
        Stop after so many epochs in which the loss of the held-out trials has not become smaller.
    clip : float, optional
        Largest norm of the gradient. None: any.
    noise, checkpoint_steps
        See ``forward``.
    checkpoint : path, optional
        Write a checkpoint of the run here, every half a minute and at its end.
    mode : {"create", "overwrite", "resume"}
        Refuse, replace, or go on from a checkpoint that is there already; each begins if there is none. A
        resumed run ends bit for bit as if it had not stopped.
    seed : int
        Draws the held-out trials and the batches.
    progress : bool
        Draw a bar, if standard error is a terminal.

    Returns
    -------
    pandas.DataFrame
        A row for each epoch, from 1: ``loss`` of the trials trained on, ``held_out``, ``best`` (whether it is
        the least so far), ``calcium`` (decay in ms, if there is one), ``seconds``.

    Raises
    ------
    TrainingError
        If an argument does not fit, or nothing is trainable.
    DivergenceError
        If states are not finite; the network has the best parameters so far then.
    SavedFileError
        If the checkpoint is of another run, damaged, or in the way.
    ShapeError
        If inputs, stim_input or x0 have another shape.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 10, learnable_bias="unit"); g.add_projection("a", "a")
    >>> net = sm.mRNN(g, "tanh", seed=0, device="cpu")
    >>> recorded = Recorded(np.full((5, 20, 1), 0.5), ["a"], interval=10.0)
    >>> history = fit(net, recorded, epochs=30, lr=0.05)
    >>> bool(history["held_out"].min() < 0.5 * history["held_out"].iloc[0])
    True
    """
    pd = need("pandas", "histories of fits")
    epochs = whole_number(epochs, "fit: epochs", TrainingError)
    patience = whole_number(patience, "fit: patience", TrainingError)
    if not isinstance(recorded, Recorded):
        raise TrainingError(f"fit: recorded is of type {type(recorded).__name__}; give a Recorded.")
    trials = len(recorded.values)
    loss = RecordedLoss(net, recorded) if loss is None else loss
    if len(loss.target) != trials:
        raise TrainingError(f"fit: the loss is of {len(loss.target)} trials, the recording of {trials}.")
    size = trials if batch is None else whole_number(batch, "fit: batch", TrainingError)
    if clip is not None and not real_number(clip, "fit: clip", TrainingError) > 0:
        raise TrainingError(f"fit: clip is {clip!r}; it must be above 0, or None.")
    generator = np.random.default_rng(whole_number(seed, "fit: seed", TrainingError, least=0))
    data = _Trials(net, loss, inputs, stim_input, x0, noise, checkpoint_steps)
    held = _held_out(recorded, held_out, generator)
    trained = np.setdiff1d(np.arange(trials), held)
    if not len(trained):
        raise TrainingError(f"fit: all {trials} trials are held out; none is left to train on.")
    parameters = [p for p in (*net.parameters(), *loss.parameters()) if p.requires_grad and p.numel()]
    if not parameters:
        raise TrainingError("fit: nothing is trainable; see unfreeze, and learnable_bias of add_region.")
    if optimizer is None:
        optimizer = torch.optim.Adam(parameters, lr=float(real_number(lr, "fit: lr", TrainingError)))
    given = {name: part for name, part in data.sequences.items() if part is not None}
    data_digest = digest({"values": recorded.values, **given})
    how = {"data": data_digest, "held_out": held.tolist(), "batch": size, "seed": seed}
    run = _Run(net, loss, parameters, how)
    where = _begin(checkpoint, mode, run, optimizer, generator)
    bar = progress_bar(epochs, "epochs") if true_or_false(progress, "fit: progress", TrainingError) else None
    saved = begun = time.monotonic()
    before = run.seconds
    try:
        if bar is not None:
            bar.start()
        while len(run.history) < epochs and run.since_best < patience:
            total = 0.0
            for numbers in np.split(generator.permutation(trained), range(size, len(trained), size)):
                optimizer.zero_grad()
                value = data.loss(numbers)
                value.backward()  # type: ignore[no-untyped-call]
                if clip is not None:
                    nn.utils.clip_grad_norm_(parameters, clip)
                optimizer.step()
                total += value.item() * len(numbers)
            with torch.no_grad():
                tested = data.loss(held, train=False).item() if len(held) else math.nan
            run.end_epoch(total / len(trained), tested, before + time.monotonic() - begun)
            if bar is not None:
                text = f"loss {total / len(trained):.3g}, held out {tested:.3g}"
                bar.update(bar.task_ids[0], completed=len(run.history), text=text)
            if where is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                run.save(where, optimizer, generator)
                saved = time.monotonic()
        if where is not None:
            run.save(where, optimizer, generator)
    finally:
        if bar is not None:
            bar.stop()
        run.restore_best()
    rows = [{k: v for k, v in row.items() if v is not None} for row in run.history]
    index = pd.RangeIndex(1, len(rows) + 1, name="epoch")
    return pd.DataFrame(rows, index=index)


class _Trials:
    """The arguments of ``forward`` for all trials, and the loss of some of them."""

    def __init__(
        self, net: mRNNBase, loss: RecordedLoss, inputs: Tensor | None, stim: Tensor | None,
        x0: Tensor | None, noise: bool, checkpoint_steps: int | str | None,
    ) -> None:
        self.net, self.measure = net, loss
        self.noise = true_or_false(noise, "fit: noise", TrainingError)
        self.checkpoint_steps, self.axis = checkpoint_steps, 0 if net.batch_first else 1
        trials, steps = len(loss.target), int(loss.steps[-1]) + 1
        if inputs is None:
            width = net.layout("input").n
            inputs = torch.zeros(trials, steps, width, dtype=net.dtype, device=net.device)
            inputs = inputs if net.batch_first else inputs.transpose(0, 1)
        self.sequences = {"inputs": inputs, "stim_input": stim, "x0": x0}
        for name, tensor in self.sequences.items():
            if tensor is None:
                continue
            axis = 0 if name == "x0" else self.axis
            got = tuple(tensor.shape)
            if tensor.dim() != (2 if name == "x0" else 3) or got[axis] != trials:
                raise ShapeError(f"fit: {name} has shape {got}; expected {trials} trials, as recorded.")
            if name != "x0" and got[1 - axis] < steps:
                what = f"the last sample is after {steps} time steps"
                raise ShapeError(f"fit: {name} has {got[1 - axis]} time steps, and {what}.")

    def loss(self, numbers: Int64, *, train: bool = True) -> Tensor:
        """Run some trials, and compute their loss.

        Raises
        ------
        DivergenceError
            If it is not finite.
        """
        chosen = torch.from_numpy(numbers).to(self.net.device)
        inputs, stim, x0 = (
            None if tensor is None else tensor.index_select(0 if name == "x0" else self.axis, chosen)
            for name, tensor in self.sequences.items()
        )
        more = dict(stim_input=stim, noise=self.noise and train, checkpoint_steps=self.checkpoint_steps)
        states = self.net(inputs, x0, **more)
        found: Tensor = self.measure(states, chosen)
        if not bool(torch.isfinite(found)):
            h = states[-1] if isinstance(states, tuple) else states
            again = "The network has its best parameters again."
            check_finite(self.net, h.detach(), hint=f"{GROWING} {again}")
            raise DivergenceError(f"fit: states are finite, but too large to be squared. {GROWING} {again}")
        return found


class _Run(nn.Module):
    """Everything a checkpoint keeps: network, loss, the best parameters so far, and the history."""

    def __init__(
        self, net: mRNNBase, loss: RecordedLoss, parameters: list[nn.Parameter], how: dict[str, Any]
    ) -> None:
        super().__init__()
        self.net, self.loss, self.how = net, loss, how
        self.history: list[dict[str, Any]] = []
        self.learnt = parameters  # a plain list: torch registers none of it
        for k, parameter in enumerate(parameters):
            self.register_buffer(f"best_{k}", parameter.detach().clone())

    @property
    def since_best(self) -> int:
        """Epochs since the held-out loss was least; 0 without held-out trials."""
        best = [k for k, row in enumerate(self.history) if row["best"]]
        return len(self.history) - 1 - best[-1] if best else len(self.history)

    @property
    def seconds(self) -> float:
        """Time of all epochs so far."""
        return float(self.history[-1]["seconds"]) if self.history else 0.0

    @torch.no_grad()
    def end_epoch(self, trained: float, tested: float, seconds: float) -> None:
        """Add a row to the history, and keep the parameters if they are the best so far."""
        least = min((row["held_out"] for row in self.history), default=math.inf)
        best = math.isnan(tested) or tested < least
        if best:
            for k, parameter in enumerate(self.learnt):
                self.get_buffer(f"best_{k}").copy_(parameter)
        row = {"loss": trained, "held_out": tested, "best": best}
        self.history.append(row | {"calcium": self.loss.calcium, "seconds": round(seconds, 3)})

    @torch.no_grad()
    def restore_best(self) -> None:
        """Set the parameters to the best ones."""
        for k, parameter in enumerate(self.learnt):
            parameter.copy_(self.get_buffer(f"best_{k}"))

    def get_extra_state(self) -> dict[str, Any]:
        return {"how": self.how, "history": self.history}

    def set_extra_state(self, state: Any) -> None:
        self.history = state["history"]

    def load(self, path: Path, optimizer: torch.optim.Optimizer, generator: np.random.Generator) -> None:
        """Go on from a checkpoint; nothing has changed if it is of another run."""
        header, tensors = read_tensors(path, CHECKPOINT)
        extra = header.get("extra")
        state = unpack(extra.get("_extra_state"), tensors) if isinstance(extra, dict) else None
        rows = state.get("history") if isinstance(state, dict) else None
        columns = {"loss", "held_out", "best", "calcium", "seconds"}
        if not isinstance(rows, list) or any(not isinstance(r, dict) or r.keys() != columns for r in rows):
            raise SavedFileError(f"{path} is not a checkpoint of a fit.")
        if found := differences(state.get("how"), self.how):  # type: ignore[union-attr]
            raise SavedFileError(f"{path}: this is another fit: {first_of(found)}.")
        load_checkpoint(path, self, optimizer, generators={"batches": generator})

    def save(self, path: Path, optimizer: torch.optim.Optimizer, generator: np.random.Generator) -> None:
        """Write a checkpoint."""
        steps = len(self.history)
        save_checkpoint(path, self, optimizer, step=steps, generators={"batches": generator})


def _begin(
    checkpoint: Any, mode: str, run: _Run, optimizer: torch.optim.Optimizer, generator: np.random.Generator
) -> Path | None:
    """Find out where checkpoints go, and go on from the one there if that is asked for."""
    mode = option(mode, ("create", "overwrite", "resume"), "fit: mode", TrainingError)
    if checkpoint is None:
        if mode != "create":
            raise TrainingError(f"fit: mode={mode!r} is about a checkpoint; give its path as checkpoint.")
        return None
    where = path_of(checkpoint, "fit: checkpoint", SavedFileError)
    if where.exists() and mode == "create":
        advice = "give mode='resume' to go on, mode='overwrite' to begin anew, or another path"
        raise SavedFileError(f"{checkpoint} exists; {advice}.")
    if where.exists() and mode == "resume":
        run.load(where, optimizer, generator)
    return where


def _held_out(recorded: Recorded, given: Any, generator: np.random.Generator) -> Int64:
    """Numbers of the trials that are held out, ascending."""
    trials = len(recorded.values)
    if np.ndim(given) == 1:
        numbers = [whole_number(k, "fit: held_out", TrainingError, least=0, most=trials - 1) for k in given]
        return np.unique(np.array(numbers, dtype=np.int64))
    share = real_number(given, "fit: held_out", TrainingError)
    if not 0 <= share < 1:
        raise TrainingError(f"fit: held_out is {given!r}; give a share of the trials from 0 to below 1.")
    if share == 0:
        return np.empty(0, dtype=np.int64)
    if trials == 1:
        raise TrainingError("fit: there is one trial, which cannot be held out; give held_out=0.")
    conditions = np.array(recorded.condition if recorded.condition is not None else [""] * trials)
    drawn: list[Int64] = []
    for condition in np.unique(conditions):
        own = generator.permutation(np.flatnonzero(conditions == condition))
        drawn.append(own[: min(round(share * len(own)), len(own) - 1)])
    found = np.concatenate(drawn)
    return np.sort(found if len(found) else generator.permutation(trials)[:1])
