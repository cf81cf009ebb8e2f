"""The run itself: step, record, checkpoint, tell."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.errors import DivergenceError, RecordingError, ResumeError, SimulationStopped
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.recorder import Arrays, Recorder
from sparse_mrnn.recording.store import ZarrStore, dataset, is_recording, need
from sparse_mrnn.simulate import checkpoint as checkpoints
from sparse_mrnn.simulate.drive import Drive, Placed
from sparse_mrnn.simulate.fingerprint import differences, digest, graph_config, network_facts, versions
from sparse_mrnn.simulate.interrupt import Interrupt
from sparse_mrnn.simulate.plan import Plan, check_size, plan, run_noise, statistics
from sparse_mrnn.simulate.progress import Progress
from sparse_mrnn.simulate.schedule import Schedule
from sparse_mrnn.simulate.simulator import Simulator
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray

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
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_every: float = 30.0,
    allow_large: bool = False,
    event_driven: bool = True,
    progress: bool = True,
    log: str | os.PathLike[str] | None = None,
) -> xarray.Dataset:
    """Simulate a network from its initial condition.

    With ``out``, memory does not grow with the duration, and the run survives a crash: call it again with ``resume``
    and the recording comes out as if nothing had happened, bit for bit on the same device and thread count.

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
        Of noise, random stimuli and fractions of units. The noise is that of the network after ``reset_noise(seed)``.
    out : path, optional
        Write a Zarr store here, while the run goes on.
    overwrite : bool
        Replace an existing recording.
    resume : bool
        Go on with the run in ``out``; where there is none, begin.
    checkpoint_every : float
        Seconds between two checkpoints.
    allow_large : bool
        Begin even if the recording, uncompressed, takes more than is free.
    event_driven : bool
        Skip silent units where that is faster (docs/decisions/0015); equal up to rounding.
    progress : bool
        Draw a bar, where standard error is a terminal.
    log : path, optional
        Append JSON lines: start, progress, checkpoint, done, ....

    Returns
    -------
    xarray.Dataset
        ``h`` and/or ``x`` (trial, time, unit), ``h_mean``, ... (trial, time, group), with coordinates time (ms), region,
        unit_id and group. With ``out`` it is lazy.

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
    the_plan = plan(net, duration, steps, batch, stimulus, interventions, record, seed, noise)
    if out is None and (resume or overwrite):
        raise RecordingError("resume and overwrite are about a recording on disk; give its path as out.")
    run = _Run(net, the_plan, None if out is None else Path(out), event_driven=event_driven)
    finished = run.begin(overwrite=overwrite, resume=resume, allow_large=allow_large)
    if finished is not None:
        return finished
    with Progress(the_plan.steps, net.dt, run.step, bar=progress, log=log) as told, Interrupt() as interrupt:
        return run.go(told, interrupt, checkpoint_every)


