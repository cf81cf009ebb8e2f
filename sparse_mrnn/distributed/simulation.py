"""simulate on several processes: all step, rank 0 records, makes checkpoints and reports."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.arguments import path_of, real_number
from sparse_mrnn.differences import differences, first_of
from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.own_units import Gathering, OwnUnits
from sparse_mrnn.distributed.streaming import ShardedSimulator
from sparse_mrnn.errors import (
    ConfigError,
    DivergenceError,
    RecordingError,
    ResumeError,
    SimulationStopped,
    suggest,
)
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.lock import WriterLock
from sparse_mrnn.recording.reading import check_chunks, is_recording, need, read_metadata
from sparse_mrnn.recording.recorder import Arrays, Recorder
from sparse_mrnn.recording.store import ZarrStore, dataset
from sparse_mrnn.simulation import checkpoint as checkpoints
from sparse_mrnn.simulation.fingerprint import software_versions
from sparse_mrnn.simulation.interrupt import Interrupt
from sparse_mrnn.simulation.intervention_schedule import InterventionSchedule
from sparse_mrnn.simulation.plan import SimulationPlan, check_size, plan_simulation, statistics
from sparse_mrnn.simulation.progress import Progress
from sparse_mrnn.simulation.stimulus_drive import PlacedStimulus, StimulusDrive
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray

Saved = tuple[dict[str, Any], dict[str, Tensor]]
"""A description, as JSON, and tensors."""

MODES = ("create", "overwrite", "resume")
STEPS_BETWEEN = 16
"""Steps after which ranks agree on whether to stop, to save, or that a state is not finite."""
DIVIDED = ("x", "h", "rec_recent")
"""States of which each rank has its units'; the others are the same on all ranks."""


def simulate(
    net: ShardedRNN,
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
) -> xarray.Dataset | None:
    """Simulate a network on all its ranks, from its initial condition; every rank calls it.

    What happens is what `sparse_mrnn.simulate` of the undivided network does, to rounding: noise, random
    stimuli and interventions are the same for any number of ranks. Rank 0 has the recording, and with ``out``
    makes checkpoints, from which any number of ranks can go on: bit for bit on as many.

    Parameters
    ----------
    net : ShardedRNN
    duration, steps, batch, stimulus, interventions, record, noise, seed
        As for `sparse_mrnn.simulate`.
    out, mode, checkpoint_seconds, allow_large, event_driven, progress, log
        As there; ``out`` and ``log`` are files of rank 0.

    Returns
    -------
    xarray.Dataset on rank 0, None on the others

    Raises
    ------
    DistributedError
        If another rank has ended, or the ranks were given different arguments.
    StimulusError, InterventionError, UnknownNameError, RecordingError, ResumeError
        As for `sparse_mrnn.simulate`; errors of files on rank 0 only.
    SimulationStopped, DivergenceError
        As there, on every rank; looked for every 16 steps.

    Examples
    --------
    >>> import sparse_mrnn as sm, torch.distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> g = sm.RegionGraph(); g.add_region("a", 3)
    >>> recording = simulate(ShardedRNN(g, seed=0, device="cpu"), 50, stimulus=sm.Stimulus("a", 1.0))
    >>> recording.h.shape
    (1, 5, 3)
    >>> dist.destroy_process_group()
    """
    need("xarray", "recordings")
    if not isinstance(net, ShardedRNN):
        raise ConfigError(f"net is of type {type(net).__name__}; give a ShardedRNN.")
    if mode not in MODES:
        hint = suggest(mode, MODES)
        raise RecordingError(f"mode is {mode!r}; use 'create', 'overwrite' or 'resume'. {hint}")
    if out is None and mode != "create":
        raise RecordingError(f"mode={mode!r} is about a recording on disk; give its path as out.")
    if real_number(checkpoint_seconds, "checkpoint_seconds", RecordingError) < 0:
        raise RecordingError(f"checkpoint_seconds is {checkpoint_seconds}; it must not be negative.")
    plan = plan_simulation(
        net.declared,
        duration,
        steps=steps,
        batch=batch,
        stimulus=stimulus,
        interventions=interventions,
        record=record,
        seed=seed,
        noise=noise,
    )
    net.agree({"options of the run": plan.options(net.declared), "mode": mode})
    path = None if out is None else path_of(out, "out", RecordingError)
    if path is None or mode != "resume" or not path.exists():
        net.ranks.first(lambda: check_size(plan.axes, path, allow_large=allow_large))
    run = _Run(net, plan, path, event_driven=event_driven)
    with ExitStack() as stack:

        def lock() -> None:
            if path is not None and not (mode == "resume" and _has_ended(path)):
                stack.enter_context(WriterLock(path))

        net.ranks.first(lock)
        if run.begin(mode):
            return open_recording(path) if run.first and path is not None else None
        logged = None if log is None or not run.first else path_of(log, "log", RecordingError)
        shown = progress and run.first
        reporter = stack.enter_context(Progress(plan.steps, net.units.dt, run.step, bar=shown, log=logged))
        return run.go(reporter, stack.enter_context(Interrupt()), checkpoint_seconds)


