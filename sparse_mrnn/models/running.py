"""Running a network over a sequence: states, noise, checks of the arguments, and the call of the recurrence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.errors import ConfigError, FinalizeError, ShapeError
from sparse_mrnn.models.delays import delayed_inputs, lags
from sparse_mrnn.models.matrices import WeightMatrices
from sparse_mrnn.models.weights import DENSE_LIMIT, SparseWeights
from sparse_mrnn.ops.activations import Activation, Segments, get_activation
from sparse_mrnn.ops.backends import CsrOperator, DenseOperator, Operator
from sparse_mrnn.ops.backward import grad_columns
from sparse_mrnn.ops.convert import split_sparse
from sparse_mrnn.ops.recurrence import recurrence
from sparse_mrnn.ops.steps import Noise, Plan

DENSE_UNITS, DENSE_FILL, HYBRID_SHARE, HYBRID_SYNAPSES = 100, 0.4, 0.1, 100_000
"""``backend="auto"`` multiplies densely up to this many units; by "hybrid" where dense blocks hold this share of the
synapses, and so many; else densely from this fraction of all entries on (never above `DENSE_LIMIT` entries).
docs/decisions/0002 has the measurements."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes a run needs, by what holds them."""

    weights: int
    pattern: int
    states: int
    training: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.pattern + self.states + self.training


