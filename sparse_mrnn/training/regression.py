"""regress_weights: weights from a recording of all units, one convex problem for each target unit.

The equation of a step is linear in the weights: the current that a unit must have received, which its own
states tell, is a sum over its presynaptic partners. No matrix of units by units is made: a unit with k
partners has a Gram matrix of k x k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import option, real_number
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.lowering.layout import Int64
from sparse_mrnn.models.electrical import refuse_electrical
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.torch_modes import ordinary_tensors
from sparse_mrnn.recording.reading import need
from sparse_mrnn.training.least_squares import dependent_regressor, signed_least_squares
from sparse_mrnn.training.recorded import Recorded
from sparse_mrnn.training.regressors import Part, Regressors, Samples, moments
from sparse_mrnn.training.select import labels


@dataclass(frozen=True, eq=False, repr=False)
class WeightRegression:
    """How well the weights of each unit explain the current it received; made by `regress_weights`.

    Parameters
    ----------
    unit : ndarray of int64, shape (fitted units,)
        Number of each unit that was measured, ascending.
    unit_id : tuple of str
    r2 : ndarray, shape (fitted units,)
        Share of the variance of the current that is explained; NaN where the current is constant.
    samples : ndarray of int64, shape (fitted units,)
        Time steps that each could use.
    partners : ndarray of int64, shape (fitted units,)
        Synapses, from units and inputs, whose weights were fitted.
    left_out : ndarray of int64, shape (fitted units,)
        Synapses from units that were not measured, whose weights are as before.
    """

    unit: Int64
    unit_id: tuple[str, ...]
    r2: NDArray[np.float64]
    samples: Int64
    partners: Int64
    left_out: Int64

    def __repr__(self) -> str:
        found = self.r2[np.isfinite(self.r2)]
        median = f"median r2 {np.median(found):.3f}" if len(found) else "no r2"
        counts = f"{self.partners.sum():,} synapses, {self.left_out.sum():,} left out"
        return f"WeightRegression({len(self.unit):,} units, {median}, {counts})"

    def to_pandas(self) -> Any:
        """The table as a DataFrame, a row for each unit, with its id as index."""
        columns = {name: getattr(self, name) for name in ("r2", "samples", "partners", "left_out")}
        return need("pandas", "data frames").DataFrame(columns, index=list(self.unit_id))


@torch.no_grad()
@ordinary_tensors()
def regress_weights(
    net: mRNNBase, recorded: Recorded, inputs: Tensor | None = None, *, stim_input: Tensor | None = None,
    ridge: float = 1e-6, unrecorded: str = "refuse",
) -> WeightRegression:
    """Set the weights of a network to those that explain a recording of its units best, unit by unit.

        x[t+1] - (1 - alpha) x[t] = alpha (sum_j w_ij h_j[t] + sum_k w_ik u_k[t] + b_i + stim_i[t])

    For each unit i, the weights of its synapses minimise the mean squared difference of both sides, divided
    by alpha, plus the ridge penalty. Under Dale's law they are held to the sign of their source. What is
    frozen stays as it is, and is taken into account; so are delays. Biases with ``learnable_bias="unit"`` are
    fitted, too.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Its weights are changed, all of them or, if there is an error, none.
    recorded : Recorded
        Units at every time step: its interval is the net's dt. Of h, from which x follows where the
        activation can be inverted, or of x. Samples that tell no x (a relu at 0, a tanh at 1) count as
        missing for the unit itself, and as activity for its targets.
    inputs : Tensor, laid out as for ``forward``, optional
        From the first time step of a trial on; needed if the network has input synapses.
    stim_input : Tensor, laid out as for ``forward``, optional
        Current into the units that is known.
    ridge : float
        Penalty on the squared weights of synapses, as a share of the mean square of a unit's regressors. With
        0, dependent partners are refused.
    unrecorded : {"refuse", "leave out"}
        What to do about synapses from units that were not measured. Left out, they keep their weights, which
        the fit of the others takes no account of.

    Returns
    -------
    WeightRegression

    Raises
    ------
    TrainingError
        If the recording does not fit: another interval, means of regions, a calcium kernel, too few samples
        of a unit, partners that were not measured or, without a ridge, that depend on each other; or if the
        network has trained low-rank projections, shared gains or biases of regions, which are not of one
        unit. The message names the unit or the projection.
    ShapeError
        If inputs or stim_input have another shape.
    UnknownNameError
        If a channel is not in the network.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 20); g.add_projection("a", "a", fan_in=5)
    >>> true, net = (sm.mRNN(g, "tanh", seed=0, dtype=torch.float64, device="cpu") for _ in range(2))
    >>> _ = true.rec.values.data.mul_(3), net.rec.values.data.fill_(0)
    >>> x, h = true(torch.zeros(4, 50, 0).double(), torch.randn(4, 20).double())
    >>> regress_weights(net, Recorded(h, true.unit_ids, interval=10.0), ridge=0)
    WeightRegression(20 units, median r2 1.000, 100 synapses, 0 left out)
    >>> bool((net.rec.values - true.rec.values).abs().max() < 1e-6)
    True
    """
    penalty = float(real_number(ridge, "regress_weights: ridge", TrainingError))
    if penalty < 0:
        raise TrainingError(f"regress_weights: ridge is {ridge!r}; it must not be negative.")
    leave_out = option(unrecorded, ("refuse", "leave out"), "unrecorded", TrainingError) == "leave out"
    _check_parameters(net)
    data = Samples(net, recorded, inputs, stim_input)
    table = Regressors(net, data, leave_out)
    n = data.n
    weight, r2 = table.weight.clone(), table.weight.new_full((n,), torch.nan)
    samples = torch.zeros(n, dtype=torch.int64, device=weight.device)
    for units in table.batches(data.units, data.activity.shape[1]):
        part = table.of(units)
        found, r2[units], samples[units] = _fit(net, data, part, units, penalty)
        there = part.entry >= 0
        weight[part.entry[there]] = found[there]
    _write(net, table, weight)
    free = torch.bincount(table.target[~table.fixed & (table.origin > 0)], minlength=n)
    units, every = data.units.cpu(), net.unit_ids
    return WeightRegression(
        unit=units.numpy(),
        unit_id=tuple(every[k] for k in units.tolist()),
        r2=r2[data.units].cpu().numpy(),
        samples=samples[data.units].cpu().numpy(),
        partners=free[data.units].cpu().numpy(),
        left_out=table.left_out[data.units].cpu().numpy(),
    )


def _fit(
    net: mRNNBase, data: Samples, part: Part, units: Tensor, ridge: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit some units: their weights, shape (units, k), r2, and how many time steps they could use."""
    gram, moment, square, samples = moments(data, part, units)
    if bool((samples == 0).any()):
        unit = net.unit_ids[int(units[samples == 0][0])]
        what = f"unit {unit!r} has no time step at which its state, the one before and all partners are known"
        raise TrainingError(f"regress_weights: {what}; leave it out of the recording.")
    scale = samples[:, None].double()
    gram, moment, square = gram / scale[..., None], moment / scale, square / scale[:, 0]
    free = ~part.fixed
    own = gram * (free[:, :, None] & free[:, None])
    left = (moment - (gram @ (part.weight * part.fixed)[..., None])[..., 0]) * free
    synapse = free & (part.source != data.one)
    if ridge == 0:
        _check_independent(net, data, part, units, own, samples)
    else:
        mean = torch.diagonal(own, dim1=1, dim2=2).mul(synapse).sum(1) / synapse.sum(1).clamp(min=1)
        own = own + torch.diag_embed(ridge * mean[:, None] * synapse)
    weight, solved = signed_least_squares(own, left, part.sign)
    if not bool(solved.all()):
        unit = net.unit_ids[int(units[~solved][0])]
        what = f"the partners of unit {unit!r} are too nearly dependent for its weights to be found"
        raise TrainingError(f"regress_weights: {what}; use a larger ridge than {ridge:g}.")
    weight = torch.where(free, weight, part.weight)
    error = square - 2 * (moment * weight).sum(1) + (weight * (gram @ weight[..., None])[..., 0]).sum(1)
    variance = square - moment[:, 0].square()  # the first regressor is 1
    r2 = torch.where(variance > 1e-12 * square, 1 - error.clamp(min=0) / variance, torch.nan)
    return weight, r2, samples