class _Run:
    """A run in progress on this rank: ``step`` steps are done."""

    def __init__(
        self, net: ShardedRNN, plan: SimulationPlan, out: Path | None, *, event_driven: bool
    ) -> None:
        self.net, self.plan, self.out, self.step, self.saved = net, plan, out, 0, 0
        self.ranks, self.first, self.dt = net.ranks, net.ranks.rank == 0, net.units.dt
        of_stimuli, of_interventions = plan.streams
        self.schedule = InterventionSchedule(net.declared, plan.acts, plan.steps, of_interventions)
        noise_seed = plan.seed if plan.noise else None
        self.simulator = ShardedSimulator(net.shard, plan.batch, noise_seed, event_driven=event_driven)
        self.stepper = self.simulator.stepper
        placed = [
            PlacedStimulus(net.declared, stimulus, steps=plan.steps, batch=plan.batch, seeds=seeds)
            for stimulus, seeds in zip(plan.stimuli, of_stimuli.spawn(len(plan.stimuli)), strict=True)
        ]
        self.drive = StimulusDrive(placed, self.simulator.u, self.stepper.inputs.longest)
        device, axes = net.units.device, plan.axes
        self.own = OwnUnits(net.own_units, device)
        self.statistics = statistics(net.declared, axes)
        every = np.arange(net.layout.n)
        recorded = axes.units if self.statistics is None else every
        self.recorded = Gathering(net.ranks, net.partition, recorded, device)
        self.all_units = Gathering(net.ranks, net.partition, every, device)
        self.store = ZarrStore(out, axes, plan.chunk) if out is not None and self.first else None
        self.recorder = self._new_recorder()
        self.kept: Arrays = {}
        self.identity = {"options": plan.options(net.declared), "fingerprint": net.fingerprint()}

    def _new_recorder(self) -> Recorder | None:
        """On rank 0. The units that it is given are those recorded, unless statistics need all."""
        if not self.first:
            return None
        axes, store = self.plan.axes, self.store
        length = axes.samples if store is None else self.plan.chunk
        whole = self.statistics is None or np.array_equal(axes.units, np.arange(self.net.layout.n))
        put = self._keep if store is None else store.put
        return Recorder(axes, length, self.statistics, put, whole=whole)

    def _keep(self, start: int, arrays: Arrays) -> None:
        self.kept = arrays

    # ---------------------------------------------------------------- beginning

    def begin(self, mode: str) -> bool:
        """Make or reopen what is written to; whether the run has ended already."""
        state = self._state() if self.out is not None else None
        found = self.ranks.first(lambda: self._open(mode, state))
        if found == "ended":
            return True
        if found == "resume":
            self._load()
        else:
            self._intervene(first=True)
        return False

    def _open(self, mode: str, state: Saved | None) -> str:
        """On rank 0: "create", "resume" or "ended"."""
        store, out = self.store, self.out
        if store is None or out is None or state is None:
            return "create"
        old = out.with_name(out.name + ".old")
        if not out.exists() and old.exists():  # killed between two renames of an overwrite
            old.rename(out)
        if out.exists() and mode == "create":
            advice = "choose another path, overwrite it (--overwrite) or resume it (--resume)"
            raise RecordingError(f"{out} exists; {advice}.")
        if out.exists() and not is_recording(out):
            what = "resumed" if mode == "resume" else "overwritten"
            raise RecordingError(f"{out} is not a recording; it is not {what}. Choose another path.")
        if not out.exists() or mode != "resume":
            store.create(self._attributes(), lambda path: checkpoints.save(path, *state))
            return "create"
        attributes = read_metadata(out).attributes
        self._compare({part: json.loads(attributes[part]) for part in self.identity})
        if attributes["complete"]:
            check_chunks(read_metadata(out))
            store.checkpoint.unlink(missing_ok=True)
            return "ended"
        return "resume"

    def _compare(self, old: dict[str, Any]) -> None:
        """Refuse to resume another run."""
        found = [d for part, own in self.identity.items() for d in differences(old[part], own)]
        if found:
            advice = "Restore that, or overwrite it (mode='overwrite', --overwrite)"
            text = f"{self.out} cannot be resumed, for this is another run: {first_of(found)}"
            raise ResumeError(f"{text}. {advice}.")

    def _load(self) -> None:
        """Go on from the checkpoint, which rank 0 reads."""
        loaded: list[Saved] = []

        def read() -> dict[str, Any]:
            store = self.store
            if store is None or self.recorder is None:
                return {}
            saved, tensors = checkpoints.load(store.checkpoint)
            self._compare(saved["identity"])
            parts = {k.removeprefix("part_"): t.numpy() for k, t in tensors.items() if k.startswith("part_")}
            self.recorder.load(int(saved["taken"]), parts)
            metadata = read_metadata(store.path)
            check_chunks(metadata)
            store.reopen(metadata, self.recorder.taken - self.recorder.filled)
            loaded.append((saved, {k: t for k, t in tensors.items() if not k.startswith("part_")}))
            return {"step": saved["step"], "stimuli": saved["stimuli"]}

        saved = self.ranks.first(read)
        tensors = self.ranks.share(loaded[0][1] if loaded else None)
        self.step = self.saved = int(saved["step"])
        self._intervene(first=True)
        own, device = self.net.own_units, self.net.units.device
        states = {}
        for name, tensor in tensors.items():
            if name.startswith("state_"):
                name = name.removeprefix("state_")
                axis = 1 if name == "rec_recent" else 0
                divided = tensor.index_select(axis, torch.from_numpy(own)) if name in DIVIDED else tensor
                states[name] = divided if name.endswith("_noise") else divided.to(device)
        self.stepper.load(states, self.step)
        self.drive.load({name: tensor.numpy() for name, tensor in tensors.items()}, saved["stimuli"])

    def _attributes(self, *, complete: bool = False) -> dict[str, Any]:
        declared = self.net.declared
        return {
            "complete": int(complete),
            "recorded": 0,
            "dt": self.dt,
            "seed": self.plan.seed,
            "model": type(declared).__name__,
            "network_seed": str(declared.seed),
            "noise": int(self.plan.noise),
            "ranks": self.ranks.size,
            "stimulus": json.dumps(self.identity["options"]["stimulus"]),
            "interventions": json.dumps(self.identity["options"]["interventions"]),
            "options": json.dumps(self.identity["options"]),
            "fingerprint": json.dumps(self.identity["fingerprint"]),
            "versions": json.dumps(software_versions()),
        }

    # ---------------------------------------------------------------- running

    def go(
        self, reporter: Progress, interrupt: Interrupt, checkpoint_seconds: float
    ) -> xarray.Dataset | None:
        """Run to the end."""
        reporter.event("resume" if self.step else "start", self.step, steps=self.plan.steps)
        try:
            self._loop(reporter, interrupt, checkpoint_seconds)
            return self._finish(reporter)
        finally:
            if self.store is not None:
                self.store.close()

    def _loop(self, reporter: Progress, interrupt: Interrupt, checkpoint_seconds: float) -> None:
        stepper, steps, record = self.stepper, self.plan.steps, self.plan.axes.record
        due, finite = time.monotonic() + checkpoint_seconds, True
        while self.step < steps:
            if self.step in self.schedule.edges or self.step + 1 in self.schedule.edges:
                self._intervene()
            currents, inputs = self.drive.fill(self.step)
            stepper.step(self.own.currents(currents), inputs=inputs)
            self.step += 1
            finite = finite and stepper.finite()
            if self.step % record.every == 0 and self.step // record.every <= self.plan.axes.samples:
                self._record()
            reporter.update(self.step)
            if self.step % STEPS_BETWEEN and self.step < steps:
                continue
            save = self.store is not None and time.monotonic() >= due
            diverged, stop, save = self._agree(not finite, interrupt.requested, save)
            if diverged:
                self._diverged()
            if self.step < steps and (stop or save):
                self._save(reporter, readable=stop)
                due = time.monotonic() + checkpoint_seconds
                if stop:
                    self._stopped(reporter)

    def _agree(self, *flags: bool) -> list[bool]:
        """Whether each of these holds on any rank."""
        found = torch.tensor([int(flag) for flag in flags], device=self.ranks.device)
        return [bool(flag) for flag in self.ranks.max(found).tolist()]

    def _intervene(self, *, first: bool = False) -> None:
        """Change what interventions hold: weights for the coming step, states for its end."""
        schedule, step = self.schedule, self.step
        if first or step in schedule.edges:
            self.simulator.set_factors(schedule.factors(step))
            self.stepper.silent_inputs = schedule.silent_inputs(step)
        if first:
            self.stepper.hold(self.own.held(schedule.held(step)))
        self.stepper.held = self.own.held(schedule.held(step + 1))

    def _record(self) -> None:
        states = {"x": self.stepper.x, "h": self.stepper.h}
        found = {name: self.recorded(states[name]) for name in self.plan.axes.record.variables}
        if self.recorder is not None:
            self.recorder.take({name: t.cpu().numpy() for name, t in found.items() if t is not None})

    def _state(self) -> Saved:
        """What a checkpoint holds, on rank 0: states of all units, in their order."""
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.stepper.state().items():
            if name in DIVIDED:
                by_unit = tensor.transpose(0, 1) if name == "rec_recent" else tensor
                whole = self.all_units(by_unit)
                if whole is not None:
                    tensors[f"state_{name}"] = whole.transpose(0, 1) if name == "rec_recent" else whole
            else:
                tensors[f"state_{name}"] = tensor
        memory, streams = self.drive.state()
        tensors |= {name: torch.from_numpy(array) for name, array in memory.items()}
        saved = {"identity": self.identity, "step": self.step, "taken": 0, "stimuli": streams}
        if self.recorder is not None:
            saved["taken"] = self.recorder.taken
            tensors |= {f"part_{name}": torch.from_numpy(a) for name, a in self.recorder.part().items()}
        return saved, tensors

    def _save(self, reporter: Progress, *, readable: bool) -> None:
        """Make a checkpoint; with ``readable``, the samples of the chunk begun can be read, too."""
        if self.out is None:
            return
        state = self._state()

        def write() -> None:
            store, recorder = self.store, self.recorder
            if store is None or recorder is None:
                return
            if readable:
                recorder.put_partial()
            store.flush()
            try:
                checkpoints.save(store.checkpoint, *state)
            except OSError as error:
                what = f"cannot write a checkpoint of {self.out}: {error.strerror}"
                last = f"The last one, at {self.saved * self.dt:g} ms, is whole"
                raise RecordingError(f"{what}. {last}.") from error
            store.mark(recorded=recorder.taken - (0 if readable else recorder.filled))

        self.ranks.first(write)
        self.saved = self.step
        reporter.event("checkpoint", self.step)

    # ---------------------------------------------------------------- ending

    def _finish(self, reporter: Progress) -> xarray.Dataset | None:
        reporter.event("done", self.step)
        store, recorder = self.store, self.recorder
        if recorder is None:
            return None
        if store is None:
            attributes = {**self._attributes(complete=True), "recorded": recorder.taken}
            return dataset(self.plan.axes, self.kept, attributes)
        store.flush()
        store.mark(complete=1, recorded=self.plan.axes.samples)
        store.checkpoint.unlink(missing_ok=True)
        return open_recording(store.path)

    def _stopped(self, reporter: Progress) -> None:
        reporter.event("stopped", self.step)
        found = open_recording(self.out) if self.first and self.out is not None else None
        hint = "" if self.out is None else f"; resume it (--resume) to go on with {self.out}"
        raise SimulationStopped(self.step * self.dt, self.plan.steps * self.dt, found, hint)

    def _diverged(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.stepper.x.cpu().numpy()).all(axis=1))
        every = self.ranks.gather(self.net.own_units[bad].tolist()[:1])
        first = min((units[0] for units in every if units), default=0)
        region, when = self.net.layout.region_of(first)[0].name, self.step * self.dt
        last = "" if self.out is None else f" The last good checkpoint is at {self.saved * self.dt:g} ms."
        what = f"the network diverged: by {when:g} ms, units of region {region!r} are not finite"
        raise DivergenceError(
            f"{what}.{last} Use a smaller dt or weaker weights and drive.", when, region
        )


def _has_ended(path: Path) -> bool:
    """Whether there is a recording that needs no more steps."""
    return is_recording(path) and bool(read_metadata(path).attributes["complete"])