class Running(WeightMatrices):
    """States, noise and the run over a sequence; mixed into `mRNNBase`."""

    activation: Activation
    noise_level_act: float
    noise_level_inp: float
    batch_first: bool
    backend: str
    device: torch.device
    dt: float
    base_alpha: Tensor
    keep_logit: nn.Parameter | None
    alpha_units: Tensor
    alpha_of: Tensor
    base_firing: Tensor
    initial_x: Tensor
    bias: nn.Parameter | None
    bias_units: Tensor
    _has_bias: bool
    _streams: list[np.random.SeedSequence]
    _generators: tuple[torch.Generator, torch.Generator] | None
    _rate: tuple[Tensor, int, float | None] | None = None

    # ---------------------------------------------------------------- state and noise

    @property
    def tonic_inp(self) -> Tensor:
        """Tonic input of every unit, shape (units,), in unit order; differentiable where it is learnt."""
        self._weights("recurrent")
        if self.bias is None:
            return self.base_firing
        return self.base_firing.index_copy(0, self.bias_units, self.bias)

    @property
    def alpha(self) -> Tensor:
        """Share of the state replaced in a step: of every unit, shape (units, 1), or one for all, shape (1, 1).

        Of regions with ``learnable_tau`` it is 1 - sigmoid(keep_logit), one parameter a region, which stays between 0
        and 1 whatever an optimiser does; differentiable.
        """
        self._weights("recurrent")
        if self.keep_logit is None:
            return self.base_alpha
        return self.base_alpha.index_copy(0, self.alpha_units, torch.sigmoid(-self.keep_logit)[self.alpha_of, None])

    @property
    def initial_condition(self) -> Tensor:
        """Initial pre-activation of every unit, shape (units,)."""
        self._weights("recurrent")
        return self.initial_x

    def batched_initial_condition(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Initial states ``(x0, h0)``, each (batch, units), with h0 = activation(x0)."""
        if batch_size < 1:
            raise ShapeError(f"batch_size is {batch_size}; it must be at least 1.")
        x0 = self.initial_condition.repeat(batch_size, 1)
        return x0, self._segments.apply(x0.t()).t()

    @property
    def _segments(self) -> Segments:
        parts: list[tuple[int, int, Activation]] = []
        for region in self.layout().regions:
            activation = self.activation if region.activation is None else get_activation(region.activation)
            start = parts[-1][1] if parts else 0
            if parts and parts[-1][2] is activation:
                parts[-1] = (parts[-1][0], start + region.n, activation)
            else:
                parts.append((start, start + region.n, activation))
        return Segments(tuple(parts))

    @property
    def hid_noise_const(self) -> float | Tensor:
        """Standard deviation of the unit noise, sqrt(2 alpha) * noise_level_act / alpha; per unit if regions differ.

        Not differentiated: a learnt alpha gets no gradient from how much noise it lets in.
        """
        alpha, rate = self.alpha.detach(), self._fixed_rate()
        regions = self.layout().regions
        if rate is not None and all(r.noise_level is None for r in regions):
            return math.sqrt(2 * rate) * self.noise_level_act / rate
        levels = [(self.noise_level_act if r.noise_level is None else r.noise_level, r.n) for r in regions]
        level = torch.cat([alpha.new_full((n, 1), value) for value, n in levels])
        return (torch.sqrt(2 * alpha) * level / alpha)[:, 0]

    @property
    def inp_noise_const(self) -> float:
        """Standard deviation of the input noise, sqrt(2 alpha) * noise_level_inp / alpha, with the network's alpha."""
        alpha = self._net_alpha
        return math.sqrt(2 * alpha) * self.noise_level_inp / alpha

    @property
    def _net_alpha(self) -> float:
        return 1.0

    def reset_noise(self, seed: int | None = None) -> None:
        """Restart the noise from the network's seed, or from another one."""
        self._generators = None
        if seed is not None:
            self._streams[2:] = np.random.SeedSequence(seed).spawn(2)

    def _noise(self) -> Noise:
        if self._generators is None or self._generators[0].device != self.device:
            seeds = [int(s.generate_state(1, np.uint64)[0]) >> 1 for s in self._streams[2:]]
            self._generators = (
                torch.Generator(self.device).manual_seed(seeds[0]),
                torch.Generator(self.device).manual_seed(seeds[1]),
            )
        std = self.hid_noise_const
        return Noise(self.inp_noise_const, std[:, None] if isinstance(std, Tensor) else std, *self._generators)

    # ---------------------------------------------------------------- running

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the dynamics; `mRNN` and `ElmanmRNN` define it."""
        raise TypeError("mRNNBase has no dynamics; use mRNN or ElmanmRNN.")

    def _run(
        self,
        inp: Tensor,
        x0: Tensor,
        h0: Tensor | None,
        stim: Tensor | None,
        noise: bool,
        W_rec: Tensor | None,  # noqa: N803
        checkpoint_every: int | str | None,
        record: str | Sequence[str] | None,
    ) -> tuple[Tensor, Tensor]:
        """Check the arguments, bring them to (time, features, batch), run, and bring the states back."""
        if torch.compiler.is_compiling():  # sparse tensors cannot be traced; at import, disable would cost seconds
            around = torch.compiler.disable(self._run)  # type: ignore[no-untyped-call]
            result: tuple[Tensor, Tensor] = around(inp, x0, h0, stim, noise, W_rec, checkpoint_every, record)
            return result
        if not (self.rec_finalized and self.inp_finalized):
            missing = "recurrent" if not self.rec_finalized else "input"
            raise FinalizeError(f"forward: the {missing} connectivity is not finalised; call finalize_connectivity() first.")
        if torch.is_autocast_enabled(self.device.type):  # sparse kernels have no half precision: run in the net's own
            own = [t if t is None else t.to(self.dtype) for t in (h0, stim, W_rec)]
            with torch.autocast(self.device.type, enabled=False):
                args = inp.to(self.dtype), x0.to(self.dtype), own[0], own[1], noise, own[2]
                return self._run(*args, checkpoint_every, record)
        steps = self._check_all(inp, x0, h0, stim)
        rec, inputs = self._weights("recurrent"), self._weights("input")
        segments = self._segments
        operator, weights = self._operand(rec, W_rec)
        slow = lags(rec, self.dt)
        if slow:
            self._check_lags(W_rec, segments)
            weights = rec.stored_values(rec.operand("csr"), constrained=self.rec_constrained)
        input_operand = inputs.operand("csr")
        to_internal = (1, 2, 0) if self.batch_first else (0, 2, 1)
        drawn = self._noise() if noise else None
        u, input_operator = inp.permute(*to_internal), None
        if inputs.nnz:
            if drawn is not None and any(d is not None for d in inputs.delays):  # before it is delayed with the input
                u, drawn = with_noise(u, drawn)
            u, input_operator = delayed_inputs(inputs, u, self.dt)
        plan = Plan(
            operator,
            input_operator or input_operand.operator,
            segments,
            self._fixed_rate(),
            drawn,
            _every(checkpoint_every, steps),
            None if record is None else self._recorded(record),
            slow,
        )
        if not segments.fused and plan.checkpoint_every is not None:
            raise ConfigError("checkpoint_every needs the activations that have a name; this network has a function of its own.")
        x = x0.t().contiguous()
        x_seq, h_seq = (recurrence if segments.fused else _stepwise)(
            plan,
            weights,
            inputs.stored_values(input_operand, constrained=self.inp_constrained) if inputs.nnz else None,
            u,
            self.tonic_inp if self._has_bias else None,
            x,
            segments.apply(x) if h0 is None else h0.t().contiguous(),
            None if stim is None else stim.permute(*to_internal),
            self.alpha,
        )
        back = (2, 0, 1) if self.batch_first else (0, 2, 1)
        return x_seq.permute(*back), h_seq.permute(*back)

    def _operand(self, rec: SparseWeights, given: Tensor | None) -> tuple[Operator, Tensor]:
        """The recurrent weights, or those given to ``forward``, on their backend."""
        if given is None:
            operand = rec.operand(self.chosen_backend)
            return operand.operator, rec.stored_values(operand, constrained=self.rec_constrained)
        n = rec.shape[0]
        self._check("W_rec", given, (n, n), f"(units, units) = ({n}, {n})")
        pattern, values = split_sparse(given)
        return DenseOperator((n, n)) if pattern is None else CsrOperator(pattern), values

    @property
    def chosen_backend(self) -> str:
        """The backend of the recurrent product: ``backend``, or what "auto" stands for in this network."""
        if self.backend != "auto":
            return self.backend
        rec = self._weights("recurrent")
        n, blocks = rec.shape[0], rec.dense_synapses
        if n <= DENSE_UNITS:
            return "dense"
        if blocks >= max(HYBRID_SYNAPSES, HYBRID_SHARE * rec.nnz):
            return "hybrid"
        return "dense" if rec.nnz >= DENSE_FILL * n * n and n * n <= DENSE_LIMIT else "csr"

    def _check_lags(self, given: Tensor | None, segments: Segments) -> None:
        if given is not None:
            raise ConfigError("forward: W_rec does not say which synapse has which delay; this network has delays, so leave it out.")
        if not segments.fused:
            raise ConfigError("delays need the activations that have a name; this network has a function of its own.")

    def _fixed_rate(self) -> float | None:
        """alpha as a number where it is one for all; read from the device once."""
        alpha = self.base_alpha
        if alpha.numel() > 1 or self.keep_logit is not None:
            return None
        if self._rate is None or self._rate[0] is not alpha or self._rate[1] != alpha._version:
            self._rate = alpha, alpha._version, float(alpha)
        return self._rate[2]

    def _recorded(self, record: str | Sequence[str]) -> Tensor:
        names = [record] if isinstance(record, str) else list(record)
        if not names:
            raise ConfigError("record is empty; name at least one region, or leave it out to get every unit.")
        return torch.from_numpy(self.layout().indices(*names)).to(self.device)

    def _check_all(self, inp: Tensor, x0: Tensor, h0: Tensor | None, stim: Tensor | None) -> int:
        """The number of steps, after every shape, dtype and device was found right."""
        inputs, n = self._weights("input").shape[1], self._weights("recurrent").shape[0]
        order = "(batch, time, " if self.batch_first else "(time, batch, "
        widths = ", ".join(f"{r.name} {r.n}" for r in self.layout("input").regions) or "no inputs"
        self._check("inp", inp, (None, None, inputs), f"{order}{inputs}): {widths}")
        batch, steps = inp.shape[:2] if self.batch_first else (inp.shape[1], inp.shape[0])
        if steps == 0 or batch == 0:
            raise ShapeError(f"forward: inp has {steps} time steps and a batch of {batch}; both must be at least 1.")
        for name, state in (("x0", x0), ("h0", h0)):
            if state is not None:
                self._check(name, state, (batch, n), f"(batch, units) = ({batch}, {n})")
        if stim is not None:
            self._check("stim_input", stim, (*inp.shape[:2], n), f"{order}units), batch {batch}, time {steps}, units {n}")
        return steps

    def _check(self, name: str, tensor: Tensor, shape: tuple[int | None, ...], expected: str) -> None:
        got = tuple(tensor.shape)
        if len(got) != len(shape) or any(e is not None and g != e for g, e in zip(got, shape, strict=True)):
            raise ShapeError(f"forward: {name} has shape {got}; expected {expected}.")
        if tensor.dtype != self.dtype or tensor.device != self.device:
            raise ShapeError(
                f"forward: {name} is {tensor.dtype} on {tensor.device}, the network {self.dtype} on {self.device}; "
                f"use {name}.to(net.device, net.dtype)."
            )

    def memory_estimate(self, batch: int = 1, steps: int = 1, training: bool = False) -> MemoryEstimate:
        """Bytes that ``forward`` over ``steps`` steps needs, and with ``training`` its backward and Adam.

        Simulation: parameter, effective value, column index, and permutation and sign where there are any.
        """
        size = torch.empty((), dtype=self.dtype).element_size()
        weights = pattern = training_bytes = 0
        for part in (self._weights("recurrent"), self._weights("input")):
            index = part.col.element_size()
            weights += 2 * size * part.nnz
            extra = sum(t.element_size() for t in (part.perm, part.synapse_sign) if t is not None)
            pattern += part.nnz * (index + extra) + index * (sum(part.shape) + 1)
            if training:  # gradient (effective, own), Adam's two moments, transposed values, pattern and order
                training_bytes += part.nnz * (5 * size + 3 * index)
        n = self._weights("recurrent").shape[0]
        states = 2 * size * n * batch * (steps + 1)
        if training:
            training_bytes += size * n * batch * 6 + 2 * size * n * max(grad_columns(n, size), batch)
        return MemoryEstimate(weights, pattern, states, training_bytes)


def with_noise(inputs: Tensor, noise: Noise) -> tuple[Tensor, Noise]:
    """Inputs of shape (time, channels, batch) with their noise, and the noise that is left for the units."""
    spent = torch.Generator(inputs.device)  # draws for a standard deviation of 0
    return noise.on_inputs(inputs), replace(noise, input_std=0.0, input_generator=spent)


def _every(checkpoint_every: int | str | None, steps: int) -> int | None:
    if checkpoint_every is None:
        return None
    if checkpoint_every == "auto":
        return math.ceil(math.sqrt(steps))
    if isinstance(checkpoint_every, bool) or not isinstance(checkpoint_every, int) or checkpoint_every < 1:
        raise ConfigError(f"checkpoint_every is {checkpoint_every!r}; use a whole number of steps of at least 1, or 'auto'.")
    return checkpoint_every


def _stepwise(
    plan: Plan,
    weights: Tensor,
    input_weights: Tensor | None,
    inputs: Tensor,
    bias: Tensor | None,
    x: Tensor,
    h: Tensor,
    stim: Tensor | None,
    alpha: Tensor,
) -> tuple[Tensor, Tensor]:
    """The recurrence for activations that autograd has to differentiate: a linear step, then the function."""
    linear = replace(plan, activation=Segments(((0, len(x), get_activation("linear")),)), record=None)
    xs, hs = [], []
    for t in range(len(inputs)):
        step = slice(t, t + 1)
        after, _ = recurrence(linear, weights, input_weights, inputs[step], bias, x, h, None if stim is None else stim[step], alpha)
        x = after[0]
        h = plan.activation.apply(x)
        xs.append(x)
        hs.append(h)
    x_seq, h_seq = torch.stack(xs), torch.stack(hs)
    if plan.record is not None:
        x_seq, h_seq = x_seq.index_select(1, plan.record), h_seq.index_select(1, plan.record)
    return x_seq, h_seq
