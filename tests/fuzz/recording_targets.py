"""Recordings that are opened and plotted, runs that are resumed, stimuli and interventions in JSON."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import sparse_mrnn as sm
from fuzz.mutate import Rng, of_bytes, of_json, pick
from fuzz.network_targets import network
from fuzz.registry import register
from sparse_mrnn.declaration import config
from sparse_mrnn.errors import SimulationStopped
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.simulation import progress

STEPS, CHUNK = 24, 5


def run(out: Path | None, mode: str = "create") -> Any:
    """A short run with noise, of two variables in several chunks."""
    from sparse_mrnn.simulation import plan

    plan.LONGEST_CHUNK = CHUNK
    return sm.simulate(
        network(), steps=STEPS, batch=2, noise=True, seed=3, stimulus=sm.Stimulus("i", 1.0), progress=False,
        record=Record(what=["units", "mean"]), out=out, mode=mode,
    )  # fmt: skip


def values(recording: Any) -> Any:
    """All labels and values."""
    found = recording.load()
    return {name: np.asarray(found[name]).tolist() for name in sorted(found.variables)}


@functools.cache
def store(kind: str) -> tuple[Path, Any]:
    """A whole recording, or one of a run stopped in the middle of a chunk, made once in a process."""
    out = Path(tempfile.mkdtemp(prefix="recording")) / "run.zarr"
    if kind == "whole":
        return out, values(run(out))
    update = progress.Progress.update

    def stop(self: Any, done: int) -> None:
        if done == 17:
            os.kill(os.getpid(), signal.SIGINT)

    progress.Progress.update = stop  # type: ignore[method-assign]
    try:
        run(out)
    except SimulationStopped:
        pass
    finally:
        progress.Progress.update = update  # type: ignore[method-assign]
    return out, values(run(None))


def make(kind: str, folder: Path, rng: Rng) -> None:
    """One file of a recording changed, gone, empty, or another's."""
    out, _ = store(kind)
    shutil.copytree(out, folder / "run.zarr")
    files = sorted(path for path in (folder / "run.zarr").rglob("*") if path.is_file())
    path = pick(rng, files)
    way = int(rng.integers(8))
    if way == 0:
        path.unlink()
    elif way == 1:
        path.write_bytes(pick(rng, files).read_bytes())
    elif way == 2:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(of_bytes(path.read_bytes(), rng))


def load_whole(folder: Path) -> Any:
    return values(open_recording(folder / "run.zarr"))


def load_resumed(folder: Path) -> Any:
    return values(run(folder / "run.zarr", "resume"))


def oracle(kind: str, folder: Path) -> Any:
    """Whatever was changed, what is read is what was recorded."""
    return store(kind)[1]


register("recording", functools.partial(make, "whole"), load_whole, functools.partial(oracle, "whole"))
register("resumed run", functools.partial(make, "begun"), load_resumed, functools.partial(oracle, "begun"), 2)


# ---------------------------------------------------------------- stimuli and interventions in JSON


def make_simulation(folder: Path, rng: Rng) -> None:
    wave = pick(rng, [
        {"type": "sine", "frequency": 4, "amplitude": 0.5}, {"type": "ramp", "first": 0.5, "last": 2.0},
        {"type": "pulse_train", "amplitude": 0.5, "period": 20, "width": 10}, {"type": "chirp", "amplitude": 0.5, "first": 1, "last": 9}, {"type": "ornstein_uhlenbeck", "std": 0.5, "tau": 30},
    ])  # fmt: skip
    spec = {
        "duration": 60, "dt": 10, "batch": 1, "noise": False, "seed": 3,
        "stimulus": [
            {"region": "i", "amplitude": 1.0, "start": 10, "stop": 40},
            {"region": "a", **wave},
        ],
        "interventions": [
            {"type": "lesion", "region": "b", "start": 10}, {"type": "clamp", "region": "b", "value": 1.0, "stop": 20},
            {"type": "gain", "source": "b", "target": "a", "factor": 2.0},
        ],
        "record": {"what": ["mean"], "every": 2},
    }  # fmt: skip
    (folder / "run.json").write_bytes(of_json(spec, rng).encode("utf-8", "surrogatepass"))


def load_simulation(folder: Path) -> Any:
    settings = config.load_simulation(folder / "run.json")
    if settings.duration > 1000 or settings.batch > 4 or settings.dt < 1:
        return "too long"
    recording = sm.simulate(
        network(), settings.duration, batch=settings.batch, noise=settings.noise, seed=settings.seed,
        stimulus=settings.stimuli(), interventions=settings.intervention_objects(), record=settings.record.to_record(),
        progress=False,
    )  # fmt: skip
    return values(recording)


register("simulation", make_simulation, load_simulation)