class _Run:
    """A run in progress: ``step`` steps are done."""

    def __init__(self, net: mRNNBase, the_plan: Plan, out: Path | None, *, event_driven: bool) -> None:
        self.net, self.plan, self.out, self.step = net, the_plan, out, 0
        self.schedule = Schedule(net, the_plan.acts, the_plan.steps, the_plan.seeds[1])
        noise = run_noise(net, the_plan.seed) if the_plan.noise else None
        self.simulator = Simulator(net, the_plan.batch, noise, events=event_driven)
        self.stepper = self.simulator.stepper
        seeds = the_plan.seeds[0].spawn(len(the_plan.stimuli))
        placed = [
            Placed(net, s, net.dt, the_plan.steps, the_plan.batch, own) for s, own in zip(the_plan.stimuli, seeds, strict=True)
        ]
        self.drive = Drive(placed, self.simulator.u, self.simulator.inputs.longest)
        self.store = None if out is None else ZarrStore(out, the_plan.axes, the_plan.chunk)
        self.kept: Arrays = {}
        self.recorder: Recorder | None = None
        self.saved = 0  # steps of the last checkpoint
        self.facts = {"options": the_plan.options(net), "network": network_facts(net), "versions": versions()}

    def _new_recorder(self) -> Recorder:
        axes, store = self.plan.axes, self.store
        length = axes.samples if store is None else self.plan.chunk
        whole = len(axes.units) == self.net.layout().n
        return Recorder(axes, length, statistics(self.net, axes), self._keep if store is None else store.put, whole=whole)

    def _keep(self, start: int, arrays: Arrays) -> None:
        self.kept = arrays

    # ---------------------------------------------------------------- beginning

    def begin(self, *, overwrite: bool, resume: bool, allow_large: bool) -> xarray.Dataset | None:
        """Make or reopen what is written to; the recording, if it is finished already."""
        store, out = self.store, self.out
        if not allow_large and not (resume and out is not None and out.exists()):
            check_size(self.plan.axes, out)
        if store is not None and out is not None:
            old = out.with_name(out.name + ".old")
            if not out.exists() and old.exists():  # killed between two renames of an overwrite
                old.rename(out)
            if out.exists() and not (resume or overwrite):
                raise RecordingError(f"{out} exists; choose another path, overwrite it (--overwrite) or resume it (--resume).")
            if out.exists() and not is_recording(out):
                raise RecordingError(f"{out} is not a recording; it is not {'resumed' if resume else 'overwritten'}. Choose another path.")
            if out.exists() and resume:
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
            "model": type(self.net).__name__,
            "network_seed": str(self.net.seed),
            "graph_hash": digest(json.dumps(self.facts["network"]).encode()),
            "config": graph_config(self.net),
            "options": json.dumps(self.facts["options"]),
            "versions": json.dumps(self.facts["versions"]),
        }

    def _resume(self, store: ZarrStore) -> xarray.Dataset | None:
        if not store.checkpoint.exists():
            found = open_recording(store.path)
            self._compare({"options": _parsed(found.attrs.get("options"))}, parts=("options",))
            return found
        arrays, facts = checkpoints.load(store.checkpoint)
        self._compare(facts["facts"], parts=("options", "network"))
        changed = differences(facts["facts"]["versions"], self.facts["versions"])
        if changed:
            warnings.warn(f"resuming {self.out} in another environment ({'; '.join(changed)}): last bits may differ.", stacklevel=4)
        self.step = self.saved = int(facts["step"])
        store.reopen()
        self.recorder = self._new_recorder()
        self.recorder.load(int(facts["taken"]), {n.removeprefix("part_"): a for n, a in arrays.items() if n.startswith("part_")})
        states = {n.removeprefix("state_"): torch.from_numpy(a) for n, a in arrays.items() if n.startswith("state_")}
        self._intervene(first=True)
        self.stepper.load(states, self.step)
        self.drive.load(arrays, facts["drive"])
        return None

    def _compare(self, old: dict[str, Any], parts: tuple[str, ...]) -> None:
        found = [d for part in parts for d in differences(old.get(part), self.facts[part])]
        if found:
            shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
            raise ResumeError(
                f"{self.out} cannot be resumed, for this is another run: {shown}. Restore that, or overwrite it (--overwrite)."
            )

    # ---------------------------------------------------------------- running

    def go(self, told: Progress, interrupt: Interrupt, checkpoint_every: float) -> xarray.Dataset:
        """Run to the end."""
        told.event("resume" if self.step else "start", self.step, steps=self.plan.steps, out=None if self.out is None else str(self.out))
        try:
            self._loop(told, interrupt, checkpoint_every)
        except DivergenceError as error:
            told.event("diverged", self.step, message=str(error))
            raise
        finally:
            if self.store is not None:
                self.store.close()
        return self._finish(told)

    def _loop(self, told: Progress, interrupt: Interrupt, checkpoint_every: float) -> None:
        stepper, drive, recorder, steps = self.stepper, self.drive, cast(Recorder, self.recorder), self.plan.steps
        every, variables = self.plan.axes.record.every, self.plan.axes.record.variables
        states = {"x": stepper.x, "h": stepper.h}
        views = {v: states[v].numpy() for v in variables} if stepper.x.device.type == "cpu" else None
        check_every = 1 if views is not None else CHECK_EVERY_ON_GPU
        edges = self.schedule.edges
        due = time.monotonic() + checkpoint_every
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
            told.update(self.step)
            if interrupt.requested and self.step < steps:
                self._stopped(told)
            if self.store is not None and time.monotonic() >= due and self.step < steps:
                if stepper.finite():
                    self._save(told)
                due = time.monotonic() + checkpoint_every

    def _intervene(self, *, first: bool = False) -> None:
        """Change what interventions hold: weights for the coming step, states for its end."""
        if first or self.step in self.schedule.edges:
            self.simulator.set_factors(self.schedule.factors(self.step))
            self.stepper.silent_inputs = self.schedule.silent_inputs(self.step)
        if first:
            self.stepper.hold(self.schedule.held(self.step))
        self.stepper.held = self.schedule.held(self.step + 1)

    def _state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        recorder = cast(Recorder, self.recorder)
        arrays: dict[str, NDArray[Any]] = {f"state_{name}": t.cpu().numpy() for name, t in self.stepper.state().items()}
        arrays |= {f"part_{name}": a for name, a in recorder.part().items()}
        memory, streams = self.drive.state()
        return {**arrays, **memory}, {"facts": self.facts, "step": self.step, "taken": recorder.taken, "drive": streams}

    def _save(self, told: Progress, *, readable: int | None = None) -> None:
        store, recorder = cast(ZarrStore, self.store), cast(Recorder, self.recorder)
        store.flush()
        try:
            checkpoints.save(store.checkpoint, *self._state())
        except OSError as error:
            raise RecordingError(
                f"cannot write a checkpoint of {self.out}: {error.strerror}. What is recorded until the last one, at "
                f"{self.saved * self.net.dt:g} ms, is whole; make room and resume the run."
            ) from error
        self.saved = self.step
        store.mark(recorded=recorder.taken - recorder.filled if readable is None else readable)
        told.event("checkpoint", self.step)

    # ---------------------------------------------------------------- ending

    def _finish(self, told: Progress) -> xarray.Dataset:
        if self.store is None:
            told.event("done", self.step)
            return self._in_memory(complete=True)
        self.store.flush()
        self.store.mark(complete=1, recorded=self.plan.axes.samples)
        self.store.checkpoint.unlink(missing_ok=True)
        told.event("done", self.step)
        return open_recording(self.store.path)

    def _in_memory(self, *, complete: bool) -> xarray.Dataset:
        recorder = cast(Recorder, self.recorder)
        arrays = self.kept if complete else recorder.part()
        return dataset(self.plan.axes, arrays, {**self._attrs(complete=complete), "recorded": recorder.taken})

    def _so_far(self, told: Progress | None) -> xarray.Dataset:
        """What is recorded, when the run stops; on disk with a checkpoint, if ``told``."""
        recorder = cast(Recorder, self.recorder)
        if self.store is None:
            return self._in_memory(complete=False)
        recorder.put_partial()
        if told is not None:
            self._save(told, readable=recorder.taken)
        else:
            self.store.flush()
            self.store.mark(recorded=recorder.taken)
        return open_recording(self.store.path)

    def _stopped(self, told: Progress) -> None:
        found = self._so_far(told)
        hint = "" if self.store is None else f"; resume it (--resume) to go on with {self.out}"
        told.event("stopped", self.step)
        raise SimulationStopped(self.step * self.net.dt, self.plan.steps * self.net.dt, found, hint)

    def _diverged(self) -> None:
        layout = self.net.layout()
        bad = np.flatnonzero(~np.isfinite(self.stepper.x.cpu().numpy()).all(axis=1))
        region = layout.regions[int(np.searchsorted(layout.ptr, bad[0], side="right")) - 1].name
        when = self.step * self.net.dt
        found = self._so_far(None)
        last = "" if self.store is None else f" The last good checkpoint of {self.out} is at {self.saved * self.net.dt:g} ms."
        raise DivergenceError(
            f"the network diverged: at {when:g} ms, {len(bad)} units are not finite, the first of them in region {region!r}.{last} "
            "Use a smaller dt or spectral radius, or weaker drive.",
            when,
            region,
            found,
        )


def _parsed(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else None
