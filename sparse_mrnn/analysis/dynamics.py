"""A network without noise under constant input, in float64: velocity, step, and products with the Jacobian.

All states are tensors of shape (units, columns), one column per state. The Jacobian is never formed here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.analysis.result import Float
from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import AnalysisError, KinkWarning, ShapeError, UnknownNameError, suggest
from sparse_mrnn.models.delays import has_delays
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.weights import DENSE_LIMIT, SparseWeights
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.electrical import ElectricalPairs
from sparse_mrnn.ops.pattern import Pattern, to_scipy
from sparse_mrnn.ops.step import CONDUCTANCE, Step

KINDS = ("step", "flow")
LU_ENTRIES = 2**22
"""Entries of a batch of dense Jacobians at most."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The dynamics of a network, or of some of its units while the others are held.

        mRNN:       tau dx/dt = v(x) = -x + W f(x) + drive,    x[t+1] = x[t] + alpha v(x[t])
        ElmanmRNN:  h[t+1] = f(W h[t] + drive),                v(h) = f(W h + drive) - h

    The equations are those of the model's `Step`, here in float64; the state is the one it names as its
    coordinate: the pre-activation x, or the activity h. ``values`` are effective weights; ``drive``, shape
    (units, columns) or (units, 1) for all columns, is W_inp u + stim, and what held units send. Each of the
    equation's ``parameters``, tonic input among them, has shape (units, 1), as ``tau``, in ms (of an Elman
    net: one step). ``units`` are their numbers in the network, ascending.
    """

    pattern: Pattern
    values: Tensor
    drive: Tensor
    equation: Step
    parameters: dict[str, Tensor]
    tau: Tensor
    units: Tensor
    electrical: ElectricalCurrents | None = None

    @classmethod
    def of(cls, net: mRNNBase, inputs: Any = None, stim: Any = None, *, what: str = "analysis") -> Dynamics:
        """The dynamics of a whole network; `AnalysisError` if it has delays, or no dynamics.

        ``inputs`` are as for `constant_inputs`; ``stim``, shape (units,) or (columns, units), or a mapping
        from regions to numbers, is current added to the units. Messages call the analysis ``what``.
        """
        if type(net).equation is mRNNBase.equation:
            raise AnalysisError(f"{what}: {type(net).__name__} has no dynamics; use mRNN or ElmanmRNN.")
        if len(net.equation.states) > 1:
            names = ", ".join(net.equation.states)
            raise AnalysisError(f"{what}: a unit of {type(net).__name__} has several states ({names}).")
        rec, inp = net.weights("recurrent"), net.weights("input")
        if has_delays(rec, net.dt):
            raise AnalysisError(
                f"{what}: the network has delays, so its state is more than that of its units. Its fixed "
                "points are those of a copy declared without delays; their stability is not."
            )
        n = rec.shape[0]
        with torch.no_grad():
            drive = _per_unit(net, stim, what)
            u = constant_inputs(net, inputs, what=what)
            drive = drive + Pattern.matrix(*effective_weights(inp, what=what)) @ u
            pattern, values = effective_weights(rec, what=what)
            given = net.step_parameters().items()
            found = {name: p.detach().double() for name, p in given}
            conductance = found.pop(CONDUCTANCE, None)
            parameters = {name: p.expand(n, 1) for name, p in found.items()}
            tau, equation = net.unit_time_constants(), net.equation  # here, it has no gradients of parameters
        every = torch.arange(n, device=net.device)
        electrical = None
        if equation.electrical is not None and conductance is not None:
            electrical = ElectricalCurrents(equation.electrical, conductance, every, None)
        return cls(pattern, values, drive, equation, parameters, tau, every, electrical)

    def restricted(self, units: Tensor, state: Tensor) -> Dynamics:
        """The dynamics of some units while the others keep the activity they have in ``state``."""
        if len(units) == len(self.units):
            return self
        held = torch.ones(len(self.units), dtype=torch.bool, device=units.device)
        held[units] = False
        sent = self.matrix @ (self.activity(state) * held[:, None])
        pattern, entries = self.pattern.submatrix(units, units)
        return replace(
            self,
            pattern=pattern,
            values=self.values[entries],
            drive=(self.drive + sent)[units],
            equation=self.equation.with_activation(self.segments.among(units)),
            parameters={name: p[units] for name, p in self.parameters.items()},
            tau=self.tau[units],
            units=self.units[units],
            electrical=None if self.electrical is None else self.electrical.restricted(units, state),
        )

    def columns(self, index: Tensor) -> Dynamics:
        """The dynamics of some of the columns."""
        electrical = None if self.electrical is None else self.electrical.columns(index)
        drive = self.drive if self.drive.shape[1] == 1 else self.drive[:, index]
        if drive is self.drive and electrical is self.electrical:
            return self
        return replace(self, drive=drive, electrical=electrical)

    @property
    def elman(self) -> bool:
        """True if the state is the activity h; else it is the pre-activation x."""
        return self.equation.coordinate == "h"

    @property
    def segments(self) -> ActivationSegments:
        """The activation of each range of units."""
        return self.equation.activation

    @property
    def alpha(self) -> Tensor:
        """Share of the velocity that a step adds to the state, shape (units, 1)."""
        return self.equation.rates(self.parameters).expand(self.n, 1)

    @property
    def n(self) -> int:
        """Units."""
        return len(self.units)

    @cached_property
    def matrix(self) -> Tensor:
        """W as a CSR tensor."""
        return self.pattern.matrix(self.values)

    @cached_property
    def transposed(self) -> Tensor:
        """W^T as a CSR tensor."""
        pattern, order = self.pattern.transposed
        return pattern.matrix(self.values[order.long()])

    def preactivation(self, state: Tensor) -> Tensor:
        """x of a leaky net; W h + drive of an Elman net."""
        return self.advance(state, state)[0] if self.elman else state

    def activity(self, state: Tensor) -> Tensor:
        """h = f(x) of a leaky net; the state of an Elman net."""
        return state if self.elman else self.equation.activity((state,))

    def current(self, state: Tensor, h: Tensor) -> Tensor:
        """W h + drive, and what electrical synapses bring in this state: what the units receive."""
        received = self.matrix @ h + self.drive
        return received if self.electrical is None else received + self.electrical.current(state)

    def advance(self, state: Tensor, h: Tensor, more: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """x and h one step after a state whose units transmit h and receive ``more`` besides."""
        current = self.current(state, h) + more
        after = self.equation.step((state,), current, self.parameters)
        return after[0], self.equation.activity(after)

    def velocity(self, state: Tensor) -> Tensor:
        """v(state), whose zeros are the fixed points."""
        if self.elman:
            return self.advance(state, state)[1] - state
        current = self._current_at(state)
        return self.equation.velocity((state,), current, self.parameters)[0]

    def step(self, state: Tensor) -> Tensor:
        """The state one time step later."""
        return self.advance(state, self.activity(state))[self.elman]

    def tangent(self, state: Tensor) -> Tangent:
        """Products with the Jacobian of v at every column of ``state``."""
        if self.elman:
            return Tangent(self, -1.0, self.slope(state), None)
        receive = partial(self._current_at, state)
        parts = self.equation.partials((state,), receive, self.parameters)
        return Tangent(self, *parts, None if self.electrical is None else state)

    def _current_at(self, state: Tensor) -> Tensor:
        return self.current(state, self.activity(state))

    def slope(self, state: Tensor) -> Tensor:
        """f'(x) at a state."""
        return self.segments.slope(self.preactivation(state))

    def kinks(self, state: Tensor, width: float = 1e-9) -> Tensor:
        """Mask of the units for which f' differs on the two sides of x, shaped like the state."""
        x = self.preactivation(state)
        return (self.segments.slope(x + width) - self.segments.slope(x - width)).abs() > 1e-3

    def rate(self, kind: str) -> Float:
        """Change per velocity, shape (units,): alpha in a "step"; 1 / tau in the "flow", per ms."""
        if kind not in KINDS:
            raise AnalysisError(f"kind is {kind!r}; use 'step' or 'flow'. {suggest(kind, KINDS)}")
        rate = self.alpha if kind == "step" else 1 / self.tau
        return np.asarray(rate.cpu().numpy()[:, 0])

    def jacobian(self, state: Tensor, kind: str = "step", of: str | None = None) -> sp.csr_array:
        """The Jacobian at a state, shape (units, 1): 1 + alpha (A - 1) of a step, (A - 1) / tau of the flow.

        A is W diag(f') in the coordinates x and diag(f') W in h (``of``; default: those of the state). The
        eigenvalues are the same: dh = f' dx. Electrical synapses add their derivative by x, in which they
        are; `AnalysisError` in the coordinates h, if there are any.
        """
        rate, slope = self.rate(kind), self.slope(state)[:, 0]
        index = self.pattern.col if (of or self.equation.coordinate) == "x" else self.pattern.row
        a = to_scipy(self.pattern.matrix(self.values * slope[index.long()]))
        if self.electrical is not None:
            if index is self.pattern.row:
                what = "electrical synapses exchange current between states x, so the Jacobian is in x"
                raise AnalysisError(f"{what}; ask for it in x.")
            a = a + self.electrical.jacobian(state)
        own = (1.0 if kind == "step" else 0.0) - rate
        return sp.csr_array(sp.diags_array(rate) @ a + sp.diags_array(own))


