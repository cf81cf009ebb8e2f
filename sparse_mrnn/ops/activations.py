"""The five activation functions and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.errors import ActivationError, suggest


def linear(x: Tensor) -> Tensor:
    """Return x unchanged."""
    return x


@dataclass(frozen=True)
class Activation:
    """A pointwise function h = f(x) and its derivative f'(x), given x and h."""

    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("relu", torch.relu, lambda x, h: (x > 0).to(x.dtype)),
        Activation("tanh", torch.tanh, lambda x, h: 1 - h * h),
        Activation("sigmoid", torch.sigmoid, lambda x, h: h * (1 - h)),
        Activation("softplus", torch.nn.functional.softplus, lambda x, h: torch.sigmoid(x)),
        Activation("linear", linear, lambda x, h: torch.ones_like(x)),
    )
}


def get_activation(name: str, where: str = "") -> Activation:
    """Look an activation up by name.

    Raises
    ------
    ActivationError
        If there is none of that name.

    Examples
    --------
    >>> get_activation("relu").function(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if name not in ACTIVATIONS:
        prefix = f"{where}: " if where else ""
        known = ", ".join(ACTIVATIONS)
        raise ActivationError(f"{prefix}unknown activation {name!r} (there are {known}). {suggest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


@dataclass(frozen=True)
class Segments:
    """Which activation applies to which range of units: (start, stop, activation), covering all units."""

    parts: tuple[tuple[int, int, Activation], ...]

    def apply(self, x: Tensor) -> Tensor:
        """h = f(x) for x of shape (units, ...)."""
        if len(self.parts) == 1:
            return self.parts[0][2].function(x)
        return torch.cat([a.function(x[start:stop]) for start, stop, a in self.parts])

    def derivative(self, x: Tensor, h: Tensor) -> Tensor:
        """f'(x) for x and h of shape (units, ...)."""
        if len(self.parts) == 1:
            return self.parts[0][2].derivative(x, h)
        return torch.cat([a.derivative(x[i:j], h[i:j]) for i, j, a in self.parts])
