"""Magnitude pruning: the weakest synapses of each projection, or of all together, are removed for good."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey, SynapseTable
from sparse_mrnn.training.optimizer_state import Optimizers, rewrite_synapses
from sparse_mrnn.training.select import nothing_to_change, select


def prune(
    net: mRNNBase,
    fraction: float,
    source: str | None = None,
    target: str | None = None,
    key: str | None = None,
    *,
    scope: Literal["projection", "network"] = "projection",
    optimizer: Optimizers = None,
) -> int:
    """Remove the trained synapses with the smallest weights. They take no memory and no time any more.

    O(n log n) in time and O(n) in memory for n synapses.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    fraction : float in [0, 1]
        Fraction of the synapses to remove, rounded to a whole number of them.
    source, target, key
        See `freeze`. Default: all recurrent projections. Frozen ones and those of low rank are left alone;
        a shared synapse counts with its weight, base value times gain.
    scope : {"projection", "network"}
        Each projection loses this fraction, or the selected projections together.
    optimizer : torch.optim.Optimizer or several, optional
        Whose moments follow the synapses. Needed if one exists and has made a step.

    Returns
    -------
    int
        Synapses removed.

    Raises
    ------
    UnknownNameError
        If no projection matches.
    TrainingError
        If the fraction is outside [0, 1], or the projections are all frozen.
    OptimizerError
        If the optimiser's state is not per synapse; nothing has changed then.

    References
    ----------
    Han et al. 2015, Learning both weights and connections for efficient neural networks.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 10); g.add_projection("a", "a")
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> prune(net, 0.75), net.rec.nnz
    (75, 25)
    """
    check_fraction("prune", fraction)
    if scope not in ("projection", "network"):
        raise TrainingError(f"prune: scope is {scope!r}; use 'projection' or 'network'.")
    weights, names = select(net, source, target, key)
    chosen = weights.trained_projections & set(names)
    if names and not chosen:
        raise nothing_to_change(weights, names, "prune")
    table = weights.table()
    lengths = table.lengths.numpy()
    gone = weakest_of(table, weights.all_values(), chosen, fraction, together=scope == "network")
    if not gone.any():
        return 0
    left = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[~gone], minlength=len(lengths))
    slots = torch.from_numpy(np.flatnonzero(~gone)).to(table.row.device)
    n = int(left[: weights.trainable_projections].sum())
    rewrite_synapses(weights, table.take(slots, table.projections, torch.from_numpy(left), n), optimizer)
    return int(gone.sum())


def check_fraction(function: str, fraction: float) -> None:
    """Raise `TrainingError` unless 0 <= fraction <= 1."""
    if not 0 <= fraction <= 1:
        raise TrainingError(f"{function}: fraction is {fraction!r}; it must be between 0 and 1.")


def chosen_synapses(table: SynapseTable, chosen: Collection[ProjectionKey]) -> NDArray[np.bool_]:
    """Mask of the synapses of some projections."""
    return np.repeat([name in chosen for name in table.projections], table.lengths.numpy()).astype(bool)


def weakest_of(
    table: SynapseTable, values: Tensor, chosen: Collection[ProjectionKey], fraction: float, *,
    together: bool = False,
) -> NDArray[np.bool_]:
    """Mark the weakest synapses of each of some projections, or of all of them together, by their values."""
    lengths = table.lengths.numpy()
    number = np.zeros(len(values), np.int64) if together else np.repeat(np.arange(len(lengths)), lengths)
    group = np.where(chosen_synapses(table, chosen), number, -1)
    return weakest(values.detach().abs().cpu().numpy(), group, fraction, len(lengths))


def weakest(
    magnitude: NDArray[Any], group: NDArray[np.int64], fraction: float, n_groups: int
) -> NDArray[np.bool_]:
    """Mark the smallest magnitudes of each group, ``fraction`` of it rounded to a number; of ties, the first.

    ``group`` is the number of each synapse's group, -1 for none.

    Examples
    --------
    >>> weakest(np.array([3.0, 1, 2, 9]), np.array([0, 0, 1, 1]), 0.5, 2).tolist()
    [False, True, True, False]
    """
    marked = np.zeros(len(group), dtype=bool)
    members = np.flatnonzero(group >= 0)
    order = members[np.lexsort((magnitude[members], group[members]))]
    size = np.bincount(group[members], minlength=n_groups)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    count = np.floor(fraction * size + 0.5).astype(np.int64)
    marked[order[rank < np.repeat(count, size)]] = True
    return marked
