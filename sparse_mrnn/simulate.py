"""Simulation: run a network for some time under stimuli, in chunks, into memory or into a Zarr store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.config import SimulationConfig
from sparse_mrnn.errors import SimulationStopped, StimulusError
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.recording import Recording, Units, ZarrWriter
from sparse_mrnn.stimulus import Drive, Stimulus

CHUNK_BYTES = 64 * 2**20
"""States of one chunk take about this much, so memory does not grow with the length of a recorded run."""


def build(graph: RegionGraph, settings: SimulationConfig, device: str | None = None) -> mRNN | ElmanmRNN:
    """The network of a graph with the settings of a configuration's ``simulation`` section.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> build(g, SimulationConfig(model="elman"), "cpu").hid_regions
    ['a']
    """
    common: dict[str, Any] = {
        "activation": settings.activation,
        "noise_level_act": settings.noise_level_act,
        "noise_level_inp": settings.noise_level_inp,
        "spectral_radius": settings.spectral_radius,
        "seed": settings.seed,
        "device": device,
    }
    if settings.model == "elman":
        return ElmanmRNN(graph, **common)
    return mRNN(graph, dt=settings.dt, tau=settings.tau, **common)


def simulate(
    net: mRNNBase,
    duration: float,
    *,
    batch_size: int = 1,
    stimulus: Sequence[Stimulus] = (),
    noise: bool = False,
    dt: float | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Recording | None:
    """Simulate a network from its initial condition.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    duration : float
        ms; a whole number of time steps.
    batch_size : int
        Trials; they differ by their noise.
    stimulus : sequence of Stimulus
    noise : bool
        Add the network's noise.
    dt : float, optional
        Time step in ms. Default: that of a leaky net, 1 for an Elman net.
    out : path, optional
        Write a Zarr store here instead of returning the recording: memory then does not grow with duration.
    overwrite : bool
        Replace an existing recording at ``out``.
    progress : callable, optional
        Called with (steps done, steps in all) after each chunk.

    Returns
    -------
    Recording, or None with ``out``

    Raises
    ------
    StimulusError
        If the duration is no positive whole number of steps or a stimulus starts after the end.
    SimulationStopped
        On Ctrl-C; what was simulated so far is kept in ``out``, or in the error's ``recording``.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> recording = simulate(mRNN(g, device="cpu"), 50, stimulus=[Stimulus("a", 1.0)])
    >>> recording.activity.shape, recording.time.tolist()
    ((1, 5, 3), [10.0, 20.0, 30.0, 40.0, 50.0])
    """
    dt = float(getattr(net, "dt", 1.0)) if dt is None else dt
    steps = round(duration / dt)
    if steps < 1 or abs(steps * dt - duration) > 1e-6 * dt * steps:
        raise StimulusError(f"duration {duration:g} ms is not a positive whole number of {dt:g} ms steps.")
    for s in stimulus:
        if s.start >= duration:
            raise StimulusError(f"stimulus on {s.region!r} starts at {s.start:g} ms, after the end at {duration:g} ms.")
    drive = Drive(net, stimulus, dt)
    state = net.batched_initial_condition(batch_size)
    units = unit_axis(net)
    length = max(1, min(steps, 100, CHUNK_BYTES // (8 * len(units.region) * batch_size)))
    writer = None if out is None else ZarrWriter(out, batch_size, units, dt, steps, overwrite=overwrite)
    parts: list[np.ndarray[Any, Any]] = []
    attrs = {"dt": dt, "seed": str(net.seed), "model": type(net).__name__, "noise": int(noise)}
    attrs["stimulus"] = repr([asdict(s) for s in stimulus])
    done = 0
    try:
        while done < steps:
            count = min(length, steps - done)
            state, activity = _chunk(net, state, drive.chunk(done, count, batch_size), noise)
            if writer is None:
                parts.append(activity)
            else:
                writer.append(activity)
            done += count
            if progress is not None:
                progress(done, steps)
    except KeyboardInterrupt:
        kept = _finish(writer, parts, units, dt, {**attrs, "complete": 0}, batch_size)
        raise SimulationStopped(done * dt, duration, kept) from None
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    return _finish(writer, parts, units, dt, {**attrs, "complete": 1}, batch_size)


@torch.no_grad()
def _chunk(
    net: mRNNBase, state: tuple[Tensor, Tensor], drive: tuple[Tensor, Tensor | None], noise: bool
) -> tuple[tuple[Tensor, Tensor], np.ndarray[Any, Any]]:
    inp, stim = (t if t is None or not net.batch_first else t.transpose(0, 1) for t in drive)
    if isinstance(net, ElmanmRNN):
        x = h = net(inp, state[1], stim, noise)
    else:
        x, h = net(inp, state[0], state[1], stim, noise)
    last = (slice(None), -1) if net.batch_first else (-1,)
    activity = h if net.batch_first else h.transpose(0, 1)
    return (x[last], h[last]), activity.cpu().numpy()


def _finish(
    writer: ZarrWriter | None, parts: list[Any], units: Units, dt: float, attrs: dict[str, Any], batch: int
) -> Recording | None:
    if writer is not None:
        writer.close(**attrs)
        return None
    activity = np.concatenate(parts, axis=1) if parts else np.empty((batch, 0, len(units.region)), dtype=np.float32)
    return Recording(activity, (np.arange(activity.shape[1]) + 1) * dt, units, attrs)


def unit_axis(net: mRNNBase) -> Units:
    """Region and id of every recurrent unit; units without an id are called region[k]."""
    regions = net.layout().regions
    return Units(
        tuple(r.name for r in regions for _ in range(r.n)),
        tuple(unit for r in regions for unit in (r.unit_ids or (f"{r.name}[{k}]" for k in range(r.n)))),
    )