@dataclass(frozen=True, eq=False)
class ElectricalCurrents:
    """Currents of electrical synapses into some units of a network, in float64.

    ``units`` are their numbers; ``held``, shape (all units, columns or 1), has the states of the others, and
    is None if there are none.
    """

    pairs: ElectricalPairs
    conductance: Tensor
    units: Tensor
    held: Tensor | None

    def restricted(self, units: Tensor, state: Tensor) -> ElectricalCurrents:
        """The currents into some units, while the others are held in ``state``."""
        return replace(self, units=self.units[units], held=self._whole(state))

    def columns(self, index: Any) -> ElectricalCurrents:
        """The currents with the held states of some columns."""
        if self.held is None or self.held.shape[1] == 1:
            return self
        return replace(self, held=self.held[:, index])

    def current(self, state: Tensor) -> Tensor:
        """The current into each unit, shaped like the state."""
        return self._own(self.pairs.bind(self.conductance).current(self._whole(state)))

    def tangent(self, state: Tensor, v: Tensor) -> Tensor:
        """Product of the derivative at each state with a vector, or with several at one state."""
        x = self._whole(state)
        if x.shape[1] == 1:
            x = x.expand(-1, v.shape[1])
        direction = v
        if self.held is not None:
            direction = v.new_zeros(self.pairs.units, v.shape[1])
            direction[self.units] = v
        found = torch.zeros_like(direction)
        self.pairs.bind(self.conductance).pull_back(x, direction.contiguous(), found)
        return self._own(found)

    def jacobian(self, state: Tensor) -> sp.csr_array:
        """The derivative by the states of these units at one state, shape (units, units)."""
        units = self.units.cpu().numpy()
        whole = to_scipy(self.pairs.jacobian(self._whole(state), self.conductance))
        return sp.csr_array(whole if self.held is None else whole[units][:, units])

    def _whole(self, state: Tensor) -> Tensor:
        if self.held is None:
            return state
        columns = max(state.shape[1], self.held.shape[1])
        whole = self.held.expand(-1, columns).clone()
        whole[self.units] = state.expand(-1, columns)
        return whole

    def _own(self, values: Tensor) -> Tensor:
        return values if self.held is None else values[self.units]


