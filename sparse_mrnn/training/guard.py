"""Finding NaN and infinity where they first appear: the step and region of a state, the projection of a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparse_mrnn.errors import DivergenceError, ShapeError
from sparse_mrnn.graph import projection_label
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.weights import SparseWeights


@torch.no_grad()
def check_finite(net: mRNNBase, states: Tensor, name: str = "h", *, hint: str = "") -> None:
    """Raise where a state is NaN or infinite, naming the first step and the regions concerned.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    states : Tensor, shape (batch, time, units), or (time, batch, units) without batch_first
        x or h as ``forward`` returns them, or a gradient laid out like them.
    name : str
        What the message calls it.
    hint : str
        A closing sentence for the message.

    Raises
    ------
    DivergenceError
        With ``step`` (from 0), ``time`` in ms after that step (leaky nets), and ``region``, the first of them.
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
        raise ShapeError(f"check_finite: {name} has shape {tuple(states.shape)}; expected three dimensions, {layout.n} units last.")
    if bool(torch.isfinite(states.sum())):  # one pass without a copy; an overflowing sum is looked at below
        return
    bad = ~torch.isfinite(states if net.batch_first else states.transpose(0, 1))
    if not bool(bad.any()):
        return
    step = int(bad.any(2).any(0).nonzero()[0])
    trials, units = bad[:, step].any(1).nonzero()[:, 0], bad[:, step].any(0).nonzero()[:, 0].cpu()
    of_unit = torch.searchsorted(torch.from_numpy(layout.ptr[1:]), units, right=True)
    regions = [layout.regions[k] for k in torch.unique(of_unit).tolist()]
    region, count = regions[0], int((of_unit == of_unit[0]).sum())
    value = states[trials[0], step, units[0]] if net.batch_first else states[step, trials[0], units[0]]
    dt = getattr(net, "dt", None)
    time = None if dt is None else (step + 1) * dt
    also = f", also in {', '.join(repr(r.name) for r in regions[1:4])}{', ...' if len(regions) > 4 else ''}" if len(regions) > 1 else ""
    raise DivergenceError(
        f"{name} is {'NaN' if torch.isnan(value) else 'infinite'} at step {step}{'' if time is None else f' ({time:g} ms)'} "
        f"in region {region.name!r} ({count} of {region.n} units, trial {int(trials[0])}{also}).{' ' if hint else ''}{hint}",
        time,
        region.name,
        step=step,
    )


@contextmanager
def detect_nan(net: mRNNBase) -> Iterator[None]:
    """Within the context, ``forward`` and ``backward`` of a network raise where the first NaN or infinity appears.

    In ``forward``: inputs and weights that are not finite already, then the first step and the region of a state.
    In ``backward``: the step and region where the loss hands over a gradient that is not finite, then the projection
    whose gradient is not. Costs one pass over the states and weights per run.

    Raises
    ------
    DivergenceError
        From ``forward`` or ``backward``. It has ``step``, ``time`` and ``region``, or ``projection``.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=1.0); g.add_projection("a", "a", initializer=sm.Constant(1e30))
    >>> net = sm.mRNN(g, device="cpu")
    >>> with detect_nan(net):
    ...     x, h = net(torch.zeros(1, 9, 0), *net.batched_initial_condition(1))
    Traceback (most recent call last):
    sparse_mrnn.errors.DivergenceError: x is infinite at step 2 (30 ms) in region 'a' (2 of 2 units, trial 0). The weights are finite, \
so the dynamics grow: a smaller spectral_radius, learning rate or dt, or a bounded activation, keeps them.
    """
    handles: list[RemovableHandle] = [
        net.register_forward_pre_hook(_check_arguments, with_kwargs=True),
        net.register_forward_hook(_check_outputs),
    ]
    for part in net.weight_matrices():
        if part.values.requires_grad:
            handles.append(part.values.register_hook(_gradient_check(part)))  # type: ignore[no-untyped-call]
    if net.bias is not None:
        handles.append(net.bias.register_hook(lambda gradient: _check_bias(net, gradient, "the gradient of the bias")))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


GROWING = (
    "The weights are finite, so the dynamics grow: a smaller spectral_radius, learning rate or dt, or a bounded activation, keeps them."
)


def _check_arguments(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not isinstance(net, mRNNBase):
        return
    for part in net.weight_matrices():
        _check_projections(part, part.all_values().detach(), "the weights of", "An earlier step made them so")
    if net.bias is not None:
        _check_bias(net, net.bias.detach(), "the learnt bias")
    inp = args[0] if args else kwargs.get("inp")
    if isinstance(inp, Tensor) and inp.dim() == 3 and not bool(torch.isfinite(inp.detach().sum())):
        bad = ~torch.isfinite(inp.detach() if net.batch_first else inp.detach().transpose(0, 1))
        if bool(bad.any()):
            step = int(bad.any(2).any(0).nonzero()[0])
            channel = int(bad[:, step].any(0).nonzero()[0])
            layout = net.layout("input")
            k = int(torch.searchsorted(torch.from_numpy(layout.ptr[1:]), channel, right=True))
            name = layout.regions[k].name
            raise DivergenceError(f"inp is not finite at step {step} in input {name!r}, channel {channel}.", region=name, step=step)


def _check_outputs(net: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    if not isinstance(net, mRNNBase):
        return
    named = {"x": output[0], "h": output[1]} if isinstance(output, tuple) else {"h": output}
    for name, states in named.items():
        check_finite(net, states.detach(), name, hint=GROWING)
        if states.requires_grad:
            states.register_hook(_handed_over(net, name))


def _handed_over(net: mRNNBase, name: str) -> Any:
    def hook(gradient: Tensor) -> None:
        hint = "The loss made it so: look for a division by zero, or a square root or logarithm at zero."
        check_finite(net, gradient, f"the gradient of the loss with respect to {name}", hint=hint)

    return hook


def _gradient_check(part: SparseWeights) -> Any:
    def hook(gradient: Tensor) -> None:
        cause = "It grew too large on its way back through time: a shorter truncated window or a smaller spectral radius helps"
        _check_projections(part, gradient, "the gradient of", cause)

    return hook


def _check_projections(part: SparseWeights, values: Tensor, what: str, cause: str) -> None:
    if bool(torch.isfinite(values.sum())):
        return
    bad = (~torch.isfinite(values)).nonzero()[:, 0]
    if len(bad) == 0:
        return
    found = torch.unique(torch.searchsorted(part.ptr[1:], bad, right=True)).tolist()
    names = [part.projections[k] for k in found]
    shown = ", ".join(projection_label(*name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    raise DivergenceError(
        f"{what} {shown} {'is' if what.startswith('the gradient') else 'are'} not finite ({len(bad)} of {len(values)} synapses). {cause}.",
        region=names[0][1],
        projection=names[0],
    )


def _check_bias(net: mRNNBase, values: Tensor, what: str) -> None:
    bad = (~torch.isfinite(values)).nonzero()[:, 0]
    if len(bad):
        unit = net.bias_units[bad[0]].cpu()
        layout = net.layout()
        name = layout.regions[int(torch.searchsorted(torch.from_numpy(layout.ptr[1:]), unit, right=True))].name
        raise DivergenceError(f"{what} is not finite in region {name!r}.", region=name)
