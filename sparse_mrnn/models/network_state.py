"""NetworkState: all that a network goes on from, with what is under way in its delayed projections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.errors import ConfigError, ShapeError, suggest

PAST = ("past_h", "past_inputs")
"""Names of the past among `NetworkState.tensors`."""


class NetworkState:
    """The states of a network's units, their activity, and the past that its delays still need.

    ``forward``, `sparse_mrnn.simulate` and ``net.step`` take it as the start and return the one to go on
    from: a run in pieces is then the run in one piece, with delays too. ``state.x``, ``state.h`` and any
    other state of the model have shape (batch, units). Without delays it unpacks like the pair of
    ``batched_initial_condition``: ``x, h = state``. A state with a past does not, since the pair is not all
    of it.

    ``state[trials]`` selects trials by number, slice, mask or list, and keeps the dimension of trials.

    Parameters
    ----------
    names : tuple of str
        The states of the model, such as ("x",).
    states : tuple of Tensor, each (units, batch)
    activity : Tensor, shape (units, batch)
        h, which the units transmit.
    past_h : sequence of Tensor, each (units, batch)
        The activity before, the latest first. Earlier than all of it, it was the last one here, or h.
    past_inputs : sequence of Tensor, each (inputs, batch)
        The inputs before, with their noise, the latest first. Earlier than all of them, they were 0.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", delay=30)
    >>> net = sm.mRNN(g, "tanh", device="cpu", seed=0)
    >>> u = torch.zeros(8, 20, 0)
    >>> x, h, state = net(u, return_state=True)
    >>> state
    NetworkState(x, h of 8 trials, 3 units; h of 2 steps before)
    >>> later = net(u, state.detach())
    >>> state[:2].h.shape
    torch.Size([2, 3])
    """

    __slots__ = ("activity", "names", "past_h", "past_inputs", "states")

    def __init__(
        self,
        names: tuple[str, ...],
        states: tuple[Tensor, ...],
        activity: Tensor,
        past_h: Sequence[Tensor] = (),
        past_inputs: Sequence[Tensor] = (),
    ) -> None:
        self.names, self.states, self.activity = names, states, activity
        self.past_h, self.past_inputs = past_h, past_inputs

    @property
    def h(self) -> Tensor:
        """Activity of the units, shape (batch, units)."""
        return self.activity.t()

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name in self.__slots__:
            raise AttributeError(name)
        if name not in self.names:
            hint = suggest(name, (*self.names, "h"), what="states")
            raise AttributeError(f"the state has no {name!r}. {hint}")
        return self.states[self.names.index(name)].t()

    @property
    def past(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Activity and inputs before, in the order of `PAST`."""
        return self.past_h, self.past_inputs

    @property
    def batch(self) -> int:
        """Trials."""
        return self.activity.shape[1]

    def __iter__(self) -> Iterator[Tensor]:
        if self.past_h or self.past_inputs:
            raise ConfigError(
                "this state has a past, which the network's delays need and (x, h) would lose: pass it on as "
                "it is, and read state.x and state.h."
            )
        return iter([*(state.t() for state in self.states), self.activity.t()])

    def __len__(self) -> int:
        return len(self.states) + 1

    def __getitem__(self, trials: Any) -> NetworkState:
        if isinstance(trials, int) and not isinstance(trials, bool):
            trials = [trials]
        try:
            return self._each(lambda t: t[:, trials])
        except (IndexError, TypeError, RuntimeError) as error:
            raise ShapeError(f"state: {trials!r} selects no trials of {self.batch}: {error}") from error

    def __repr__(self) -> str:
        units, batch = self.activity.shape
        text = f"{', '.join([*self.names, 'h'])} of {batch} trials, {units} units"
        for what, steps in zip(("h", "inputs"), self.past, strict=True):
            text += f"; {what} of {len(steps)} steps before" if steps else ""
        return f"NetworkState({text})"

    def _each(self, change: Callable[[Tensor], Tensor]) -> NetworkState:
        """Return the state of changed tensors."""
        states = tuple(map(change, self.states))
        past = [tuple(map(change, steps)) for steps in self.past]
        return NetworkState(self.names, states, change(self.activity), *past)

    def detach(self) -> NetworkState:
        """Return the state without its graph, for truncated backpropagation."""
        return self._each(lambda t: t.detach())

    def clone(self) -> NetworkState:
        """Return a copy; differentiable."""
        return self._each(lambda t: t.clone())

    def to(self, *args: Any, **kwargs: Any) -> NetworkState:
        """Return the state on another device or in another precision; arguments as of ``Tensor.to``."""
        return self._each(lambda t: t.to(*args, **kwargs))

    def where(self, keep: Tensor, other: NetworkState) -> NetworkState:
        """Return this state in the trials of a mask, shape (batch,), and another one in the rest.

        Examples
        --------
        Start trials again that have ended:

        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3, init=1.0); g.add_projection("a", "a")
        >>> net = sm.mRNN(g, device="cpu", seed=0)
        >>> state = net.step(torch.zeros(2, 0))
        >>> state.where(torch.tensor([True, False]), net.initial_state(2)).x[1].tolist()
        [1.0, 1.0, 1.0]
        """
        steps = max(len(self.past_h), len(other.past_h))
        late = max(len(self.past_inputs), len(other.past_inputs))
        channels = next((len(u) for u in (*self.past_inputs, *other.past_inputs)), 0)
        parts = [
            (s.states, (s.activity,), s.h_before(steps), s.inputs_before(late, channels))
            for s in (self, other)
        ]
        states, (h,), *past = (
            tuple(torch.where(keep, a, b) for a, b in zip(own, others, strict=True))
            for own, others in zip(*parts, strict=True)
        )
        return NetworkState(self.names, states, h, *past)

    def h_before(self, steps: int) -> tuple[Tensor, ...]:
        """Return the activity of so many steps before, each (units, batch), the latest first."""
        kept = tuple(self.past_h[:steps])
        return kept + (kept[-1] if kept else self.activity,) * (steps - len(kept))

    def inputs_before(self, steps: int, channels: int) -> tuple[Tensor, ...]:
        """Return the inputs of so many steps before, each (channels, batch), the latest first."""
        kept = tuple(self.past_inputs[:steps])
        if len(kept) == steps:
            return kept
        return kept + (self.activity.new_zeros(channels, self.batch),) * (steps - len(kept))

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name, for ``torch.save``: states and h (batch, units), the past (batch, steps,
        ...), the latest step first."""
        found = {name: state.t() for name, state in zip(self.names, self.states, strict=True)}
        found["h"] = self.h
        for name, steps in zip(PAST, self.past, strict=True):
            if steps:
                found[name] = torch.stack(list(steps)).permute(2, 0, 1)
        return {name: t.contiguous() for name, t in found.items()}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> NetworkState:
        """Return the state that `tensors` has described.

        Raises
        ------
        ShapeError
            If a tensor is missing or of another shape.

        Examples
        --------
        >>> import io, sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", delay=30)
        >>> net = sm.mRNN(g, "tanh", device="cpu", seed=0)
        >>> state, file = net.step(torch.zeros(1, 0)), io.BytesIO()
        >>> torch.save(state.tensors(), file); file.seek(0)
        0
        >>> NetworkState.of(torch.load(file))
        NetworkState(x, h of 1 trials, 3 units; h of 1 steps before)
        """
        names = [name for name in tensors if name not in ("h", *PAST)]
        if "h" not in tensors or not names:
            raise ShapeError(f"state: there are {', '.join(tensors) or 'no tensors'}; give at least x and h.")
        shape = tuple(tensors["h"].shape)
        for name, tensor in tensors.items():
            got, past = tuple(tensor.shape), name in PAST
            alike = got[:1] + got[2:] if name == "past_h" else got[:1] if past else got
            same = alike == shape[: len(alike)]
            if tensor.dim() != 2 + past or len(shape) != 2 or not same:
                expected = "(batch, steps, units or inputs)" if past else "(batch, units)"
                raise ShapeError(f"state: {name} has shape {got} beside h of {shape}; expected {expected}.")
        steps = [tensors[name].permute(1, 2, 0).unbind(0) if name in tensors else () for name in PAST]
        return NetworkState(tuple(names), tuple(tensors[n].t() for n in names), tensors["h"].t(), *steps)

