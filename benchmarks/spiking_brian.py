"""Shiu et al.'s model in Brian2, step by step: spikes of random networks, and time at FlyWire's size.

    python benchmarks/spiking_brian.py --python BRIAN [--networks 20] [--speed] [--threads 2]

BRIAN is the Python of an environment with brian2, in which this file runs as well. A random network with
`shiu2024`'s parameters is driven by given spike times; equations, threshold, reset and delay are those of
the published model.py (github.com/philshiu/Drosophila_brain_model). Spikes must be the
same, step by step.
With --speed both simulate the network of benchmarks/spiking.py, one after the other: 138,639 units, 15
million synapses, and 300 units driven at 150 Hz, for one second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments

EVENT = 68.75
"""Weight of an event of the drive, mV: 250 times that of a synapse."""


def in_brian(folder: Path) -> None:
    """Simulate the network of a folder in Brian2, and write its spikes and times there."""
    import brian2 as b  # not a dependency of ours

    given = np.load(folder / "network.npz")
    seconds, threads = float(given["seconds"]), int(given["threads"])
    if "rate" in given:
        b.set_device("cpp_standalone", directory=str(folder / "code"), build_on_run=False)
        b.prefs.devices.cpp_standalone.openmp_threads = threads
    else:
        b.prefs.codegen.target = "numpy"
    b.defaultclock.dt = 0.1 * b.ms
    params = {"v_0": -52 * b.mV, "v_rst": -52 * b.mV, "v_th": -45 * b.mV, "t_mbr": 20 * b.ms, "tau": 5 * b.ms}
    n = int(given["n"])
    equations = """
        dv/dt = (v_0 - v + g) / t_mbr : volt (unless refractory)
        dg/dt = -g / tau : volt (unless refractory)
        rfc : second
    """
    units = b.NeuronGroup(
        n, equations, method="linear", threshold="v > v_th", reset="v = v_rst; g = 0 * mV", refractory="rfc",
        namespace=params,
    )
    units.v, units.g = params["v_0"], 0 * b.mV
    synapses = b.Synapses(units, units, "w : volt", on_pre="g += w", delay=1.8 * b.ms)
    synapses.connect(i=given["source"], j=given["target"])
    synapses.w = given["weight"] * b.mV
    refractory = np.full(n, 2.2)
    refractory[given["driven"]] = 0.0
    units.rfc = refractory * b.ms
    monitor = b.SpikeMonitor(units)
    parts = [units, synapses, monitor]
    if "rate" in given:
        events = b.PoissonGroup(len(given["driven"]), rates=float(given["rate"]) * b.Hz)
    else:
        events = b.SpikeGeneratorGroup(n, given["event_unit"], given["event_step"] * 0.1 * b.ms)
    into = b.Synapses(events, units, on_pre="v += 68.75 * mV")
    at = given["driven"] if "rate" in given else np.arange(n)
    into.connect(i=np.arange(len(at)), j=at)
    net = b.Network([*parts, events, into])
    begin = time.perf_counter()
    net.run(seconds * b.second)
    if "rate" in given:
        b.device.build(directory=str(folder / "code"), compile=True, run=False)
        begin = time.perf_counter()
        b.device.run(str(folder / "code"), with_output=False, run_args=[])
    wall = time.perf_counter() - begin
    whole = float(getattr(b.device, "_last_run_time", None) or wall)
    step = np.rint(np.asarray(monitor.t / b.ms) * 10).astype(int)
    np.savez(folder / "spikes.npz", step=step, unit=np.asarray(monitor.i), wall=wall, loop=whole)


def ask_brian(python: str, folder: Path, **network: object) -> dict[str, np.ndarray]:
    """Have Brian2 simulate a network in a process of its own."""
    np.savez(folder / "network.npz", **network)
    subprocess.run([python, __file__, "--folder", str(folder)], check=True)
    return dict(np.load(folder / "spikes.npz"))


def compare(python: str, seed: int) -> tuple[int, int]:
    """Count the spikes of a random network, and those that only one of both simulators has."""
    import sparse_mrnn as sm
    from sparse_mrnn.presets import shiu2024
    from sparse_mrnn.stimulus import SpikeTimes, Stimulus

    rng = np.random.default_rng(seed)
    n, seconds = 120, 0.3
    counts = np.where(rng.random((n, n)) < 0.1, rng.integers(1, 60, (n, n)), 0)
    signs = np.where(rng.random(n) < 0.3, -1, 1)
    graph = sm.RegionGraph()
    graph.add_region("brain", n, sign=signs, unit_ids=[f"u{k}" for k in range(n)])
    graph.add_projection("brain", "brain", weights=counts * signs)
    driven = np.sort(rng.choice(n, 20, replace=False))
    net, (drive,) = shiu2024(graph, [f"u{k}" for k in driven], device="cpu")
    net = net.double()
    events = [np.flatnonzero(rng.random(int(seconds * 1e4)) < 0.015) for _ in driven]
    times = SpikeTimes([e * 0.1 for e in events], amplitude=drive.waveform.amplitude)
    stimulus = Stimulus(units=drive.units, waveform=times)
    record = sm.Record(what=["spikes"])
    ours = sm.simulate(net, seconds * 1000, stimulus=stimulus, record=record, progress=False)
    target, source = np.nonzero(counts)
    with tempfile.TemporaryDirectory() as folder:
        theirs = ask_brian(
            python, Path(folder), n=n, source=source, target=target,
            weight=(np.float32(0.275) * counts * signs)[target, source], driven=driven, seconds=seconds,
            threads=1,
            event_unit=np.repeat(driven, [len(e) for e in events]), event_step=np.concatenate(events),
        )
    step = np.rint(ours.spike_time.values * 10).astype(int) - 1  # the time of ours is that of the step's end
    ours_at = set(zip(step.tolist(), ours.spike_unit.values.tolist(), strict=True))
    theirs_at = set(zip(theirs["step"].tolist(), theirs["unit"].tolist(), strict=True))
    return len(theirs_at), len(ours_at ^ theirs_at)


def speed(python: str, threads: int) -> None:
    """Time a second of a network of FlyWire's size in both."""
    import spiking
    from common import progress

    import sparse_mrnn as sm

    net, _ = spiking.fly()
    weights = next(net.graph.projections()).weights.tocoo()
    driven = np.flatnonzero(net.graph.region("brain").t_ref == 0)
    ours = spiking.measure("fly", 1.0, 1.0, threads)
    del net
    progress(f"sparse-mrnn {sm.__version__}: {ours['wall']:.2f} s, {ours['spikes']:.0f} spikes")
    with tempfile.TemporaryDirectory() as folder:
        theirs = ask_brian(
            python, Path(folder), n=weights.shape[0], source=weights.col, target=weights.row,
            weight=weights.data, driven=driven, seconds=1.0, threads=threads, rate=150.0,
        )
    spikes = len(theirs["unit"])
    loop, wall = float(theirs["loop"]), float(theirs["wall"])
    progress(f"Brian2: {loop:.2f} s (with loading {wall:.2f} s), {spikes} spikes")


def main() -> None:
    """Compare, and print what differs."""
    parser = arguments(__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        in_brian(given.folder)
        return
    for seed in range(given.networks):
        spikes, different = compare(given.python, seed)
        print(f"network {seed}: {spikes} spikes, {different} in one simulator only", flush=True)
        if different:
            sys.exit(1)
    if given.speed:
        speed(given.python, given.threads)


if __name__ == "__main__":
    main()
