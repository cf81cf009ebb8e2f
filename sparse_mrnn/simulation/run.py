"""simulate, and the loop behind it: step, record, make checkpoints, report progress."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import (
    ConfigError,
    DivergenceError,
    RecordingError,
    ResumeError,
    SavedFileError,
    ShapeError,
    SimulationStopped,
)
from sparse_mrnn.files.atomic import reason, restore_folder
from sparse_mrnn.files.tensors import RUN, read_tensors, write_tensors
from sparse_mrnn.lowering.random_streams import run_streams
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start
from sparse_mrnn.ops.idle_threads import share_cores
from sparse_mrnn.ops.spiking import SpikingStepper
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.events import EVENTS, SpikeRecorder
from sparse_mrnn.recording.lock import WriterLock
from sparse_mrnn.recording.reading import check_chunks, is_recording, need, read_metadata
from sparse_mrnn.recording.recorder import Arrays, Recorder
from sparse_mrnn.recording.store import ZarrStore, dataset, part_of_process
from sparse_mrnn.simulation.fingerprint import software_versions
from sparse_mrnn.simulation.intervention_schedule import InterventionSchedule
from sparse_mrnn.simulation.options import Mode, SimulationOptions
from sparse_mrnn.simulation.plan import SimulationPlan, check_size, check_states, plan_simulation, statistics
from sparse_mrnn.simulation.processes import Interrupt, OneProcess, Processes
from sparse_mrnn.simulation.progress import Progress
from sparse_mrnn.simulation.simulator import RunningNetwork, Simulator
from sparse_mrnn.simulation.stimulus_drive import StimulusDrive, place
from sparse_mrnn.state.differences import differences, first_of
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray

Saved = tuple[dict[str, Any], dict[str, Tensor]]
"""A checkpoint: a description, as JSON, and tensors."""


def simulate(
    net: mRNNBase,
    duration: float | None = None,
    *,
    steps: int | None = None,
    batch: int = 1,
    x0: Start = None,
    stimulus: Sequence[Stimulus] | Stimulus | None = None,
    interventions: Sequence[Intervention] | Intervention | None = None,
    record: Record | None = None,
    noise: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    mode: Mode = "create",
    checkpoint_seconds: float = 30.0,
    allow_large: bool = False,
    event_driven: bool = True,
    progress: bool = True,
    log: str | os.PathLike[str] | None = None,
    return_state: bool = False,
) -> Any:
    """Simulate a network from its initial condition, or from the state that another run has ended in.

    With ``out``, memory does not grow with the duration, and the run survives a crash: call it again with
    ``mode="resume"`` and the recording comes out as if nothing had happened, bit for bit on the same device
    and thread count.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    duration : float
        Length of the run, ms; rounded to time steps (``net.dt``) with a warning.
    steps : int
        Length of the run in time steps, in place of a duration.
    batch : int
        Number of trials, which differ by their noise and random stimuli. Default: those of ``x0``.
    x0 : NetworkState, or as ``forward`` takes it, optional
        Start from here; times count from this start. Default: the initial condition.
    stimulus : Stimulus, or sequence of them
        Currents and inputs; they add.
    interventions : Lesion, Clamp, Gain, or sequence of them
        Changes of the network in a time window.
    record : Record, optional
        Default: h of every unit, every step; of a spiking network, its spikes.
    noise : bool
        Add the network's noise.
    seed : int
        Seed of noise, random stimuli and fractions of units. Each trial has noise of its own, whatever their
        number: the first has that of ``forward`` on one trial after ``reset_noise(seed)``. A run that goes
        on from another one needs another seed to have other noise.
    out : path, optional
        Write a Zarr store here, while the run goes on. Default: keep the recording in memory.
    mode : {"create", "overwrite", "resume"}
        Refuse, replace, or go on with a recording that is in ``out`` already; each begins if ``out`` is free.
    checkpoint_seconds : float
        Seconds between two checkpoints.
    allow_large : bool
        Begin even if the recording, uncompressed, or the states take more memory than is free.
    event_driven : bool
        Skip silent units if that is faster (docs/decisions/0015); results are equal up to rounding. Spikes
        are then delivered one by one, in bands of time steps (docs/decisions/0035).
    progress : bool
        Draw a bar, if standard error is a terminal.
    log : path, optional
        Append JSON lines to this file, outside of ``out``: start, progress, checkpoint, done, ....
    return_state : bool
        Return the state at the end, too: given as ``x0``, another run goes on exactly.

    Returns
    -------
    xarray.Dataset
        ``h`` and/or ``x`` (trial, time, unit), ``h_mean``, ... (trial, time, group), with coordinates time
        (ms), region, unit_id and group; ``spike_time`` (ms), ``spike_unit`` (its place along unit) and
        ``spike_trial`` for spikes. With ``out`` it is lazy, and its attributes have digests of the
        network beside what ran.
    state : NetworkState
        With ``return_state``.

    Raises
    ------
    StimulusError, InterventionError, UnknownNameError
        If the duration, a stimulus, or an intervention does not fit.
    RecordingError
        If ``out`` exists, cannot be written, or would not fit, or the log cannot be written.
    ResumeError
        If the run in ``out`` is of another network or had other options; the message says which.
    SimulationStopped
        On Ctrl-C or a termination request; the run can be resumed.
    DivergenceError
        If a state becomes NaN or infinite.
    MissingExtraError
        Without xarray (and zarr, for ``out``): the extra ``io``.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> recording = simulate(mRNN(g, device="cpu"), 50, stimulus=Stimulus("a", 1.0))
    >>> recording.h.shape, recording.time.values.tolist()
    ((1, 5, 3), [10.0, 20.0, 30.0, 40.0, 50.0])
    >>> recording, state = simulate(mRNN(g, device="cpu"), 50, stimulus=Stimulus("a", 1.0), return_state=True)
    >>> later = simulate(mRNN(g, device="cpu"), 50, x0=state)
    """
    given = {name: value for name, value in locals().items() if name != "net"}
    if not isinstance(net, mRNNBase):
        raise ConfigError(f"net is of type {type(net).__name__}; give a network, such as mRNN(graph).")
    if record is None and net.equation.spiking:
        given["record"] = Record(what=["spikes"])
    return run_in_one_process(net, SimulationOptions(**given))


def run_in_one_process(net: mRNNBase, options: SimulationOptions) -> Any:
    """Run a simulation in this process alone; see `simulate`."""
    if options.x0 is not None:
        options = _with_start(net, options)

    def start(plan: SimulationPlan) -> Simulator:
        if not options.allow_large:
            check_states(net, options.batch)
        given = net, options.batch, options.noise_seed
        return Simulator(*given, event_driven=options.event_driven, start=options.x0)

    return run_simulation(net, options, OneProcess(), start)


@torch.no_grad()
def _with_start(net: mRNNBase, options: SimulationOptions) -> SimulationOptions:
    """Make the state that a run starts from of what was given; the trials are as many as it has."""
    x0, batch = options.x0, options.batch
    first = x0[0] if isinstance(x0, tuple) and x0 else x0
    if isinstance(x0, NetworkState):
        trials = x0.batch
    else:
        trials = len(first) if isinstance(first, Tensor) and first.dim() else batch
    if batch not in (1, trials):
        raise ShapeError(f"simulate: batch is {batch}, and x0 has {trials} trials; leave batch out.")
    begun = net.border("simulate").start(x0, None, trials, net.initial_tensors)
    return replace(options, x0=begun.detach(), batch=trials)


def run_simulation(
    net: mRNNBase, options: SimulationOptions, processes: Processes,
    start: Callable[[SimulationPlan], RunningNetwork],
) -> Any:
    """Run a simulation to its end, on all processes together.

    ``start`` makes the running network, once the run is planned and its recording fits. The first process
    returns the recording, and the state at the end if that is asked for.
    """
    need("xarray", "recordings")
    plan = plan_simulation(net, options)
    processes.broadcast(lambda: check_size(plan))
    run, first = Run(net, plan, processes, start(plan)), processes.rank == 0
    with ExitStack() as stack:
        stack.callback(run.running.release)
        interrupt = stack.enter_context(Interrupt())

        def lock() -> None:
            if run.out is not None and not _has_ended(options):
                stack.enter_context(WriterLock(run.out))

        processes.broadcast(lock)
        log = options.log if first else None
        reporter = stack.enter_context(Progress(plan.steps, net.dt, bar=options.progress and first, log=log))
        if run.begin(reporter):
            if options.return_state:
                what = f"{run.out} has ended, and a recording does not keep the state at its end"
                raise RecordingError(f"{what}; ask for it in the run itself, and save state.tensors().")
            return open_recording(cast(Path, run.out)) if first else None
        found = run.go(reporter, interrupt)
        return (found, run.running.network_state()) if options.return_state else found


def _has_ended(options: SimulationOptions) -> bool:
    """Return True if there is nothing to write: the run is to be resumed and has ended."""
    if options.mode != "resume" or options.out is None or not is_recording(options.out):
        return False
    return bool(read_metadata(options.out).attributes["complete"])


class Run:
    """A run in progress: ``step`` steps are done. Every process has one; the first saves and reports.

    In memory, the first process records. On disk, each process writes the chunks of some of the units, if
    all of them reach the store; else the first one writes all.
    """

    def __init__(
        self, net: mRNNBase, plan: SimulationPlan, processes: Processes, running: RunningNetwork
    ) -> None:
        self.net, self.plan, self.processes, self.running = net, plan, processes, running
        self.step = self.saved = 0  # saved: step of the last checkpoint
        self.stepper = running.stepper
        options, out = plan.options, plan.options.out
        of_stimuli, of_interventions = run_streams(options.seed)
        self.schedule = InterventionSchedule(net, options.interventions, plan.steps, of_interventions)
        stimuli = (*options.stimulus, *net.background)
        placed = place(net, stimuli, plan.steps, options.batch, of_stimuli)
        counted = isinstance(self.stepper, SpikingStepper)
        self.drive = StimulusDrive(placed, running.u, self.stepper.inputs.longest, counted=counted)
        if isinstance(self.stepper, SpikingStepper):
            self.stepper.set_drives(self.drive.poisson)
        if options.x0 is not None and options.x0.past_inputs:
            self.drive.last_input = -1
        self.out, self.kept = out, Arrays()
        self.store: ZarrStore | None = None
        self.recorder: Recorder | None = None
        self.spikes: SpikeRecorder | None = None
        self.counts: NDArray[np.int64] | None = None  # spikes since the last sample, (trials, units)
        if "rate" in plan.axes.record.variables and plan.axes.variables:
            self.counts = np.zeros((options.batch, net.layout().n), np.int64)
        if out is not None:
            self.store = ZarrStore(out, plan.axes, plan.chunk, processes=processes.size)
        self._length = plan.chunk if out is not None else max(1, plan.axes.samples)  # samples kept at a time
        self._parts: list[slice] = []  # of the recorded units, by process
        self._read: dict[str, Tensor] | None = None  # of the checkpoint that rank 0 resumes from
        self._not_finite: tuple[int, int, int] | None = None  # first time a state was not: step, units, unit

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Description that must match before the run is resumed, and versions.

        It reads every synapse, so only runs that are written ask for it.
        """
        known = {"options": self.plan.spec, "fingerprint": self.running.fingerprint()}
        return {**known, "versions": software_versions()}

    # ---------------------------------------------------------------- beginning

    def begin(self, reporter: Progress) -> bool:
        """Make or reopen the recording; return True if the run has ended already."""
        state = None if self.out is None else self._state()
        found = self.processes.broadcast(lambda: self._open(state, reporter))
        if found["ended"]:
            return True
        self._divide(found["store"])
        if "step" in found:
            if found["changed"] and self.processes.rank == 0:
                text = f"resuming {self.out} in another environment ({found['changed']})"
                warnings.warn(f"{text}: last bits may differ.", stacklevel=4)
            tensors = self.processes.broadcast_tensors(self._read)
            self._read = None
            self.step = self.saved = found["step"]
            if self.recorder is not None:
                kept, own = self.recorder.axes.variables, self._parts[self.processes.rank]
                part = {n: t.numpy() for n, t in _with_prefix(tensors, "part_").items() if n in kept}
                part = {n: p[:, :, own] if kept[n][2] == "unit" else p for n, p in part.items()}
                self.recorder.load(found["recorded"], part)
            if self.spikes is not None:
                part = {n: t.numpy() for n, t in _with_prefix(tensors, "part_").items() if n in EVENTS}
                self.spikes.load(found["spikes"], part)
            if self.counts is not None:
                self.counts[:] = tensors["counts"].numpy()
            self._intervene(first=True)
            self.running.load(_with_prefix(tensors, "state_"), self.step)
            self.drive.load({name: tensor.numpy() for name, tensor in tensors.items()}, found["stimuli"])
        else:
            self._intervene(first=True)
        return False

    def _divide(self, digest: str | None) -> None:
        """Let each process record some of the units, if all find the store; else the first records all."""
        processes, axes, rank = self.processes, self.plan.axes, self.processes.rank
        units, divided = len(axes.units), False
        if self.store is not None and "units" in axes.record.what:
            divided = all(processes.gather(rank == 0 or self._finds(digest)))
        parts = processes.size if divided and self.store is not None else 1
        width = units if self.store is None else self.store.width
        self._parts = [part_of_process(units, max(width, 1), k, parts) for k in range(parts)]
        self._parts += [slice(units, units)] * (processes.size - parts)
        own = self._parts[rank]
        found = statistics(self.net, axes)
        rows = self.running.record([axes.units[each] for each in self._parts], every=found is not None)
        if self.store is not None:
            self.store.own = own
        if rank == 0 or own.start < own.stop:
            kept = self.kept  # not self, whose memory is then free as soon as the run is over
            write = self.store.append if self.store is not None else lambda _, all_: kept.update(all_)
            of_groups, part = found if rank == 0 else None, axes.part(own, groups=rank == 0)
            self.recorder = Recorder(part, self._length, of_groups, write, rows=rows)
        if rank == 0 and "spikes" in axes.record.what:
            place = np.full(self.net.layout().n, -1, np.int64)
            place[axes.units] = np.arange(units)
            self.spikes = SpikeRecorder(place, self.net.dt, None if self.store is None else self.store.append)

    def _finds(self, digest: str | None) -> bool:
        """Return True if this process can open the store that the first one has opened."""
        store = cast(ZarrStore, self.store)
        try:
            metadata = read_metadata(store.path)
            if found := metadata.digest == digest:
                store.open(metadata)
        except (RecordingError, OSError):
            return False
        return found

    def _open(self, state: Saved | None, reporter: Progress) -> dict[str, Any]:
        """On the first process, find or make the store; say where to go on, if there is a checkpoint."""
        store, out, mode = self.store, self.out, self.plan.options.mode
        if store is None or out is None or state is None:
            reporter.open_log()
            return {"ended": False, "store": None}
        restore_folder(out)
        if out.exists() and mode == "create":
            raise RecordingError(
                f"{out} exists; choose another path, overwrite it (mode='overwrite', --overwrite) or "
                "resume it (mode='resume', --resume)."
            )
        if out.exists() and not is_recording(out):
            done = "resumed" if mode == "resume" else "overwritten"
            raise RecordingError(f"{out} is not a recording; it is not {done}. Choose another path.")
        if out.exists() and mode == "resume":
            found = self._resume(store)
            if not found["ended"]:
                reporter.open_log()
            return found
        reporter.open_log()
        store.create(self._attributes(), lambda path: write_tensors(path, RUN, *state))
        return {"ended": False, "store": store.metadata.digest}

    def _resume(self, store: ZarrStore) -> dict[str, Any]:
        """Read the checkpoint, after checking that everything recorded is whole."""
        metadata = read_metadata(store.path)
        attributes = metadata.attributes
        if ("ranks" in attributes) != self.running.divided:
            there = "under torchrun" if "ranks" in attributes else "without torchrun"
            more = ", where any number of processes will do" if "ranks" in attributes else ""
            raise ResumeError(f"{self.out} was begun {there}: resume it {there}{more}.")
        self._compare({part: json.loads(attributes[part]) for part in ("options", "fingerprint")})
        if attributes["complete"]:
            check_chunks(metadata)
            store.checkpoint.unlink(missing_ok=True)  # of a run killed at its very end
            return {"ended": True}
        try:
            saved, tensors = read_tensors(store.checkpoint, RUN)
        except SavedFileError as error:
            advice = "Restore it, or start the run anew with mode='overwrite' (--overwrite)."
            raise ResumeError(f"cannot read the checkpoint: {error} {advice}") from error
        self._compare(saved["identity"])
        check_chunks(metadata)
        recorded = int(saved["recorded"])
        spikes = int(saved["spikes"])
        store.reopen(metadata, recorded - recorded % self._length, spikes)
        self._read = dict(tensors)
        changed = "; ".join(differences(saved["identity"]["versions"], self.identity["versions"]))
        where = {"step": int(saved["step"]), "recorded": recorded, "spikes": spikes}
        where["stimuli"] = saved["stimuli"]
        return {"ended": False, "store": store.metadata.digest, "changed": changed, **where}

    def _compare(self, old: dict[str, Any]) -> None:
        """Refuse to resume another run."""
        advice = "overwrite it (mode='overwrite', --overwrite)"
        for k, spec in enumerate(self.identity["options"]["stimulus"]):
            if spec.get("id", "") is None:
                raise ResumeError(
                    f"{self.out} cannot be resumed: stimulus[{k}] is a function or class of your own without "
                    "an id, so nothing tells if it is still the same. Give it one, Function(f, id='...'), "
                    f"and {advice}."
                )
        parts = ("options", "fingerprint")
        found = [d for part in parts for d in differences(old[part], self.identity[part])]
        if found:
            text = f"{self.out} cannot be resumed, for this is another run: {first_of(found)}"
            raise ResumeError(f"{text}. Restore that, or {advice}.")

    def _attributes(self, *, complete: bool = False) -> dict[str, Any]:
        """Attributes of the recording: settings and options; on disk also what the run depends on."""
        net, spec = self.net, self.plan.spec
        running = self.running.settings() if self.out is None else self.running.attributes()
        identity = {"options": spec, "versions": software_versions()} if self.out is None else self.identity
        found: dict[str, Any] = {"complete": int(complete), "recorded": 0, "dt": net.dt}
        found |= {"seed": self.plan.options.seed, **running, "model": type(net).__name__}
        found |= {"network_seed": str(net.seed), "noise": int(self.plan.options.noise)}
        found |= {part: json.dumps(spec[part]) for part in ("stimulus", "interventions")}
        return {**found, **{part: json.dumps(value) for part, value in identity.items()}}

    # ---------------------------------------------------------------- running

    def go(self, reporter: Progress, interrupt: Interrupt) -> xarray.Dataset | None:
        """Run to the end; return the recording, on the first process."""
        out = None if self.out is None else str(self.out)
        reporter.begin(self.step)
        reporter.event("resume" if self.step else "start", self.step, steps=self.plan.steps, out=out)
        interrupt.running = True
        try:
            self._loop(reporter, interrupt)
        except DivergenceError as error:
            reporter.event("diverged", self.step, message=str(error))
            raise
        finally:
            if self.store is not None:
                self.store.close()
        return self._finish(reporter)

    def _loop(self, reporter: Progress, interrupt: Interrupt) -> None:
        running, stepper, drive, steps = self.running, self.stepper, self.drive, self.plan.steps
        record, samples, edges = self.plan.axes.record, self.plan.axes.samples, self.schedule.edges
        checkpoint_seconds = self.plan.options.checkpoint_seconds
        on_cpu = stepper.x.device.type == "cpu"
        due = time.monotonic() + checkpoint_seconds
        while self.step < steps:
            if self.step in edges or self.step + 1 in edges:
                self._intervene()
            currents, inputs = drive.fill(self.step)
            band = self._band(inputs=inputs)
            stepper.advance(band, running.own_currents(currents), inputs=inputs)
            self.step += band
            sample, between = divmod(self.step, record.every)
            taking = between == 0 and sample <= samples
            agree = self.step % running.check_every == 0 or self.step == steps
            agree |= taking and sample % self._length == 0  # what a chunk holds is finite
            if (on_cpu or agree) and self._not_finite is None and not stepper.finite():
                self._not_finite = self._find_not_finite()
            reporter.update(self.step)
            share_cores()
            stop = save = False
            if agree:
                save = self.store is not None and time.monotonic() >= due
                failed = self.store is not None and self.store.failed
                flags = failed, self._not_finite is not None, interrupt.requested, save
                failed, diverged, stop, save = self.processes.any_rank(flags)
                if failed:
                    self.processes.run_on_all(self._flush)
                if diverged:
                    self._diverged()
            if self.spikes is not None or self.counts is not None:
                self._count(stepper.spikes_of(self.step - 1))
            if taking:
                states = running.states(record.variables)
                if states is not None and self.counts is not None:
                    states = {**states, "rate": self._rates()}
                if self.recorder is not None and states is not None:
                    self.recorder.append(states)
            if stop and self.step < steps:
                self._stopped(reporter)
            if save and self.step < steps:
                self._save(reporter)
                due = time.monotonic() + checkpoint_seconds

    def _count(self, spikes: NDArray[np.int64]) -> None:
        """Record spikes, and count them for the rates."""
        if self.spikes is not None:
            self.spikes.append(spikes)
        if self.counts is not None:
            np.add.at(self.counts, (spikes[:, 1], spikes[:, 2]), 1)

    def _rates(self) -> NDArray[np.floating]:
        """Return the spikes a second since the last sample, (units, trials), and count anew."""
        counts = cast("NDArray[np.int64]", self.counts)
        found = counts.T / (self.plan.axes.interval / 1000)
        counts[:] = 0
        return found.astype(self.plan.axes.dtype)

    def _band(self, *, inputs: bool) -> int:
        """Count the steps up to which nothing changes, is recorded, or is to be agreed on."""
        longest = self.stepper.band(inputs=inputs)
        if longest == 1:
            return 1
        step, every = self.step, self.plan.axes.record.every
        ends = [step + longest, self.plan.steps, self.drive.same_until(step)]
        ends += [edge for each in self.schedule.edges for edge in (each - 1, each) if edge > step]
        if self.plan.axes.variables:
            ends.append(step + every - step % every)
        return min(ends) - step

    def _intervene(self, *, first: bool = False) -> None:
        """Apply the interventions: gains for the coming step, held states for its end."""
        running, schedule, step = self.running, self.schedule, self.step
        if first or step in schedule.edges:
            running.set_factors(schedule.factors(step))
            self.stepper.silent_inputs = schedule.silent_inputs(step)
        if first:
            self.stepper.hold(running.own_held(schedule.held(step)))
        self.stepper.held = running.own_held(schedule.held(step + 1))

    def _state(self) -> Saved:
        """Return the content of a checkpoint, whole on the first process; all processes must call it."""
        tensors = {f"state_{name}": tensor for name, tensor in self.running.state().items()}
        memory, streams = self.drive.state()
        tensors |= {name: torch.from_numpy(array) for name, array in memory.items()}
        recorded = 0 if self.recorder is None else self.recorder.recorded
        saved = {"identity": self.identity, "step": self.step, "recorded": recorded, "stimuli": streams}
        saved["spikes"] = 0 if self.spikes is None else self.spikes.recorded
        if self.spikes is not None:
            tensors |= {f"part_{name}": torch.from_numpy(a) for name, a in self.spikes.part().items()}
        if self.counts is not None:
            tensors["counts"] = torch.from_numpy(self.counts)
        return saved, {**tensors, **self._part()}

    def _part(self) -> dict[str, Tensor]:
        """Return the samples of the begun chunk; on the first process, of all units."""
        found: dict[str, Tensor] = {}
        own = {} if self.recorder is None else self.recorder.part()
        sizes = [each.stop - each.start for each in self._parts]
        for name, (_, _, dimension) in self.plan.axes.variables.items() if self._parts else ():
            part = own.get(name)
            if dimension == "unit" and max(sizes) < sum(sizes):
                filled = (self.step // self.plan.axes.record.every) % self._length
                none = np.empty((self.plan.options.batch, filled, 0), dtype=self.plan.axes.dtype)
                rows = torch.from_numpy(none if part is None else part.copy()).movedim(2, 0).contiguous()
                where = rows.to(self.processes.device)
                found[f"part_{name}"] = self.processes.gather_rows(where, sizes, to=0).cpu().movedim(0, 2)
            elif part is not None:
                found[f"part_{name}"] = torch.from_numpy(part)
        return found

    def _save(self, reporter: Progress, *, partial: bool = False) -> None:
        """Make a checkpoint; with ``partial``, the samples of the begun chunk can be read, too."""
        self._write(self._state(), partial=partial)
        self.saved = self.step
        reporter.event("checkpoint", self.step)

    def _write(self, state: Saved | None, *, partial: bool) -> None:
        """Put the recording on disk, and on the first process a checkpoint, if a state is given."""
        self.processes.run_on_all(lambda: self._flush(partial=partial))
        self.processes.broadcast(lambda: self._mark(state, partial=partial))

    def _flush(self, *, partial: bool = False) -> None:
        if self.recorder is not None and self.store is not None:
            if partial:
                self.recorder.flush()
                if self.spikes is not None:
                    self.spikes.flush()
            self.store.flush()

    def _mark(self, state: Saved | None, *, partial: bool) -> None:
        """On the first process, count as recorded what all processes have put on disk."""
        store, recorder = cast(ZarrStore, self.store), cast(Recorder, self.recorder)
        if state is not None:
            try:
                write_tensors(store.checkpoint, RUN, *state)
            except SavedFileError as error:
                what = f"cannot write a checkpoint of {self.out}: {reason(error.__cause__ or error)}"
                last = f"What is recorded until the last one, at {self.saved * self.net.dt:g} ms, is whole"
                raise RecordingError(f"{what}. {last}; make room and resume the run.") from error
        store.mark(recorded=recorder.recorded - (0 if partial else recorder.filled), **self._spikes(partial))

    def _spikes(self, partial: bool) -> dict[str, int]:
        """Return the number of spikes that are on disk, with those of the begun chunk or without."""
        spikes = self.spikes
        return {} if spikes is None else {"spikes": spikes.recorded - (0 if partial else spikes.filled)}

    # ---------------------------------------------------------------- ending

    def _finish(self, reporter: Progress) -> xarray.Dataset | None:
        store, first = self.store, self.processes.rank == 0
        if store is not None:
            if self.spikes is not None:
                self.spikes.flush()
            self.processes.run_on_all(self._flush)
        if store is not None and first:
            store.mark(complete=1, recorded=self.plan.axes.samples, **self._spikes(True))
            store.checkpoint.unlink(missing_ok=True)
        reporter.event("done", self.step)
        return self._so_far(complete=True)

    def _so_far(self, *, complete: bool = False) -> xarray.Dataset | None:
        """Return the recording when the run stops or ends, on the first process."""
        if self.processes.rank > 0 or self.recorder is None:
            return None
        if self.store is not None:
            return open_recording(self.store.path)
        arrays = self.kept if complete else self.recorder.part()
        attributes = {**self._attributes(complete=complete), "recorded": self.recorder.recorded}
        events = None if self.spikes is None else self.spikes.part()
        return dataset(self.plan.axes, arrays, attributes, events)

    def _stopped(self, reporter: Progress) -> None:
        if self.out is not None:
            self._save(reporter, partial=True)
        reporter.event("stopped", self.step)
        hint = "" if self.out is None else f"; resume it (--resume) to go on with {self.out}"
        raise SimulationStopped(self.step * self.net.dt, self.plan.steps * self.net.dt, self._so_far(), hint)

    def _find_not_finite(self) -> tuple[int, int, int]:
        """Return the step, the number of this process's units whose state is not finite, and the first."""
        bad = np.flatnonzero(~np.isfinite(self.stepper.x.cpu().numpy()).all(axis=1))
        units = bad if self.running.units is None else self.running.units[bad]
        return self.step, len(units), int(units[0])

    def _diverged(self) -> None:
        found = [each for each in self.processes.gather(self._not_finite) if each is not None]
        step = min(found)[0]
        then = [(units, unit) for at, units, unit in found if at == step]
        count, first = sum(units for units, _ in then), min(unit for _, unit in then)
        region, when = self.net.layout().region_of(first)[0].name, step * self.net.dt
        if self.recorder is not None:
            self.recorder.truncate((step - 1) // self.plan.axes.record.every)
        if self.store is not None:
            self._write(None, partial=True)
        saved = f"{self.saved * self.net.dt:g} ms"
        last = "" if self.out is None else f" The last good checkpoint of {self.out} is at {saved}."
        text = (
            f"the network diverged: at {when:g} ms, {count} units are not finite, the first of them "
            f"in region {region!r}.{last} Use a smaller dt or spectral radius, or weaker drive."
        )
        raise DivergenceError(text, when, region, self._so_far())


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
