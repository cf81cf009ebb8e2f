"""The five activation functions with their derivatives, and functions of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparse_mrnn.checks import option
from sparse_mrnn.errors import ActivationError
from sparse_mrnn.ops.torch_modes import ordinary_tensors


def linear(x: Tensor) -> Tensor:
    """Return x unchanged: the activation of a linear network.

    Parameters
    ----------
    x : Tensor
        Of any shape.

    Examples
    --------
    >>> import torch
    >>> linear(torch.tensor([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return x


@dataclass(frozen=True)
class Activation:
    """A pointwise function h = f(x), and its derivative where the recurrence's own backward pass can use it.

    ``apply_to(x, out)`` writes f(x) and ``slope_into(g, h, scratch)`` multiplies g by f'(x), with h = f(x);
    scratch, of the shape of g, may be overwritten. Neither allocates. A function of the user's has no
    ``slope_into`` and is differentiated by autograd.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    apply_to: Callable[[Tensor, Tensor], object]
    slope_into: Callable[[Tensor, Tensor, Tensor], object] | None
    learnt: tuple[Tensor, ...] = ()  # tensors inside it that need a gradient
    of_units: tuple[Activation, Tensor, Tensor] | None = None  # the arguments of `with_values`

    def __call__(self, x: Tensor) -> Tensor:
        """f(x); differentiable."""
        return self.function(x)

    def __reduce__(self) -> tuple[Callable[..., Activation], tuple[object, ...]]:
        """Copies and pickles are made anew by name, or from the user's function."""
        if self.of_units is not None:
            return with_values, self.of_units
        if self.slope_into is None:
            return custom_activation, (self.function,)
        return get_activation, (self.name,)

    def bound(self) -> Activation:
        """Bind a module of the user's to its parameters as they are now, so that all of a pass uses these."""
        module = self.function
        if not isinstance(module, nn.Module):
            return self
        own: dict[str, Tensor] = dict(module.named_parameters())
        if not torch.is_grad_enabled():  # analysis differentiates in the states alone
            own = {name: p.detach() for name, p in own.items()}

        def function(x: Tensor) -> Tensor:
            found: Tensor = functional_call(module, {name: p.to(x.dtype) for name, p in own.items()}, x)
            return found

        return _by_autograd(self.name, function, tuple(own.values()))


_aten = torch.ops.aten
ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation(
            "relu",
            torch.relu,
            lambda x, out: torch.clamp(x, min=0, out=out),
            lambda g, h, scratch: _aten.threshold_backward.grad_input(g, h, 0, grad_input=g),
        ),
        Activation(
            "tanh",
            torch.tanh,
            lambda x, out: torch.tanh(x, out=out),
            lambda g, h, scratch: _aten.tanh_backward.grad_input(g, h, grad_input=g),
        ),
        Activation(
            "sigmoid",
            torch.sigmoid,
            lambda x, out: torch.sigmoid(x, out=out),
            lambda g, h, scratch: _aten.sigmoid_backward.grad_input(g, h, grad_input=g),
        ),
        Activation(
            "softplus",
            torch.nn.functional.softplus,
            lambda x, out: _aten.softplus.out(x, out=out),
            # sigmoid(x) = 1 - exp(-softplus(x))
            lambda g, h, scratch: g.mul_(torch.neg(h, out=scratch).expm1_().neg_()),
        ),
        Activation("linear", linear, lambda x, out: out.copy_(x), lambda g, h, scratch: g),
    )
}


def _by_autograd(name: str, function: Callable[[Tensor], Tensor], learnt: tuple[Tensor, ...]) -> Activation:
    return Activation(name, function, lambda x, out: out.copy_(function(x)), None, learnt)


@ordinary_tensors()
def custom_activation(function: Callable[[Tensor], Tensor]) -> Activation:
    """Wrap a function or module of the user's, which must be pointwise and differentiable by autograd.

    An ActivationError says if it fails on a tensor, changes its shape or dtype, gives an entry another value
    beside others than alone (softmax, dropout), or autograd cannot differentiate it.

    Examples
    --------
    >>> custom_activation(torch.sin).function(torch.zeros(2))
    tensor([0., 0.])
    """
    name = getattr(function, "__name__", type(function).__name__)
    own = function.parameters() if isinstance(function, nn.Module) else iter(())
    like = next(own, torch.empty(0, dtype=torch.float64)).detach()
    with torch.enable_grad():
        x = torch.linspace(-2, 2, 20).to(like).view(5, 4).requires_grad_()
        h = _called(name, function, x)
    if not isinstance(h, Tensor) or h.shape != x.shape or h.dtype != x.dtype:
        got = f"{tuple(h.shape)}, {h.dtype}" if isinstance(h, Tensor) else type(h).__name__
        made = f"a tensor of shape (5, 4), {x.dtype} became {got}"
        raise ActivationError(f"activation {name!r} is not pointwise: {made}.")
    if not h.requires_grad:
        raise ActivationError(
            f"activation {name!r} is not differentiable: its result has no gradient. Use torch functions "
            "inside, without detach or numpy."
        )
    with torch.no_grad():
        alone = [_called(name, function, entry.view(1, 1)).view(()) for entry in x.flatten()]
    if not torch.allclose(torch.stack(alone), h.flatten(), rtol=1e-4, equal_nan=True):
        raise ActivationError(
            f"activation {name!r} is not pointwise: a unit's activity depends on other units, other trials "
            "or chance. Use a function of each entry alone."
        )
    return _by_autograd(name, function, tuple(leaf for leaf in _leaves(h) if leaf is not x))


def _called(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    try:  # a module as `bound` calls it, so that one that cannot be (TorchScript) is refused here
        called = functional_call(function, {}, (x,)) if isinstance(function, nn.Module) else function(x)
        return called  # type: ignore[no-any-return]
    except Exception as error:
        raise ActivationError(f"activation {name!r} fails on a tensor {tuple(x.shape)}: {error}") from error


def _leaves(result: Tensor) -> list[Tensor]:
    """The leaf tensors that a result was computed from, in the order that autograd's graph meets them."""
    found: dict[int, Tensor] = {}
    nodes, seen = [result.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.setdefault(id(node.variable), node.variable)
        nodes += [following for following, _ in node.next_functions]
    return list(found.values())


def with_values(activation: Activation, gain: Tensor, threshold: Tensor) -> Activation:
    """Make f(gain (x - threshold)) of f, for units that each have both, of shape (units,).

    Their gradients are those of the tensors, if these need any.

    Examples
    --------
    >>> shifted = with_values(get_activation("relu"), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]))
    >>> shifted(torch.tensor([[3.0], [3.0]])).tolist()
    [[3.0], [4.0]]
    """

    def within(x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.dim() - 1))
        return gain.view(shape) * (x - threshold.view(shape))

    def function(x: Tensor) -> Tensor:
        return activation.function(within(x))

    def apply_to(x: Tensor, out: Tensor) -> None:
        torch.sub(x, threshold[:, None], out=out).mul_(gain[:, None])
        activation.apply_to(out, out)

    name, of_units = f"{activation.name} with a gain and a threshold", (activation, gain, threshold)
    learnt = (*activation.learnt, *(t for t in (gain, threshold) if t.requires_grad))
    known = activation.slope_into
    if learnt or known is None:
        return replace(_by_autograd(name, function, learnt), of_units=of_units)

    def slope_into(g: Tensor, h: Tensor, scratch: Tensor) -> None:
        known(g, h, scratch)
        g.mul_(gain[:, None])

    return Activation(name, function, apply_to, slope_into, of_units=of_units)


def get_activation(name: str, where: str = "") -> Activation:
    """Look an activation up by name, without case.

    Examples
    --------
    >>> get_activation("relu").function(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    what = f"{where}: activation" if where else "activation"
    return ACTIVATIONS[option(name, ACTIVATIONS, what, ActivationError)]


@dataclass(frozen=True)
class ActivationSegments:
    """The activation of each range of units: (start, stop, activation), covering all units."""

    parts: tuple[tuple[int, int, Activation], ...]

    @property
    def has_derivatives(self) -> bool:
        """True if every derivative is known, so that the recurrence can use its own backward pass."""
        return all(a.slope_into is not None for _, _, a in self.parts)

    def among(self, units: Tensor) -> ActivationSegments:
        """Select some units, ascending."""
        parts = []
        for start, stop, activation in self.parts:
            first, last = torch.searchsorted(units, torch.tensor([start, stop], device=units.device)).tolist()
            if last > first:
                if activation.of_units is not None:
                    base, *values = activation.of_units
                    activation = with_values(base, *(v[units[first:last] - start] for v in values))
                parts.append((first, last, activation))
        return ActivationSegments(tuple(parts))

    def apply(self, x: Tensor) -> Tensor:
        """h = f(x) for x of shape (units, ...); differentiable."""
        if len(self.parts) == 1:
            return self.parts[0][2].function(x)
        return torch.cat([a.function(x[start:stop]) for start, stop, a in self.parts])

    def apply_to(self, x: Tensor, out: Tensor) -> None:
        """out = f(x)."""
        if len(self.parts) == 1 and self.parts[0][:2] == (0, len(x)):  # views would take as long as f itself
            self.parts[0][2].apply_to(x, out)
            return
        for start, stop, activation in self.parts:
            activation.apply_to(x[start:stop], out[start:stop])

    def pull_back(
        self, g: Tensor, h: Tensor, x: Tensor | None, scratch: Tensor
    ) -> list[tuple[Tensor, Tensor | None]]:
        """g = g f'(x), where h = f(x), in place; functions of the user's need x. ``scratch`` is like g.

        Returns the gradients of the tensors inside such functions; a tensor may come more than once.
        """
        found: list[tuple[Tensor, Tensor | None]] = []
        for start, stop, activation in self.parts:
            if activation.slope_into is not None:
                activation.slope_into(g[start:stop], h[start:stop], scratch[start:stop])
                continue
            if x is None:
                raise ActivationError(f"the derivative of activation {activation.name!r} needs x")
            with torch.enable_grad():
                at = x[start:stop].detach().requires_grad_()
                out = activation.function(at)
            learnt = [t for t in activation.learnt if t.requires_grad]
            # The tensors of a closure may have a graph of their own, which the next step needs, too.
            of_x, *of_learnt = torch.autograd.grad(
                out, (at, *learnt), g[start:stop], allow_unused=True, retain_graph=bool(learnt)
            )
            g[start:stop] = 0 if of_x is None else of_x
            found += zip(learnt, of_learnt, strict=True)
        return found

    def slope(self, x: Tensor) -> Tensor:
        """f'(x), by autograd."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.apply(at).sum(), at)
        return slope

    @property
    def learnt(self) -> dict[str, Tensor]:
        """Tensors inside functions of the user's that need a gradient, each once."""
        tensors = {id(t): t for _, _, a in self.parts for t in a.learnt if t.requires_grad}
        return {f"activation {k}": t for k, t in enumerate(tensors.values())}
