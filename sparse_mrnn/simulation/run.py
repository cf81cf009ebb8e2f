"""simulate: step, record, make checkpoints, report progress."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.checks import path_of, real_number
from sparse_mrnn.errors import (
    ConfigError,
    DivergenceError,
    RecordingError,
    ResumeError,
    SimulationStopped,
    suggest,
)
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.lock import WriterLock
from sparse_mrnn.recording.reading import check_chunks, is_recording, need, read_metadata
from sparse_mrnn.recording.recorder import Arrays, Recorder
from sparse_mrnn.recording.store import ZarrStore, dataset, share
from sparse_mrnn.simulation import checkpoint as checkpoints
from sparse_mrnn.simulation.fingerprint import software_versions
from sparse_mrnn.simulation.interrupt import Interrupt
from sparse_mrnn.simulation.intervention_schedule import InterventionSchedule
from sparse_mrnn.simulation.plan import SimulationPlan, check_size, check_states, plan_simulation, statistics
from sparse_mrnn.simulation.processes import OneProcess, Processes
from sparse_mrnn.simulation.progress import Progress
from sparse_mrnn.simulation.simulator import RunningNetwork, Simulator
from sparse_mrnn.simulation.stimulus_drive import PlacedStimulus, StimulusDrive
from sparse_mrnn.state.differences import differences, first_of
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray

Mode = Literal["create", "overwrite", "resume"]
MODES = ("create", "overwrite", "resume")
Saved = tuple[dict[str, Any], dict[str, Tensor]]
"""A checkpoint: a description, as JSON, and tensors."""


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
    output = Output.checked(
        out=out,
        mode=mode,
        checkpoint_seconds=checkpoint_seconds,
        allow_large=allow_large,
        progress=progress,
        log=log,
    )
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
    output.check_size(plan, OneProcess())
    if not allow_large:
        check_states(net, plan.batch)
    simulator = Simulator(net, plan.batch, plan.noise_seed, event_driven=event_driven)
    return cast("xarray.Dataset", run_simulation(net, plan, output, OneProcess(), simulator))


@dataclass(frozen=True)
class Output:
    """What `simulate` is told of where a run writes, and how; checked.

    Parameters
    ----------
    path, log : Path, optional
    mode : {"create", "overwrite", "resume"}
    checkpoint_seconds : float
    allow_large, progress : bool
    """

    path: Path | None
    mode: Mode
    checkpoint_seconds: float
    allow_large: bool
    progress: bool
    log: Path | None

    @staticmethod
    def checked(
        *,
        out: str | os.PathLike[str] | None,
        mode: Mode,
        checkpoint_seconds: float,
        allow_large: bool,
        progress: bool,
        log: str | os.PathLike[str] | None,
    ) -> Output:
        """These arguments of `simulate`.

        Raises
        ------
        RecordingError
            Naming the one that is not possible.
        """
        if mode not in MODES:
            hint = suggest(mode, MODES)
            raise RecordingError(f"mode is {mode!r}; use 'create', 'overwrite' or 'resume'. {hint}")
        if out is None and mode != "create":
            raise RecordingError(f"mode={mode!r} is about a recording on disk; give its path as out.")
        seconds = real_number(checkpoint_seconds, "checkpoint_seconds", RecordingError)
        if seconds < 0:
            raise RecordingError(f"checkpoint_seconds is {checkpoint_seconds}; it must not be negative.")
        path = None if out is None else path_of(out, "out", RecordingError)
        if path is not None and not path.name:
            raise RecordingError(f"{path} cannot be a recording; give the path of a folder to make.")
        return Output(
            path=path,
            mode=mode,
            checkpoint_seconds=seconds,
            allow_large=allow_large,
            progress=progress,
            log=None if log is None else path_of(log, "log", RecordingError),
        )

    def check_size(self, plan: SimulationPlan, processes: Processes) -> None:
        """Refuse a recording that would not fit.

        Raises
        ------
        RecordingError
            As `check_size`.
        """
        if self.path is None or self.mode != "resume" or not self.path.exists():
            processes.first(lambda: check_size(plan.axes, self.path, allow_large=self.allow_large))

    def has_ended(self) -> bool:
        """Whether there is nothing to write: the run is to be resumed and has ended."""
        resumed = self.mode == "resume" and self.path is not None and is_recording(self.path)
        return resumed and bool(read_metadata(cast(Path, self.path)).attributes["complete"])


def run_simulation(
    net: mRNNBase, plan: SimulationPlan, output: Output, processes: Processes, running: RunningNetwork
) -> xarray.Dataset | None:
    """Run a plan to its end, on all processes together; the recording, on the first.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Regions, dt and settings of the network; its weights are those of ``running``.
    plan : SimulationPlan
    output : Output
    processes : Processes
    running : RunningNetwork
    """
    run, first = Run(net, plan, output.path, processes, running), processes.rank == 0
    with ExitStack() as stack:

        def lock() -> None:
            if output.path is not None and not output.has_ended():
                stack.enter_context(WriterLock(output.path))

        processes.first(lock)
        if run.begin(output.mode):
            return open_recording(cast(Path, output.path)) if first else None
        log = output.log if first else None
        reporter = Progress(plan.steps, net.dt, run.step, bar=output.progress and first, log=log)
        stack.enter_context(reporter)
        return run.go(reporter, stack.enter_context(Interrupt()), output.checkpoint_seconds)


class Run:
    """A run in progress: ``step`` steps are done. Every process has one; the first saves and reports.

    In memory, the first process records. On disk, each process writes the chunks of some of the units, where
    all of them reach the store; else the first one writes all.

    Parameters
    ----------
    net, plan, processes, running
        As for `run_simulation`.
    out : Path, optional
    """

    def __init__(
        self,
        net: mRNNBase,
        plan: SimulationPlan,
        out: Path | None,
        processes: Processes,
        running: RunningNetwork,
    ) -> None:
        self.net, self.plan, self.out, self.processes, self.running = net, plan, out, processes, running
        self.step = self.saved = 0  # saved: step of the last checkpoint
        self.stepper = running.stepper
        of_stimuli, of_interventions = plan.streams
        self.schedule = InterventionSchedule(net, plan.acts, plan.steps, of_interventions)
        placed = [
            PlacedStimulus(net, stimulus, steps=plan.steps, batch=plan.batch, seeds=seeds)
            for stimulus, seeds in zip(plan.stimuli, of_stimuli.spawn(len(plan.stimuli)), strict=True)
        ]
        self.drive = StimulusDrive(placed, running.u, self.stepper.inputs.longest)
        self.identity = {
            "options": plan.options(net),
            "fingerprint": running.fingerprint(),
            "versions": software_versions(),
        }
        self.kept: Arrays = {}
        self.store: ZarrStore | None = None
        self.recorder: Recorder | None = None
        if out is not None:
            self.store = ZarrStore(out, plan.axes, plan.chunk, processes=processes.size)
        self._length = plan.axes.samples if out is None else plan.chunk  # samples that are kept at a time
        self._shares: list[slice] = []  # of the recorded units, by process
        self._read: dict[str, Tensor] | None = None  # of the checkpoint that rank 0 resumes from
        self._not_finite: tuple[int, int, int] | None = None  # when a state was not: step, units, the first

    def _keep(self, start: int, arrays: Arrays) -> None:
        self.kept = arrays

    # ---------------------------------------------------------------- beginning

    def begin(self, mode: Mode) -> bool:
        """Make or reopen what is written to; whether the run has ended already."""
        state = None if self.out is None else self._state()
        found = self.processes.first(lambda: self._open(mode, state))
        if found["ended"]:
            return True
        self._divide(found["store"])
        if "step" in found:
            if found["changed"] and self.processes.rank == 0:
                text = f"resuming {self.out} in another environment ({found['changed']})"
                warnings.warn(f"{text}: last bits may differ.", stacklevel=4)
            tensors = self.processes.share(self._read)
            self._read = None
            self.step = self.saved = found["step"]
            self._load_part(found["taken"], _with_prefix(tensors, "part_"))
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
        self._shares = [share(units, max(width, 1), k, parts) for k in range(parts)]
        self._shares += [slice(units, units)] * (processes.size - parts)
        own = self._shares[rank]
        found = statistics(self.net, axes)
        rows = self.running.record([axes.units[each] for each in self._shares], every=found is not None)
        if self.store is not None:
            self.store.own = own
        if rank == 0 or own.start < own.stop:
            put = self._keep if self.store is None else self.store.put
            of_groups = found if rank == 0 else None
            part = axes.part(own, groups=rank == 0)
            self.recorder = Recorder(part, self._length, of_groups, put, rows=rows)

    def _finds(self, digest: str | None) -> bool:
        """Whether this process can open the store that the first one has opened."""
        store = cast(ZarrStore, self.store)
        try:
            metadata = read_metadata(store.path)
            if metadata.digest != digest:
                return False
            store.open(metadata)
        except (RecordingError, OSError):
            return False
        return True

    def _load_part(self, taken: int, whole: dict[str, Tensor]) -> None:
        """Go on recording after so many samples, from those of the chunk begun, of all units."""
        if self.recorder is not None:
            own = self._shares[self.processes.rank]
            variables = self.plan.axes.variables
            self.recorder.load(
                taken,
                {
                    name: (values[:, :, own] if variables[name][2] == "unit" else values).numpy()
                    for name, values in whole.items()
                    if name in self.recorder.axes.variables
                },
            )

    def _open(self, mode: Mode, state: Saved | None) -> dict[str, Any]:
        """On the first process: what is found, or made; and what a checkpoint says of where to go on."""
        store, out = self.store, self.out
        if store is None or out is None or state is None:
            return {"ended": False, "store": None}
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
        store.create(self._attributes(), lambda path: checkpoints.save(path, *state))
        return {"ended": False, "store": store.metadata.digest}

    def _resume(self, store: ZarrStore) -> dict[str, Any]:
        """Read the checkpoint, after all that is recorded was found whole."""
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
        saved, tensors = checkpoints.load(store.checkpoint)
        self._compare(saved["identity"])
        check_chunks(metadata)
        taken = int(saved["taken"])
        store.reopen(metadata, taken - taken % self._length)
        self._read = tensors
        changed = "; ".join(differences(saved["identity"]["versions"], self.identity["versions"]))
        where = {"step": int(saved["step"]), "taken": taken, "stimuli": saved["stimuli"]}
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
        net, options = self.net, self.identity["options"]
        return {
            "complete": int(complete),
            "recorded": 0,
            "dt": net.dt,
            "seed": self.plan.seed,
            **self.running.attributes(),
            "model": type(net).__name__,
            "network_seed": str(net.seed),
            "noise": int(self.plan.noise),
            "stimulus": json.dumps(options["stimulus"]),
            "interventions": json.dumps(options["interventions"]),
            **{part: json.dumps(value) for part, value in self.identity.items()},
        }

    # ---------------------------------------------------------------- running

    def go(
        self, reporter: Progress, interrupt: Interrupt, checkpoint_seconds: float
    ) -> xarray.Dataset | None:
        """Run to the end; the recording, on the first process."""
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
        running, stepper, drive, steps = self.running, self.stepper, self.drive, self.plan.steps
        record, samples, edges = self.plan.axes.record, self.plan.axes.samples, self.schedule.edges
        on_cpu = stepper.x.device.type == "cpu"
        due = time.monotonic() + checkpoint_seconds
        while self.step < steps:
            if self.step in edges or self.step + 1 in edges:
                self._intervene()
            currents, inputs = drive.fill(self.step)
            stepper.step(running.own_currents(currents), inputs=inputs)
            self.step += 1
            sample, between = divmod(self.step, record.every)
            taking = between == 0 and sample <= samples
            agree = self.step % running.check_every == 0 or self.step == steps
            agree |= taking and sample % self._length == 0  # what a chunk holds is finite
            if (on_cpu or agree) and self._not_finite is None and not stepper.finite():
                self._not_finite = self._find_not_finite()
            reporter.update(self.step)
            stop = save = False
            if agree:
                save = self.store is not None and time.monotonic() >= due
                failed = self.store is not None and self.store.failed
                flags = failed, self._not_finite is not None, interrupt.requested, save
                failed, diverged, stop, save = self.processes.any(flags)
                if failed:
                    self.processes.each(self._flush)
                if diverged:
                    self._diverged()
            if taking:
                states = running.states(record.variables)
                if self.recorder is not None and states is not None:
                    self.recorder.take(states)
            if stop and self.step < steps:
                self._stopped(reporter)
            if save and self.step < steps:
                self._save(reporter)
                due = time.monotonic() + checkpoint_seconds

    def _intervene(self, *, first: bool = False) -> None:
        """Change what interventions hold: weights for the coming step, states for its end."""
        running, schedule, step = self.running, self.schedule, self.step
        if first or step in schedule.edges:
            running.set_factors(schedule.factors(step))
            self.stepper.silent_inputs = schedule.silent_inputs(step)
        if first:
            self.stepper.hold(running.own_held(schedule.held(step)))
        self.stepper.held = running.own_held(schedule.held(step + 1))

    def _state(self) -> Saved:
        """What a checkpoint holds, whole on the first process; every one asks for it."""
        tensors = {f"state_{name}": tensor for name, tensor in self.running.state().items()}
        memory, streams = self.drive.state()
        tensors |= {name: torch.from_numpy(array) for name, array in memory.items()}
        taken = 0 if self.recorder is None else self.recorder.taken
        saved = {"identity": self.identity, "step": self.step, "taken": taken, "stimuli": streams}
        return saved, {**tensors, **self._part()}

    def _part(self) -> dict[str, Tensor]:
        """The samples of the chunk begun; on the first process, of all units."""
        found: dict[str, Tensor] = {}
        own = {} if self.recorder is None else self.recorder.part()
        sizes = [each.stop - each.start for each in self._shares]
        for name, (_, _, dimension) in self.plan.axes.variables.items() if self._shares else ():
            part = own.get(name)
            if dimension == "unit" and max(sizes) < sum(sizes):
                filled = (self.step // self.plan.axes.record.every) % self._length
                none = np.empty((self.plan.batch, filled, 0), dtype=self.plan.axes.dtype)
                rows = torch.from_numpy(none if part is None else part.copy()).movedim(2, 0).contiguous()
                where = rows.to(self.processes.device)
                found[f"part_{name}"] = self.processes.gather_rows(where, sizes, to=0).cpu().movedim(0, 2)
            elif part is not None:
                found[f"part_{name}"] = torch.from_numpy(part)
        return found

    def _save(self, reporter: Progress, *, partial: bool = False) -> None:
        """Make a checkpoint; with ``partial``, the samples of the chunk begun can be read, too."""
        state = self._state()
        self._write(state, partial=partial)
        self.saved = self.step
        reporter.event("checkpoint", self.step)

    def _write(self, state: Saved | None, *, partial: bool) -> None:
        """Put what is recorded on disk, and on the first process a checkpoint, if a state is given."""
        self.processes.each(lambda: self._flush(partial=partial))
        self.processes.first(lambda: self._mark(state, partial=partial))

    def _flush(self, *, partial: bool = False) -> None:
        if self.recorder is not None and self.store is not None:
            if partial:
                self.recorder.put_partial()
            self.store.flush()

    def _mark(self, state: Saved | None, *, partial: bool) -> None:
        """On the first process: what all have put on disk counts from now on."""
        store, recorder = cast(ZarrStore, self.store), cast(Recorder, self.recorder)
        if state is not None:
            try:
                checkpoints.save(store.checkpoint, *state)
            except OSError as error:
                what = f"cannot write a checkpoint of {self.out}: {error.strerror}"
                last = f"What is recorded until the last one, at {self.saved * self.net.dt:g} ms, is whole"
                raise RecordingError(f"{what}. {last}; make room and resume the run.") from error
        store.mark(recorded=recorder.taken - (0 if partial else recorder.filled))

    # ---------------------------------------------------------------- ending

    def _finish(self, reporter: Progress) -> xarray.Dataset | None:
        store, first = self.store, self.processes.rank == 0
        if store is not None:
            self.processes.each(self._flush)
        if store is not None and first:
            store.mark(complete=1, recorded=self.plan.axes.samples)
            store.checkpoint.unlink(missing_ok=True)
        reporter.event("done", self.step)
        return self._so_far(complete=True)

    def _in_memory(self, recorder: Recorder, *, complete: bool) -> xarray.Dataset:
        arrays = self.kept if complete else recorder.part()
        attributes = {**self._attributes(complete=complete), "recorded": recorder.taken}
        return dataset(self.plan.axes, arrays, attributes)

    def _so_far(self, *, complete: bool = False) -> xarray.Dataset | None:
        """What is recorded when the run stops or ends, on the first process."""
        if self.processes.rank > 0 or self.recorder is None:
            return None
        if self.store is not None:
            return open_recording(self.store.path)
        return self._in_memory(self.recorder, complete=complete)

    def _stopped(self, reporter: Progress) -> None:
        if self.out is not None:
            self._save(reporter, partial=True)
        reporter.event("stopped", self.step)
        hint = "" if self.out is None else f"; resume it (--resume) to go on with {self.out}"
        raise SimulationStopped(self.step * self.net.dt, self.plan.steps * self.net.dt, self._so_far(), hint)

    def _find_not_finite(self) -> tuple[int, int, int]:
        """Now: the step, the number of units of this process whose state is not finite, and the first."""
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
            self.recorder.keep((step - 1) // self.plan.axes.record.every)
        if self.store is not None:
            self._write(None, partial=True)
        saved = f"{self.saved * self.net.dt:g} ms"
        last = "" if self.out is None else f" The last good checkpoint of {self.out} is at {saved}."
        raise DivergenceError(
            f"the network diverged: at {when:g} ms, {count} units are not finite, the first of them "
            f"in region {region!r}.{last} Use a smaller dt or spectral radius, or weaker drive.",
            when,
            region,
            self._so_far(),
        )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