@dataclass(frozen=True, eq=False)
class Tangent:
    """Products with the Jacobian of v at every state: diag(into) W diag(out) + diag(own).

    A leaky net has own = -1 and out = f'(x), an Elman net own = -1 and into = f'(W h + drive). Tensors have
    shape (units, columns); None stands for 1.
    """

    dynamics: Dynamics
    own: Tensor | float
    into: Tensor | None
    out: Tensor | None
    state: Tensor | None = None
    """The states, where electrical synapses are."""

    def forward(self, v: Tensor) -> Tensor:
        """J v, for one vector at each state, or for several at one."""
        return self._received(self.dynamics.matrix @ _scaled(self.out, v), v) + self.own * v

    def adjoint(self, v: Tensor) -> Tensor:
        """J^T v."""
        given = _scaled(self.into, v)
        found = _scaled(self.out, self.dynamics.transposed @ given) + self.own * v
        return found if self.state is None else found + self._exchanged(given)

    def _received(self, current: Tensor, v: Tensor) -> Tensor:
        return _scaled(self.into, current if self.state is None else current + self._exchanged(v))

    def _exchanged(self, v: Tensor) -> Tensor:
        """Product of the symmetric derivative of electrical currents with v."""
        electrical, state = self.dynamics.electrical, self.state
        if electrical is None or state is None:
            return torch.zeros_like(v)
        return electrical.tangent(state, v)

    def solve(self, rhs: Tensor) -> Tensor:
        """J^-1 rhs at every column, by LU of dense matrices, some at a time; NaN where one is singular."""
        n = self.dynamics.n
        dense = self.dynamics.matrix.to_dense().cpu().numpy()
        right = rhs.t().cpu().numpy()
        own = (self.own + torch.zeros_like(rhs)).t().cpu().numpy()
        into, out = (None if s is None else s.t().cpu().numpy() for s in (self.into, self.out))
        found = np.full(right.shape, np.nan)
        some = max(1, LU_ENTRIES // n**2)
        for columns in (slice(start, start + some) for start in range(0, len(right), some)):
            jacobian: Any = np.broadcast_to(dense, (len(right[columns]), n, n))
            jacobian = jacobian * (1.0 if out is None else out[columns, None, :])
            if into is not None:
                jacobian *= into[columns, :, None]
            jacobian[:, np.arange(n), np.arange(n)] += own[columns]
            if self.state is not None and self.dynamics.electrical is not None:
                for k, each in enumerate(range(*columns.indices(len(right)))):
                    at = self.state[:, [each if self.state.shape[1] > 1 else 0]]
                    more = self.dynamics.electrical.columns([each]).jacobian(at).toarray()
                    jacobian[k] += more if into is None else into[each, :, None] * more
            with suppress(np.linalg.LinAlgError):  # numpy: a batch takes torch up to twice as long
                found[columns] = np.linalg.solve(jacobian, right[columns, :, None])[:, :, 0]
        return torch.from_numpy(found).t().to(rhs)

    def step(self, v: Tensor) -> Tensor:
        """A deviation one time step later."""
        return v + self.dynamics.alpha * self.forward(v)


def _scaled(by: Tensor | None, v: Tensor) -> Tensor:
    return v if by is None else by * v


def effective_weights(weights: SparseWeights, *, what: str = "analysis") -> tuple[Pattern, Tensor]:
    """Weights in float64, parallel projections added, and those of low rank multiplied out.

    `AnalysisError` if there are projections of low rank, and more units than a dense matrix may have.
    """
    if weights.low_rank is not None:
        if weights.shape[0] * weights.shape[1] > DENSE_LIMIT:
            source, target, key = weights.low_rank.names[0]
            label = projection_label(source, target, key)
            raise AnalysisError(
                f"{what}: {label} has low rank, so the Jacobian is not sparse; a network of up to "
                f"{math.isqrt(DENSE_LIMIT)} units is analysed as a dense one, this has {weights.shape[0]}."
            )
        dense = weights.dense().detach().double()
        row, col = torch.ones_like(dense).nonzero().unbind(1)
        return Pattern.from_coo(row, col, weights.shape)[0], dense.reshape(-1)
    pattern, entry = weights.pattern.unique
    values = weights.csr_values().detach().double()
    if entry is not None:
        values = values.new_zeros(pattern.nnz).index_add(0, entry, values)
    return pattern, values


def constant_inputs(net: mRNNBase, inputs: Any, *, what: str = "analysis") -> Tensor:
    """Inputs that do not change, shape (inputs, columns), float64.

    They are given as shape (inputs,) or (columns, inputs), or as a mapping from input names to a number, or
    to one per channel; by default they are 0.
    """
    layout = net.layout("input")
    if isinstance(inputs, Mapping):
        given = {name: np.atleast_2d(np.asarray(as_tensor(value))) for name, value in inputs.items()}
        inputs = np.zeros((max(map(len, given.values()), default=1), layout.n))
        for name, value in given.items():
            if name not in layout.index:
                hint = suggest(name, layout.index, what="inputs")
                raise UnknownNameError(f"{what}: unknown input {name!r}. {hint}")
            part = inputs[:, layout.slice(name)]
            try:
                part[:] = value
            except ValueError:
                give = f"give one number, or {part.shape[1]}"
                raise ShapeError(f"{what}: input {name!r} has shape {value.shape}; {give}.") from None
    u = torch.zeros(1, layout.n) if inputs is None else as_tensor(inputs)
    u = u[None] if u.dim() == 1 else u
    if u.dim() != 2 or u.shape[1] != layout.n:
        widths = ", ".join(f"{r.name} {r.n}" for r in layout.regions) or "no inputs"
        got = f"inputs have shape {tuple(u.shape)}"
        raise ShapeError(f"{what}: {got}; expected ({layout.n},) or (columns, {layout.n}): {widths}.")
    return u.to(net.device, torch.float64).t().contiguous()


def states(net: mRNNBase, values: Any, name: str, *, what: str = "analysis") -> Tensor:
    """States of a network, given units last, as a float64 tensor of shape (units, columns)."""
    n = net.layout().n
    tensor = as_tensor(values)
    if tensor.dim() == 0 or tensor.shape[-1] != n:
        raise ShapeError(f"{what}: {name} has shape {tuple(tensor.shape)}; expected {n} units last.")
    tensor = tensor.reshape(-1, n).t().to(net.device, torch.float64).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise AnalysisError(f"{what}: {name} has entries that are NaN or infinite.")
    return tensor


def selected_units(net: mRNNBase, regions: Any, *, what: str = "analysis") -> Tensor:
    """Units of some regions or parents (None: all), ascending."""
    if regions is None:
        return torch.arange(net.layout().n, device=net.device)
    names = [regions] if isinstance(regions, str) else list(regions)
    if not names:
        raise AnalysisError(f"{what}: regions is empty; name at least one, or leave it out for all of them.")
    return torch.from_numpy(np.sort(net.layout().indices(*names))).to(net.device)


def as_tensor(values: Any) -> Tensor:
    """A tensor, array, xarray DataArray or list as a detached tensor."""
    if isinstance(values, Tensor):
        return values.detach()
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _per_unit(net: mRNNBase, values: Any, what: str) -> Tensor:
    """A number for every unit, shape (units, columns or 1)."""
    if values is None or isinstance(values, Mapping):
        current = torch.zeros(net.layout().n, dtype=torch.float64)
        for name, value in (values or {}).items():
            units = torch.from_numpy(net.layout().indices(name))
            current[units] = torch.as_tensor(value, dtype=torch.float64)
        values = current
    return states(net, values, "stim", what=what)


def warn_of_kinks(units: str) -> None:
    """Warn that some units, named as the subject of a sentence, have no derivative."""
    one_side = "which has no derivative there; the Jacobian takes the derivative of one side"
    warnings.warn(f"{units} lie at a kink of their activation, {one_side}.", KinkWarning, stacklevel=3)