def _check_independent(
    net: mRNNBase, data: Samples, part: Part, units: Tensor, gram: Tensor, samples: Tensor
) -> None:
    """Refuse partners that depend on each other, naming them."""
    free = ~part.fixed
    bad = dependent_regressor(gram + torch.diag_embed(part.fixed.double()))
    if not bool((bad >= 0).any()):
        return
    k = int((bad >= 0).int().argmax())
    source = int(part.source[k, bad[k]])
    names = [*net.unit_ids, *net.layout("input").unit_ids, "the tonic input"]
    values = data.activity[source, data.known[source]]
    if int(samples[k]) < int(free[k].sum()):
        why = f"{int(samples[k])} usable time steps for {int(free[k].sum())} weights"
    elif source < data.one and bool(values.max() == values.min()):
        why = f"its partner {names[source]!r} is constant"
    else:
        why = f"its partner {names[source]!r} is a sum of the other partners at all times"
    advice = "give a ridge, or leave out what is not needed"
    raise TrainingError(f"regress_weights: unit {net.unit_ids[int(units[k])]!r}: {why}; {advice}.")


def _check_parameters(net: mRNNBase) -> None:
    """Refuse trained parameters that several units have in common, and currents from states."""
    why = "its current is of states, which recordings do not have; use fit"
    refuse_electrical(net.electrical, "regress_weights", why, TrainingError)
    for part in net.weight_matrices():
        if part.low_rank is not None:
            what = f"{labels(part.low_rank.names)} has low rank, which is not linear in its parameters"
            raise TrainingError(f"regress_weights: {what}; use fit.")
        shared = [name for name in part.projections if part.is_shared(name) and part.is_trainable(name)]
        if shared:
            what = f"synapses of {labels(shared)} share gains, which several units have in common"
            raise TrainingError(f"regress_weights: {what}; freeze it, or use fit.")
    for region in net.layout().regions:
        if region.learnt_by("learnable_bias") == "region":
            what = f"region {region.name!r} has one learnt bias for all its units"
            raise TrainingError(f"regress_weights: {what}; declare learnable_bias='unit', or use fit.")


def _write(net: mRNNBase, table: Regressors, weight: Tensor) -> None:
    """Set the parameters to what was found."""
    parameters = [net.bias, *(part.values for part in net.weight_matrices())]
    for number, parameter in enumerate(parameters):
        chosen = (table.origin == number) & ~table.fixed
        if parameter is None or not bool(chosen.any()):
            continue
        place = table.place[chosen]
        if number == 0:
            slot = torch.zeros(net.layout().n, dtype=torch.int64, device=place.device)
            slot[net.bias_units] = net.bias_of
            place = slot[place]
        parameter[place] = weight[chosen].to(parameter.dtype)
