"""simulate on several processes: all step and record, rank 0 makes checkpoints and reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.streaming import ShardedSimulator
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.recording import Record
from sparse_mrnn.recording.reading import need
from sparse_mrnn.simulation.plan import plan_simulation
from sparse_mrnn.simulation.run import Output, run_simulation
from sparse_mrnn.stimulus import Intervention, Stimulus

if TYPE_CHECKING:
    import xarray


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
    stimuli and interventions are the same for any number of ranks. Rank 0 returns the recording. With
    ``out``, every rank writes a part of it, if all of them reach that folder, else rank 0 writes all; and
    rank 0 makes checkpoints, from which any number of ranks can go on: bit for bit on as many.

    Parameters
    ----------
    net : ShardedRNN
    duration, steps, batch, stimulus, interventions, record, noise, seed
        As for `sparse_mrnn.simulate`.
    out, mode, checkpoint_seconds, allow_large, event_driven, progress, log
        As there; ``out`` is the same on all ranks, ``log`` a file of rank 0.

    Returns
    -------
    xarray.Dataset on rank 0, None on the others

    Raises
    ------
    DistributedError
        If another rank has ended, or the ranks were given different arguments.
    StimulusError, InterventionError, UnknownNameError, RecordingError, ResumeError
        As for `sparse_mrnn.simulate`; errors of files on the rank that meets them, a DistributedError on the
        others.
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
    output = Output.checked(
        out=out,
        mode=mode,
        checkpoint_seconds=checkpoint_seconds,
        allow_large=allow_large,
        progress=progress,
        log=log,
    )
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
    output.check_size(plan, net.ranks)
    simulator = ShardedSimulator(net, plan.batch, plan.noise_seed, event_driven=event_driven)
    return run_simulation(net.declared, plan, output, net.ranks, simulator)
