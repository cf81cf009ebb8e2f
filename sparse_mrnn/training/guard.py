"""Find where NaN or infinity first appear: step and region of a state, projection of a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import DivergenceError, ShapeError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.select import OwnedParameter, labels, owned_parameters


@torch.no_grad()
def check_finite(net: mRNNBase, states: Tensor, name: str = "h", *, hint: str = "") -> None:
    """Raise if a state is NaN or infinite, naming the first step and the regions concerned.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    states : Tensor, shape (batch, time, units), or (time, batch, units) without batch_first
        x or h as ``forward`` returns them, or a gradient laid out like them.
    name : str
        Name of the states in the message.
    hint : str
        A closing sentence for the message.

    Raises
    ------
    DivergenceError
        With ``step`` (from 0), ``time`` in ms after that step, and ``region``, the first of them.
    ShapeError
        If the tensor does not have three dimensions with the units last.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_region("b", 1)
    >>> h = torch.zeros(1, 5, 3); h[0, 3, 2] = float("nan")
    >>> check_finite(sm.mRNN(g, device="cpu"), h)
    Traceback (most recent call last):
    sparse_mrnn.errors.DivergenceError: h is NaN at step 3 (40 ms) in region 'b' (1 of 1 units, trial 0).
    """
    layout = net.layout()
    if states.dim() != 3 or states.shape[-1] != layout.n:
        expected = f"expected three dimensions, {layout.n} units last"
        raise ShapeError(f"check_finite: {name} has shape {tuple(states.shape)}; {expected}.")
    if bool(torch.isfinite(states.sum())):  # one pass without a copy; an overflowing sum is looked at below
        return
    states = states if net.batch_first else states.transpose(0, 1)
    bad = ~torch.isfinite(states)
    if not bool(bad.any()):
        return
    step = int(bad.any(2).any(0).nonzero()[0])
    bad = bad[:, step]
    trial, unit = bad.nonzero()[0].tolist()
    kind = "NaN" if torch.isnan(states[trial, step, unit]) else "infinite"
    numbers = _region_numbers(layout, bad.any(0).nonzero()[:, 0])
    regions = [layout.regions[k] for k in torch.unique(numbers).tolist()]
    region, count = regions[0], int((numbers == numbers[0]).sum())
    others = ", ".join(repr(r.name) for r in regions[1:4]) + (", ..." if len(regions) > 4 else "")
    where = f"{count} of {region.n} units, trial {trial}" + (f", also in {others}" if others else "")
    time = (step + 1) * net.dt
    message = f"{name} is {kind} at step {step} ({time:g} ms) in region {region.name!r} ({where})."
    raise DivergenceError(f"{message} {hint}".rstrip(), time, region.name, step=step)


def _region_numbers(layout: Layout, units: Tensor) -> Tensor:
    return torch.searchsorted(torch.from_numpy(layout.ptr[1:]), units.cpu(), right=True)


@contextmanager
def detect_nan(net: mRNNBase) -> Iterator[None]:
    """Within the context, ``forward`` and ``backward`` raise where NaN or infinity first appears.

    In ``forward``: inputs and weights that are not finite already, then the first step and the region of a
    state. In ``backward``: the step and region where the gradient of the loss is not finite, then the
    projection whose gradient is not. Costs one pass over the states and weights per run.

    Parameters
    ----------
    net : mRNN or ElmanmRNN

    Raises
    ------
    DivergenceError
        From ``forward`` or ``backward``. It has ``step``, ``time`` and ``region``, or ``projection``.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=1.0)
    >>> g.add_projection("a", "a", initializer=sm.Constant(1e30))
    >>> net = sm.mRNN(g, device="cpu")
    >>> with detect_nan(net):
    ...     x, h = net(torch.zeros(1, 9, 0), *net.batched_initial_condition(1))
    Traceback (most recent call last):
    sparse_mrnn.errors.DivergenceError: x is infinite at step 2 (30 ms) in region 'a' (2 of 2 units, \
trial 0). The weights are finite, so the dynamics grow: a smaller spectral_radius, learning rate or dt, or a \
bounded activation, keeps them.
    """
    handles: list[RemovableHandle] = [
        net.register_forward_pre_hook(_check_arguments, with_kwargs=True),
        net.register_forward_hook(_check_outputs),
    ]
    for part in net.weight_matrices():
        if part.values.requires_grad:
            check = partial(_check_projections, part, "the gradient of", GROWN)
            handles.append(part.values.register_hook(check))  # type: ignore[no-untyped-call]
    for owned in owned_parameters(net, synapses=False):
        if owned.parameter.requires_grad:
            check = partial(_check_parameter, f"the gradient of the {owned.what}", owned)
            handles.append(owned.parameter.register_hook(check))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


GROWING = "The weights are finite, so the dynamics grow: \
a smaller spectral_radius, learning rate or dt, or a bounded activation, keeps them."
GROWN = "It grew too large on its way back through time: \
a shorter truncated window or a smaller spectral radius helps."
NOT_FINITE_LOSS = "The loss made it so: \
look for a division by zero, or a square root or logarithm at zero."


def _check_arguments(net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for part in net.weight_matrices():
        values = part.all_values().detach()
        _check_projections(part, "the weights of", "An earlier step made them so.", values)
    for owned in owned_parameters(net, synapses=False):
        _check_parameter(f"the learnt {owned.what}", owned, owned.parameter.detach())
    inp = args[0] if args else kwargs.get("inp")
    if isinstance(inp, Tensor) and inp.dim() == 3 and not bool(torch.isfinite(inp.detach().sum())):
        bad = ~torch.isfinite(inp.detach() if net.batch_first else inp.detach().transpose(0, 1))
        if bool(bad.any()):
            step = int(bad.any(2).any(0).nonzero()[0])
            channel = bad[:, step].any(0).nonzero()[0]
            layout = net.layout("input")
            name = layout.regions[int(_region_numbers(layout, channel))].name
            where = f"at step {step} in input {name!r}, channel {int(channel)}"
            raise DivergenceError(f"inp is not finite {where}.", region=name, step=step)


def _check_outputs(net: Any, args: tuple[Any, ...], output: Any) -> None:
    named = {"x": output[0], "h": output[1]} if isinstance(output, tuple) else {"h": output}
    for name, states in named.items():
        check_finite(net, states.detach(), name, hint=GROWING)
        if states.requires_grad:
            what = f"the gradient of the loss with respect to {name}"
            states.register_hook(partial(check_finite, net, name=what, hint=NOT_FINITE_LOSS))


def _check_projections(part: SparseWeights, what: str, cause: str, values: Tensor) -> None:
    if bool(torch.isfinite(values.sum())):
        return
    bad = (~torch.isfinite(values)).nonzero()[:, 0]
    if len(bad) == 0:
        return
    found = torch.unique(torch.searchsorted(part.ptr[1:], bad, right=True)).tolist()
    names = [part.projections[k] for k in found]
    shown = labels(names)
    are = "is" if what.startswith("the gradient") else "are"
    raise DivergenceError(
        f"{what} {shown} {are} not finite ({len(bad)} of {len(values)} synapses). {cause}",
        region=names[0][1],
        projection=names[0],
    )


def _check_parameter(what: str, owned: OwnedParameter, values: Tensor) -> None:
    bad = (~torch.isfinite(values)).flatten().nonzero()[:, 0]
    if len(bad):
        owner = owned.owners[int(owned.index[int(bad[0])])]
        if len(owner) == 1:
            where, region = f"region {owner[0]!r}", owner[0]
        else:
            where, region = projection_label(*owner), owner[1]
        raise DivergenceError(f"{what} is not finite in {where}.", region=region)
