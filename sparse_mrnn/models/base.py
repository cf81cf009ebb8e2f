"""mRNNBase: regions and connections by mRNNTorch's names, finalised into sparse weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.config import NetworkConfig, read_config
from sparse_mrnn.errors import ActivationError, ConfigError, FinalizeError, MissingExtraError, suggest
from sparse_mrnn.graph import Region, RegionGraph
from sparse_mrnn.lowering import lower
from sparse_mrnn.models.running import MemoryEstimate, Running
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.activations import custom_activation, get_activation, linear
from sparse_mrnn.ops.backends.torch_sparse import available as torch_sparse_available

__all__ = ["MemoryEstimate", "linear", "mRNNBase"]

BACKENDS = ("auto", "csr", "dense", "hybrid", "torch_sparse")


class mRNNBase(Running):  # noqa: N801
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

    dt: float
    base_firing: Tensor
    initial_x: Tensor
    bias_units: Tensor
    keep_logit: nn.Parameter | None

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph | None = None,
        activation: str | Callable[[Tensor], Tensor] = "relu",
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
        if not (isinstance(activation, str) or callable(activation)):
            raise ActivationError(f"activation must be a name or a function, not {type(activation).__name__}.")
        self.activation = get_activation(activation) if isinstance(activation, str) else custom_activation(activation)
        if backend not in BACKENDS:
            raise ConfigError(f"backend {backend!r} is not available; use one of {', '.join(BACKENDS)}. {suggest(backend, BACKENDS)}")
        if backend == "torch_sparse" and not torch_sparse_available():
            raise MissingExtraError("backend 'torch_sparse' needs the package torch_sparse; install it, or use backend='auto'.")
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype {dtype} is not supported; use torch.float32 or torch.float64.")
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
            if region.activation is not None:
                get_activation(region.activation, f"region {region.name!r}")
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
        self._prepare_alpha(regions, alpha)
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

    def _prepare_alpha(self, regions: tuple[Region, ...], alpha: list[float]) -> None:
        """alpha as declared, one number where it is one and fixed; and a parameter for those that are trained."""
        learnt = [k for k, region in enumerate(regions) if region.learnable_tau]
        each = torch.tensor(alpha, dtype=self.dtype, device=self.device)
        units = torch.tensor([region.n for region in regions], device=self.device)
        same = len(set(alpha)) == 1 and not learnt
        self.register_buffer("base_alpha", each[:1, None] if same else torch.repeat_interleave(each, units)[:, None])
        own = each[learnt]
        self.keep_logit = nn.Parameter(torch.log1p(-own) - torch.log(own)) if learnt else None
        which = units.new_full((len(regions),), -1)
        which[learnt] = torch.arange(len(learnt), device=self.device)
        of_unit = torch.repeat_interleave(which, units)
        self.register_buffer("alpha_units", torch.nonzero(of_unit >= 0)[:, 0], persistent=False)
        self.register_buffer("alpha_of", of_unit[of_unit >= 0], persistent=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}alpha" in state_dict:  # its name in 0.1
            state_dict[f"{prefix}base_alpha"] = state_dict.pop(f"{prefix}alpha")
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]

    def _region_alpha(self, regions: tuple[Region, ...]) -> list[float]:
        """alpha of each region; 1 without a time constant."""
        return [1.0] * len(regions)

    def _apply(self, fn: Any, recurse: bool = True) -> mRNNBase:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.rec is not None:
            self.device, self.dtype = self.rec.values.device, self.rec.values.dtype
        return self


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
