"""mRNNBase: regions and connections by mRNNTorch's names, finalised into sparse weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.config import NetworkConfig, read_config
from sparse_mrnn.errors import ActivationError, ConfigError, FinalizeError, ShapeError
from sparse_mrnn.graph import Region, RegionGraph
from sparse_mrnn.lowering import lower
from sparse_mrnn.models.matrices import WeightMatrices
from sparse_mrnn.models.weights import DENSE_LIMIT, SparseWeights, scatter_dense
from sparse_mrnn.ops.activations import Segments, get_activation, linear
from sparse_mrnn.ops.convert import split_sparse
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.recurrence import GRAD_COLUMNS, Noise, Plan, recurrence

__all__ = ["MemoryEstimate", "linear", "mRNNBase"]

BACKENDS = ("auto", "csr", "dense")
DENSE_UNITS, DENSE_FILL = 100, 0.5
"""``backend="auto"`` multiplies densely up to this many units, or from this fraction of all entries on (never above
`DENSE_LIMIT` entries); docs/decisions/0002 has the measurements."""


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


class mRNNBase(WeightMatrices):  # noqa: N801
    """What the leaky and the Elman network share; see `mRNN` for the parameters.

    Examples
    --------
    >>> net = mRNNBase(seed=0, device="cpu")
    >>> net.add_recurrent_region("a", 3)
    >>> net.add_recurrent_connection("a", "a", sparsity=0.5)
    >>> net.finalize_connectivity()
    >>> net.hid_regions, tuple(net.W_rec.shape)
    (['a'], (3, 3))
    """

    alpha: Tensor
    base_firing: Tensor
    initial_x: Tensor
    bias_units: Tensor

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph | None = None,
        activation: str = "relu",
        noise_level_act: float = 0.01,
        noise_level_inp: float = 0.01,
        rec_constrained: bool = True,
        inp_constrained: bool = True,
        batch_first: bool = True,
        spectral_radius: float | dict[str, float] | None = None,
        config_finalize: bool = True,
        device: str | torch.device | None = None,
        *,
        backend: str = "auto",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not isinstance(activation, str):
            raise ActivationError(f"activation must be a name, not {type(activation).__name__}.")
        get_activation(activation)
        if backend not in BACKENDS:
            raise ConfigError(f"backend {backend!r} is not available; use one of {', '.join(BACKENDS)}.")
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype {dtype} is not supported; use torch.float32 or torch.float64.")
        self.activation_name = activation
        self.noise_level_act, self.noise_level_inp = noise_level_act, noise_level_inp
        self.rec_constrained, self.inp_constrained = rec_constrained, inp_constrained
        self.batch_first, self.backend, self.spectral_radius = batch_first, backend, spectral_radius
        self.device, self.dtype = _device(device), dtype
        self.seed = int(torch.randint(2**62, ()).item()) if seed is None else seed
        self._streams = np.random.SeedSequence(self.seed).spawn(4)
        self._generators: tuple[torch.Generator, torch.Generator] | None = None
        self.rec_finalized = self.inp_finalized = False
        self.rec: SparseWeights | None = None
        self.inp: SparseWeights | None = None
        self._layouts = {}
        if isinstance(config, RegionGraph):
            self.graph = config.copy()
        else:
            self.graph = RegionGraph() if config is None else read_config(config)
        if config is not None and config_finalize:
            self.finalize_connectivity()

    # ---------------------------------------------------------------- declaring

    def add_recurrent_region(
        self,
        name: str,
        num_units: int,
        sign: str | Any = "pos",
        base_firing: float | Any = 0,
        init: float | Any = 0,
        parent_region: str | None = None,
        learnable_bias: bool = False,
        **more: Any,
    ) -> None:
        """Add a recurrent region; ``more`` as in `RegionGraph.add_region`.

        Raises
        ------
        FinalizeError
            After finalising.
        GraphError
            As `RegionGraph.add_region`.
        """
        self._still_open("recurrent region", name, self.rec_finalized or self.inp_finalized)
        values = [v.detach().cpu().numpy() if isinstance(v, Tensor) else v for v in (base_firing, init)]
        self.graph.add_region(
            name,
            num_units,
            sign=sign,
            base_firing=values[0],
            init=values[1],
            parent_region=parent_region,
            learnable_bias=learnable_bias,
            **more,
        )
        self._layouts.clear()

    def add_input_region(self, name: str, num_units: int, sign: str | Any = "pos") -> None:
        """Add an input region of ``num_units`` channels."""
        self._still_open("input region", name, self.inp_finalized)
        self.graph.add_input(name, num_units, sign=sign)
        self._layouts.clear()

    def add_recurrent_connection(self, src_region: str, dst_region: str, sparsity: float | None = None, **more: Any) -> None:
        """Connect two recurrent regions.

        Parameters
        ----------
        src_region, dst_region : str
        sparsity : float in [0, 1], optional
            Fraction of the connections that exist. None: all.
        **more
            As in `RegionGraph.add_projection`: fan_in, rule, weights, key, init, trainable, ...
        """
        self._connect("recurrent", src_region, dst_region, sparsity, more, self.rec_finalized)

    def add_input_connection(self, src_region: str, dst_region: str, sparsity: float | None = None, **more: Any) -> None:
        """Connect an input region to a recurrent one; arguments as `add_recurrent_connection`."""
        self._connect("input", src_region, dst_region, sparsity, more, self.inp_finalized)

    def _connect(self, kind: str, src: str, dst: str, sparsity: float | None, more: dict[str, Any], closed: bool) -> None:
        self._still_open(f"{kind} connection", f"{src} -> {dst}", closed)
        if src in self.graph and self.graph.region(src).kind != kind:
            other = "add_input_connection" if kind == "recurrent" else "add_recurrent_connection"
            raise ConfigError(f"{src!r} is not a {kind} region; use {other}.")
        if sparsity is not None:
            more = {"density": sparsity, **more}
        self.graph.add_projection(src, dst, **more)

    def __setitem__(self, name: str, region: Region) -> None:
        """Add the region ``region`` under ``name``, or replace one, before finalising."""
        if not isinstance(region, Region):
            raise TypeError(f"net[{name!r}] = ... takes a Region, not {type(region).__name__}.")
        self._still_open("region", name, self.rec_finalized or self.inp_finalized)
        scratch = RegionGraph()
        facts = {k: getattr(region, k) for k in Region.__dataclass_fields__ if k not in ("name", "n", "kind")}
        if region.kind == "input":
            scratch.add_input(name, region.n, sign=region.sign)
        else:
            scratch.add_region(name, region.n, **facts)
        if name in self.graph:
            if self.graph.region(name).n != region.n and self.graph.degree(name):
                raise ConfigError(f"region {name!r} has projections; replace it by one of {self.graph.region(name).n} units.")
            self.graph.nodes[name].clear()
        self.graph.add_node(name, **scratch.nodes[name])
        self._layouts.clear()

    def _still_open(self, what: str, name: str, closed: bool) -> None:
        if closed:
            raise FinalizeError(f"cannot add {what} {name!r}: the connectivity is finalised; add everything before, or build a new net.")

    # ---------------------------------------------------------------- finalising

    def finalize_connectivity(self) -> None:
        """Finalise the recurrent and the input connectivity."""
        self.finalize_rec_connectivity()
        self.finalize_inp_connectivity()

    def finalize_rec_connectivity(self) -> None:
        """Sample the recurrent synapses and make the parameters; a second call does nothing.

        Raises
        ------
        FinalizeError
            If there is no recurrent region.
        SpectralError
            If a spectral radius is asked for and the net has none to scale.
        """
        if self.rec_finalized:
            return
        if not self.graph.regions():
            raise FinalizeError("the network has no recurrent region; add one before finalising.")
        regions = self.layout().regions
        for region in regions:
            get_activation(region.activation or self.activation_name, f"region {region.name!r}")
        alpha = self._region_alpha(regions)
        blocks = lower(
            self.graph,
            "recurrent",
            np.random.default_rng(self._streams[0]),
            constrained=self.rec_constrained,
            dtype=np.float64 if self.dtype == torch.float64 else np.float32,
        )
        rec = SparseWeights(blocks, self.dtype, self.device)
        if self.spectral_radius is not None:
            with torch.no_grad():
                scale = self._scale(rec.matrix(constrained=self.rec_constrained), rec.pattern)
                if scale.dim() and rec.perm is not None:  # back from CSR to projection order
                    scale = torch.empty_like(scale).scatter_(0, rec.perm.long(), scale)
                rec.values.mul_(scale[: len(rec.values)] if scale.dim() else scale)
                rec.frozen.mul_(scale[len(rec.values) :] if scale.dim() else scale)

        def per_unit(values: list[Any], dtype: torch.dtype | None = None) -> Tensor:
            parts = [np.broadcast_to(v, r.n) for v, r in zip(values, regions, strict=True)]
            return torch.from_numpy(np.concatenate(parts)).to(self.device, dtype or self.dtype)

        self.register_buffer("base_firing", per_unit([r.base_firing for r in regions]), persistent=True)
        self.register_buffer("initial_x", per_unit([r.init for r in regions]), persistent=True)
        learned = per_unit([r.learnable_bias for r in regions], torch.bool)
        self.register_buffer("bias_units", torch.nonzero(learned)[:, 0], persistent=False)
        self.bias = nn.Parameter(self.base_firing[self.bias_units].clone()) if learned.any() else None
        self._has_bias = bool(learned.any()) or bool(self.base_firing.any())
        same = len(set(alpha)) == 1
        self.register_buffer(
            "alpha", torch.full((1, 1), alpha[0], dtype=self.dtype, device=self.device) if same else per_unit(alpha)[:, None]
        )
        self.rec = rec
        self.rec_finalized = True

    def finalize_inp_connectivity(self) -> None:
        """Sample the input synapses and make the parameters; a second call does nothing."""
        if self.inp_finalized:
            return
        if not self.graph.regions():
            raise FinalizeError("the network has no recurrent region; add one before finalising.")
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        rng = np.random.default_rng(self._streams[1])
        blocks = lower(self.graph, "input", rng, constrained=self.inp_constrained, dtype=dtype)
        self.inp = SparseWeights(blocks, self.dtype, self.device)
        self.inp_finalized = True

    def _region_alpha(self, regions: tuple[Region, ...]) -> list[float]:
        """alpha of each region; 1 without a time constant."""
        return [1.0] * len(regions)

    def _apply(self, fn: Any, recurse: bool = True) -> mRNNBase:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.rec is not None:
            self.device, self.dtype = self.rec.values.device, self.rec.values.dtype
        return self

    # ---------------------------------------------------------------- state and noise

    @property
    def tonic_inp(self) -> Tensor:
        """Tonic input of every unit, shape (units,), in unit order; differentiable where it is learnt."""
        self._weights("recurrent")
        if self.bias is None:
            return self.base_firing
        return self.base_firing.index_copy(0, self.bias_units, self.bias)

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
        names = [(r.n, r.activation or self.activation_name) for r in self.layout().regions]
        parts: list[tuple[int, int, Any]] = []
        for n, name in names:
            start = parts[-1][1] if parts else 0
            if parts and parts[-1][2].name == name:
                parts[-1] = (parts[-1][0], start + n, parts[-1][2])
            else:
                parts.append((start, start + n, get_activation(name)))
        return Segments(tuple(parts))

    @property
    def hid_noise_const(self) -> float | Tensor:
        """Standard deviation of the unit noise, sqrt(2 alpha) * noise_level_act / alpha; per unit if tau differs."""
        self._weights("recurrent")
        if self.alpha.numel() == 1:
            alpha = float(self.alpha)
            return math.sqrt(2 * alpha) * self.noise_level_act / alpha
        return (torch.sqrt(2 * self.alpha) * self.noise_level_act / self.alpha)[:, 0]

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
        self, inp: Tensor, x0: Tensor, h0: Tensor | None, stim: Tensor | None, noise: bool, W_rec: Tensor | None  # noqa: N803
    ) -> tuple[Tensor, Tensor]:
        """Check shapes, bring them to (time, features, batch), run, and bring the states back."""
        if not (self.rec_finalized and self.inp_finalized):
            missing = "recurrent" if not self.rec_finalized else "input"
            raise FinalizeError(f"forward: the {missing} connectivity is not finalised; call finalize_connectivity() first.")
        rec, inputs = self._weights("recurrent"), self._weights("input")
        order = "(batch, time, " if self.batch_first else "(time, batch, "
        widths = ", ".join(f"{r.name} {r.n}" for r in self.layout("input").regions) or "no inputs"
        self._check("inp", inp, (None, None, rec_in := inputs.shape[1]), f"{order}{rec_in}): {widths}")
        batch, steps = inp.shape[:2] if self.batch_first else (inp.shape[1], inp.shape[0])
        if steps == 0 or batch == 0:
            raise ShapeError(f"forward: inp has {steps} time steps and a batch of {batch}; both must be at least 1.")
        n = rec.shape[0]
        for name, state in (("x0", x0), ("h0", h0)):
            if state is not None:
                self._check(name, state, (batch, n), f"(batch, units) = ({batch}, {n})")
        if stim is not None:
            self._check("stim_input", stim, (*inp.shape[:2], n), f"{order}units), batch {batch}, time {steps}, units {n}")
        segments = self._segments
        to_internal = (1, 2, 0) if self.batch_first else (0, 2, 1)
        if W_rec is None:
            pattern, weights = self._recurrent_operand(rec)
        else:
            self._check("W_rec", W_rec, (n, n), f"(units, units) = ({n}, {n})")
            pattern, weights = split_sparse(W_rec)
        x = x0.t().contiguous()
        x_seq, h_seq = recurrence(
            Plan(pattern, inputs.pattern, segments, self._noise() if noise else None),
            weights,
            inputs.csr_values(constrained=self.inp_constrained) if inputs.nnz else None,
            inp.permute(*to_internal),
            self.tonic_inp if self._has_bias else None,
            x,
            segments.apply(x) if h0 is None else h0.t().contiguous(),
            None if stim is None else stim.permute(*to_internal),
            self.alpha,
        )
        back = (2, 0, 1) if self.batch_first else (0, 2, 1)
        return x_seq.permute(*back), h_seq.permute(*back)

    def _recurrent_operand(self, rec: SparseWeights) -> tuple[Pattern | None, Tensor]:
        values = rec.csr_values(constrained=self.rec_constrained)
        entries = rec.shape[0] ** 2
        full = DENSE_FILL * entries <= rec.nnz and entries <= DENSE_LIMIT
        if self.backend == "dense" or (self.backend == "auto" and (rec.shape[0] <= DENSE_UNITS or full)):
            return None, scatter_dense(rec.pattern, values)
        return rec.pattern, values

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
            training_bytes += size * n * batch * 6 + 2 * size * n * max(GRAD_COLUMNS, batch)
        return MemoryEstimate(weights, pattern, states, training_bytes)

    def extra_repr(self) -> str:
        return f"{self.graph.n_units} units in {len(self.hid_regions)} regions, {self.graph.n_inputs} inputs, device={self.device}"


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device {device!r} is not a torch device; use 'cpu', 'cuda' or 'cuda:0'.") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"device {device!r}: this torch sees no CUDA device; use device='cpu', or None to choose.")
        return torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
    return chosen
