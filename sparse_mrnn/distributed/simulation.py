"""Simulation on several processes: all step and record, rank 0 makes checkpoints and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.streaming import ShardedSimulator
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.simulation.options import SimulationOptions
from sparse_mrnn.simulation.plan import SimulationPlan
from sparse_mrnn.simulation.run import run_simulation

if TYPE_CHECKING:
    import xarray


def simulate(net: ShardedRNN, duration: float | None = None, **options: Any) -> xarray.Dataset | None:
    """Simulate a network on all its ranks, from its initial condition; every rank calls it.

    The result is that of `sparse_mrnn.simulate` of the undivided network, to rounding: noise, random stimuli
    and interventions are the same for any number of ranks. Rank 0 returns the recording. With ``out``, every
    rank writes a part of it, if all of them reach that folder, else rank 0 writes all; and rank 0 makes
    checkpoints, from which any number of ranks can go on: bit for bit on as many.

    Parameters
    ----------
    net : ShardedRNN
    duration, **options
        As for `sparse_mrnn.simulate`; ``out`` is the same on all ranks, ``log`` a file of rank 0.

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
        As for `sparse_mrnn.simulate`, on every rank, which look for them every 16 steps.

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
    if not isinstance(net, ShardedRNN):
        raise ConfigError(f"net is of type {type(net).__name__}; give a ShardedRNN.")
    return run_on_ranks(net, SimulationOptions(duration, **options))


def run_on_ranks(net: ShardedRNN, options: SimulationOptions) -> xarray.Dataset | None:
    """Run a simulation on all ranks of a network; see `simulate`."""

    def start(plan: SimulationPlan) -> ShardedSimulator:
        net.agree({"options of the run": plan.spec, "mode": options.mode})
        return ShardedSimulator(net, options.batch, options.noise_seed, event_driven=options.event_driven)

    return run_simulation(net.declared, options, net.ranks, start)
