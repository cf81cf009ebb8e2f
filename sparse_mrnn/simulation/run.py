"""simulate: step, record, make checkpoints, report progress."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.arguments import path_of, real_number
from sparse_mrnn.differences import differences, first_of
from sparse_mrnn.errors import (
    ConfigError,
    DivergenceError,
    RecordingError,
    ResumeError,
    SimulationStopped,
    suggest,
)
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.lock import WriterLock
from sparse_mrnn.recording.metadata import Metadata
from sparse_mrnn.recording.reading import check_chunks, is_recording, need, read_metadata
from sparse_mrnn.recording.recorder import Arrays, Recorder
from sparse_mrnn.recording.store import ZarrStore, dataset
from sparse_mrnn.simulation import checkpoint as checkpoints
from sparse_mrnn.simulation.attributes import network_attributes
from sparse_mrnn.simulation.fingerprint import (
    digest,
    graph_config,
    network_fingerprint,
    software_versions,
)
from sparse_mrnn.simulation.interrupt import Interrupt
from sparse_mrnn.simulation.intervention_schedule import InterventionSchedule
from sparse_mrnn.simulation.plan import SimulationPlan, check_size, check_states, plan_simulation, statistics
from sparse_mrnn.simulation.progress import Progress
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.simulation.stimulus_drive import PlacedStimulus, StimulusDrive
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray

MODES = ("create", "overwrite", "resume")
CHECK_EVERY_ON_GPU = 64
"""Steps between two checks for NaN on a GPU, where each one waits for the device."""


def simulate(
    net: mRNNBase,
    duration: float | None = None,
    *,
    steps: int | None = None,
    batch: int = 1,
    stimulus: Sequence[Stimulus] | Stimulus | None = None,
    interventions: Sequence[Intervention] | Intervention | None = None,
    record: Record | None = None,
    noise: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    mode: Literal["create", "overwrite", "resume"] = "create",
    checkpoint_seconds: float = 30.0,
    allow_large: bool = False,
    event_driven: bool = True,
    progress: bool = True,
    log: str | os.PathLike[str] | None = None,
) -> xarray.Dataset:
    """Simulate a network from its initial condition.

    With ``out``, memory does not grow with the duration, and the run survives a crash: call it again with
    ``mode="resume"`` and the recording comes out as if nothing had happened, bit for bit on the same device
    and thread count.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    duration : float
        ms; rounded to time steps (``net.dt``) with a warning.
    steps : int
        In place of a duration.
    batch : int
        Trials; they differ by their noise and random stimuli.
    stimulus : Stimulus, or sequence of them
        They add.
    interventions : Lesion, Clamp, Gain, or sequence of them
    record : Record, optional
        Default: h of every unit, every step.
    noise : bool
        Add the network's noise.
    seed : int
        Of noise, random stimuli and fractions of units. The noise is that of the network after
        ``reset_noise(seed)``.
    out : path, optional
        Write a Zarr store here, while the run goes on.
    mode : {"create", "overwrite", "resume"}
        Refuse, replace, or go on with a recording that is in ``out`` already; where there is none, begin.
    checkpoint_seconds : float
        Seconds between two checkpoints.
    allow_large : bool
        Begin even if the recording, uncompressed, or the states take more than is free.
    event_driven : bool
        Skip silent units where that is faster (docs/decisions/0015); equal up to rounding.
    progress : bool
        Draw a bar, where standard error is a terminal.
    log : path, optional
        Append JSON lines: start, progress, checkpoint, done, ....

    Returns
    -------
    xarray.Dataset
        ``h`` and/or ``x`` (trial, time, unit), ``h_mean``, ... (trial, time, group), with coordinates time
        (ms), region, unit_id and group. With ``out`` it is lazy.

    Raises
    ------
    StimulusError, InterventionError, UnknownNameError
        If the duration, a stimulus, or an intervention does not fit.
    RecordingError
        If ``out`` exists, cannot be written, or would not fit.
    ResumeError
        If the run in ``out`` is of another network or had other options; the message says which.
    SimulationStopped
        On Ctrl-C or a termination request; the run can be resumed.
    DivergenceError
        When a state becomes NaN or infinite.
    MissingExtraError
        Without xarray (and zarr, for ``out``): the extra ``io``.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> recording = simulate(mRNN(g, device="cpu"), 50, stimulus=Stimulus("a", 1.0))
    >>> recording.h.shape, recording.time.values.tolist()
    ((1, 5, 3), [10.0, 20.0, 30.0, 40.0, 50.0])
    """
    need("xarray", "recordings")
    if not isinstance(net, mRNNBase):
        raise ConfigError(f"net is of type {type(net).__name__}; give a network, such as mRNN(graph).")
    if mode not in MODES:
        hint = suggest(mode, MODES)
        raise RecordingError(f"mode is {mode!r}; use 'create', 'overwrite' or 'resume'. {hint}")
    if out is None and mode != "create":
        raise RecordingError(f"mode={mode!r} is about a recording on disk; give its path as out.")
    plan = plan_simulation(
        net,
        duration,
        steps=steps,
        batch=batch,
        stimulus=stimulus,
        interventions=interventions,
        record=record,
        seed=seed,
        noise=noise,
    )
    if real_number(checkpoint_seconds, "checkpoint_seconds", RecordingError) < 0:
        raise RecordingError(f"checkpoint_seconds is {checkpoint_seconds}; it must not be negative.")
    path = None if out is None else path_of(out, "out", RecordingError)
    log = None if log is None else path_of(log, "log", RecordingError)
    if path is not None and not path.name:
        raise RecordingError(f"{path} cannot be a recording; give the path of a folder to make.")
    if path is None or mode != "resume" or not path.exists():
        check_size(plan.axes, path, allow_large=allow_large)
    if not allow_large:
        check_states(net, plan.batch)
    run = _Run(net, plan, path, event_driven=event_driven)
    with nullcontext() if path is None or run.is_finished(mode) else WriterLock(path):
        finished = run.begin(mode)
        if finished is not None:
            return finished
        bar = Progress(plan.steps, net.dt, run.step, bar=progress, log=log)
        with bar as reporter, Interrupt() as interrupt:
            return run.go(reporter, interrupt, checkpoint_seconds)


class _Run:
    """A run in progress: ``step`` steps are done."""

    def __init__(self, net: mRNNBase, plan: SimulationPlan, out: Path | None, *, event_driven: bool) -> None:
        self.net, self.plan, self.out, self.step = net, plan, out, 0
        of_stimuli, of_interventions = plan.streams
        self.schedule = InterventionSchedule(net, plan.acts, plan.steps, of_interventions)
        noise_seed = plan.seed if plan.noise else None
        self.simulator = Simulator(net, plan.batch, noise_seed, event_driven=event_driven)
        self.stepper = self.simulator.stepper
        placed = [
            PlacedStimulus(net, stimulus, steps=plan.steps, batch=plan.batch, seeds=seeds)
            for stimulus, seeds in zip(plan.stimuli, of_stimuli.spawn(len(plan.stimuli)), strict=True)
        ]
        self.drive = StimulusDrive(placed, self.simulator.u, self.stepper.inputs.longest)
        self.store = None if out is None else ZarrStore(out, plan.axes, plan.chunk)
        self.kept: Arrays = {}
        self.recorder: Recorder | None = None
        self.saved = 0  # steps of the last checkpoint
        self.identity = {
            "options": plan.options(net),
            "fingerprint": network_fingerprint(net),
            "versions": software_versions(),
        }

    def _new_recorder(self) -> Recorder:
        axes, store = self.plan.axes, self.store
        length = axes.samples if store is None else self.plan.chunk
        whole = np.array_equal(axes.units, np.arange(self.net.layout().n))
        put = self._keep if store is None else store.put
        return Recorder(axes, length, statistics(self.net, axes), put, whole=whole)

    def _keep(self, start: int, arrays: Arrays) -> None:
        self.kept = arrays

    # ---------------------------------------------------------------- beginning

    def is_finished(self, mode: str) -> bool:
        """Whether there is nothing to write: the run is to be resumed and has ended."""
        out = self.out
        return mode == "resume" and out is not None and is_recording(out) and bool(_ended(read_metadata(out)))

    def begin(self, mode: str) -> xarray.Dataset | None:
        """Make or reopen what is written to; the recording, if it is finished already."""
        store, out = self.store, self.out
        if store is not None and out is not None:
            old = out.with_name(out.name + ".old")
            if not out.exists() and old.exists():  # killed between two renames of an overwrite
                old.rename(out)
            if out.exists() and mode == "create":
                raise RecordingError(
                    f"{out} exists; choose another path, overwrite it (mode='overwrite', --overwrite) or "
                    "resume it (mode='resume', --resume)."
                )
            if out.exists() and not is_recording(out):
                what = "resumed" if mode == "resume" else "overwritten"
                raise RecordingError(f"{out} is not a recording; it is not {what}. Choose another path.")
            if out.exists() and mode == "resume":
                return self._resume(store)
            self.recorder = self._new_recorder()
            store.create(self._attrs(), lambda path: checkpoints.save(path, *self._state()))
        self.recorder = self.recorder or self._new_recorder()
        self._intervene(first=True)
        return None

    def _attrs(self, *, complete: bool = False) -> dict[str, Any]:
        return {
            "complete": int(complete),
            "recorded": 0,
            "dt": self.net.dt,
            "seed": self.plan.seed,
            **network_attributes(self.net),
            "model": type(self.net).__name__,
            "network_seed": str(self.net.seed),
            "graph_hash": digest(json.dumps(self.identity["fingerprint"]).encode()),
            "config": graph_config(self.net),
            "noise": int(self.plan.noise),
            "stimulus": json.dumps(self.identity["options"]["stimulus"]),
            "interventions": json.dumps(self.identity["options"]["interventions"]),
            "options": json.dumps(self.identity["options"]),
            "fingerprint": json.dumps(self.identity["fingerprint"]),
            "versions": json.dumps(self.identity["versions"]),
        }

    def _resume(self, store: ZarrStore) -> xarray.Dataset | None:
        """Go on from the checkpoint, after all that is recorded was found whole; the recording, if it is."""
        metadata = read_metadata(store.path)
        attrs = metadata.attributes
        self._compare({part: json.loads(attrs[part]) for part in ("options", "fingerprint")})
        if _ended(metadata):
            check_chunks(metadata)
            store.checkpoint.unlink(missing_ok=True)  # of a run killed at its very end
            return open_recording(store.path)
        saved, tensors = checkpoints.load(store.checkpoint)
        self._compare(saved["identity"])
        changed = "; ".join(differences(saved["identity"]["versions"], self.identity["versions"]))
        if changed:
            text = f"resuming {self.out} in another environment ({changed}): last bits may differ."
            warnings.warn(text, stacklevel=4)
        self.step = self.saved = int(saved["step"])
        self.recorder = self._new_recorder()
        part = {name: tensor.numpy() for name, tensor in _with_prefix(tensors, "part_").items()}
        self.recorder.load(int(saved["taken"]), part)
        check_chunks(metadata)
        store.reopen(metadata, self.recorder.taken - self.recorder.filled)
        self._intervene(first=True)
        self.stepper.load(_with_prefix(tensors, "state_"), self.step)
        self.drive.load({name: tensor.numpy() for name, tensor in tensors.items()}, saved["stimuli"])
        return None

    def _compare(self, old: dict[str, Any]) -> None:
        """Refuse to resume another run."""
        advice = "overwrite it (mode='overwrite', --overwrite)"
        for k, spec in enumerate(self.identity["options"]["stimulus"]):
            if spec.get("code", "") is None:
                raise ResumeError(
                    f"{self.out} cannot be resumed: whether stimulus[{k}] is still the same function cannot "
                    f"be told, for it uses {spec['uses']}. Write it without, or {advice}."
                )
        parts = ("options", "fingerprint")
        found = [d for part in parts for d in differences(old[part], self.identity[part])]
        if found:
            text = f"{self.out} cannot be resumed, for this is another run: {first_of(found)}"
            raise ResumeError(f"{text}. Restore that, or {advice}.")

    # ---------------------------------------------------------------- running

    def go(self, reporter: Progress, interrupt: Interrupt, checkpoint_seconds: float) -> xarray.Dataset:
        """Run to the end."""
        out = None if self.out is None else str(self.out)
        reporter.event("resume" if self.step else "start", self.step, steps=self.plan.steps, out=out)
        try:
            self._loop(reporter, interrupt, checkpoint_seconds)
        except DivergenceError as error:
            reporter.event("diverged", self.step, message=str(error))
            raise
        finally:
            if self.store is not None:
                self.store.close()
        return self._finish(reporter)

    def _loop(self, reporter: Progress, interrupt: Interrupt, checkpoint_seconds: float) -> None:
        stepper, drive, steps = self.stepper, self.drive, self.plan.steps
        recorder = cast(Recorder, self.recorder)
        every, variables = self.plan.axes.record.every, self.plan.axes.record.variables
        states = {"x": stepper.x, "h": stepper.h}
        views = {v: states[v].numpy() for v in variables} if stepper.x.device.type == "cpu" else None
        check_every = 1 if views is not None else CHECK_EVERY_ON_GPU
        edges = self.schedule.edges
        due = time.monotonic() + checkpoint_seconds
        while self.step < steps:
            if self.step in edges or self.step + 1 in edges:
                self._intervene()
            currents, inputs = drive.fill(self.step)
            stepper.step(currents, inputs=inputs)
            self.step += 1
            if (self.step % check_every == 0 or self.step == steps) and not stepper.finite():
                self._diverged()
            if self.step % every == 0 and recorder.taken < self.plan.axes.samples:
                recorder.take(views or {v: states[v].cpu().numpy() for v in variables})
            reporter.update(self.step)
            if interrupt.requested and self.step < steps:
                self._stopped(reporter)
            if self.store is not None and time.monotonic() >= due and self.step < steps:
                if stepper.finite():
                    self._save(reporter)
                due = time.monotonic() + checkpoint_seconds

    def _intervene(self, *, first: bool = False) -> None:
        """Change what interventions hold: weights for the coming step, states for its end."""
        if first or self.step in self.schedule.edges:
            self.simulator.set_factors(self.schedule.factors(self.step))
            self.stepper.silent_inputs = self.schedule.silent_inputs(self.step)
        if first:
            self.stepper.hold(self.schedule.held(self.step))
        self.stepper.held = self.schedule.held(self.step + 1)

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        recorder = cast(Recorder, self.recorder)
        states = self.stepper.state().items()
        tensors = {f"state_{name}": tensor for name, tensor in states}
        tensors |= {f"part_{name}": torch.from_numpy(a) for name, a in recorder.part().items()}
        memory, streams = self.drive.state()
        saved = {"identity": self.identity, "step": self.step, "taken": recorder.taken, "stimuli": streams}
        return saved, {**tensors, **{name: torch.from_numpy(a) for name, a in memory.items()}}

    def _save(self, reporter: Progress, *, readable: int | None = None) -> None:
        store, recorder = cast(ZarrStore, self.store), cast(Recorder, self.recorder)
        store.flush()
        try:
            checkpoints.save(store.checkpoint, *self._state())
        except OSError as error:
            raise RecordingError(
                f"cannot write a checkpoint of {self.out}: {error.strerror}. What is recorded until the last "
                f"one, at {self.saved * self.net.dt:g} ms, is whole; make room and resume the run."
            ) from error
        self.saved = self.step
        store.mark(recorded=recorder.taken - recorder.filled if readable is None else readable)
        reporter.event("checkpoint", self.step)

    # ---------------------------------------------------------------- ending

    def _finish(self, reporter: Progress) -> xarray.Dataset:
        if self.store is None:
            reporter.event("done", self.step)
            return self._in_memory(complete=True)
        self.store.flush()
        self.store.mark(complete=1, recorded=self.plan.axes.samples)
        self.store.checkpoint.unlink(missing_ok=True)
        reporter.event("done", self.step)
        return open_recording(self.store.path)

    def _in_memory(self, *, complete: bool) -> xarray.Dataset:
        recorder = cast(Recorder, self.recorder)
        arrays = self.kept if complete else recorder.part()
        return dataset(self.plan.axes, arrays, {**self._attrs(complete=complete), "recorded": recorder.taken})

    def _so_far(self, reporter: Progress | None) -> xarray.Dataset:
        """What is recorded, when the run stops; on disk with a checkpoint, if ``reporter``."""
        recorder = cast(Recorder, self.recorder)
        if self.store is None:
            return self._in_memory(complete=False)
        recorder.put_partial()
        if reporter is not None:
            self._save(reporter, readable=recorder.taken)
        else:
            self.store.flush()
            self.store.mark(recorded=recorder.taken)
        return open_recording(self.store.path)

    def _stopped(self, reporter: Progress) -> None:
        found = self._so_far(reporter)
        hint = "" if self.store is None else f"; resume it (--resume) to go on with {self.out}"
        reporter.event("stopped", self.step)
        raise SimulationStopped(self.step * self.net.dt, self.plan.steps * self.net.dt, found, hint)

    def _diverged(self) -> None:
        layout = self.net.layout()
        bad = np.flatnonzero(~np.isfinite(self.stepper.x.cpu().numpy()).all(axis=1))
        region = layout.regions[int(np.searchsorted(layout.ptr, bad[0], side="right")) - 1].name
        when = self.step * self.net.dt
        found = self._so_far(None)
        saved = f"{self.saved * self.net.dt:g} ms"
        last = "" if self.store is None else f" The last good checkpoint of {self.out} is at {saved}."
        raise DivergenceError(
            f"the network diverged: at {when:g} ms, {len(bad)} units are not finite, the first of them "
            f"in region {region!r}.{last} Use a smaller dt or spectral radius, or weaker drive.",
            when,
            region,
            found,
        )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _ended(metadata: Metadata) -> bool:
    return bool(metadata.attributes["complete"])
