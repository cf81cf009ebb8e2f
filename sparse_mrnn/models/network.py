"""mRNNBase: a network declared by mRNNTorch's names, finalised into sparse weights, run over sequences."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import networkx as nx
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sparse_mrnn.checks import option, real_number, seed_number, true_or_false, whole_number
from sparse_mrnn.declaration.config import NetworkConfig, SimulationConfig, read_config
from sparse_mrnn.declaration.graph import Region, RegionGraph, projection_label
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.errors import (
    ActivationError,
    ConfigError,
    ConversionError,
    FinalizeError,
    MissingExtraError,
    SavedFileError,
    ShapeError,
    SparseMRNNError,
    StateDictError,
    StateDictWarning,
)
from sparse_mrnn.lowering.lower import lower, without_synapses
from sparse_mrnn.lowering.random_streams import (
    low_rank_stream,
    network_noise_seeds,
    noise_seeds,
    synapse_stream,
)
from sparse_mrnn.models.compiled import register, run_compiled
from sparse_mrnn.models.delays import delay_groups, has_delays, longest_delay
from sparse_mrnn.models.devices import check_runnable, chosen_device
from sparse_mrnn.models.electrical import ElectricalSynapses
from sparse_mrnn.models.exports import explicit_graph, to_networkx, to_scipy, to_torch_geometric
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.learnt_values import LEARNT_VALUES, UNDECLARED
from sparse_mrnn.models.low_rank import LowRankProjections
from sparse_mrnn.models.mrnntorch_names import MRNNTorchNames
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.one_step import forget_step
from sparse_mrnn.models.one_step import step as make_step
from sparse_mrnn.models.prepare import Border, Start, check_tensor, prepare
from sparse_mrnn.models.settings import GuardedSettings
from sparse_mrnn.models.weights import DENSE_LIMIT, SparseWeights
from sparse_mrnn.ops.activations import (
    Activation,
    ActivationSegments,
    custom_activation,
    get_activation,
    linear,
    with_values,
)
from sparse_mrnn.ops.delays import DelayedProduct, DelayGroup
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.pattern import split_sparse
from sparse_mrnn.ops.products import CsrOperator, DenseOperator, torch_sparse
from sparse_mrnn.ops.sequence import recurrence
from sparse_mrnn.ops.sequence.backward import gathered_steps
from sparse_mrnn.ops.step import Step
from sparse_mrnn.ops.torch_modes import ordinary_tensors
from sparse_mrnn.runtime import release_unused_memory
from sparse_mrnn.state.describe import Arrays, Description, declared, describe
from sparse_mrnn.state.differences import declared_differences, decode, encode, first_of, structure_digest
from sparse_mrnn.state.network_file import write_network
from sparse_mrnn.stimulus import Stimulus

__all__ = ["MemoryEstimate", "linear", "mRNNBase"]

MANY_SYNAPSES = 100_000
"""From so many on, memory that building has freed is given back to the system."""
BACKENDS = ("auto", "csr", "dense", "hybrid", "torch_sparse")

DENSE_UNITS, DENSE_FILL, HYBRID_SHARE, HYBRID_SYNAPSES = 100, 0.4, 0.1, 100_000
"""``backend="auto"`` multiplies densely up to this many units; by "hybrid" where dense blocks hold this share
of the synapses, and so many; else densely from this fraction of all entries on (never above `DENSE_LIMIT`
entries).
docs/decisions/0002 has the measurements."""


class NoiseState(NamedTuple):
    """Seeds of the input and the unit noise (None: torch's global generator), and the generators' states."""

    seeds: tuple[int, int] | None
    inputs: Tensor
    units: Tensor


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


def _activation(activation: Any, name: str = "activation") -> Activation:
    """An activation by its name, or of a function."""
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return get_activation(activation)
    if not callable(activation):
        raise ActivationError(f"{name} must be a name or a function, not {type(activation).__name__}.")
    return custom_activation(activation)


def _backend(backend: Any, name: str) -> str:
    chosen = option(backend, BACKENDS, name, ConfigError)
    if chosen == "torch_sparse" and not torch_sparse.available():
        raise MissingExtraError(torch_sparse.NOT_INSTALLED)
    return chosen


def positive_time(value: float, what: str) -> float:
    """A time in ms, as a Python number.

    Raises
    ------
    ConfigError
        If it is not positive.
    """
    number = real_number(value, what, ConfigError)
    if number <= 0:
        raise ConfigError(f"{what} is {number!r}; it must be a positive time in ms.")
    return number


def _level(value: float, what: str) -> float:
    number = real_number(value, what, ConfigError)
    if number < 0:
        raise ConfigError(f"{what} is {number!r}; it must not be negative.")
    return number


def _flag(value: bool, what: str) -> bool:
    return true_or_false(value, what, ConfigError)


class mRNNBase(GuardedSettings, MRNNTorchNames):  # noqa: N801
    """The base of the leaky and the Elman network; see `mRNN` for the parameters.

    Examples
    --------
    >>> net = mRNNBase(seed=0, device="cpu")
    >>> net.add_recurrent_region("a", 3)
    >>> net.add_recurrent_connection("a", "a", sparsity=0.5)
    >>> net.finalize_connectivity()
    >>> net.hid_regions, tuple(net.W_rec.shape)
    (['a'], (3, 3))
    """

    parameter_names = tuple(value.parameter for value in LEARNT_VALUES)
    model: ClassVar[str] = "none"
    """The name of the model in files and configurations."""
    setting_names: ClassVar[tuple[str, ...]] = (
        "activation", "noise_level_act", "noise_level_inp", "rec_constrained", "inp_constrained",
        "batch_first", "spectral_radius", "dt", "backend", "seed", "dtype",
    )  # fmt: skip
    """Arguments that make a network like this one, apart from its graph and device."""
    checks: ClassVar[Mapping[str, Callable[[Any, str], Any]]] = {
        "activation": _activation, "noise_level_act": _level, "noise_level_inp": _level, "backend": _backend,
        "dt": positive_time, "rec_constrained": _flag, "inp_constrained": _flag, "batch_first": _flag,
    }  # fmt: skip
    has_states: ClassVar[bool] = False
    """Flag: units have a state that electrical synapses can take a current from."""
    dt: float
    base_firing: Tensor
    initial_x: Tensor
    bias_units: Tensor
    bias_of: Tensor
    bias_region: Tensor
    init_units: Tensor
    init_of: Tensor
    init_region: Tensor
    alpha_low: Tensor
    alpha_high: Tensor
    base_alpha: Tensor
    alpha_units: Tensor
    alpha_of: Tensor
    alpha_region: Tensor
    noise_units: Tensor
    noise_of: Tensor
    gain_units: Tensor
    gain_of: Tensor
    threshold_units: Tensor
    threshold_of: Tensor

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph | None = None,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        noise_level_act: float = 0.01,
        noise_level_inp: float = 0.01,
        rec_constrained: bool = True,
        inp_constrained: bool = True,
        batch_first: bool = True,
        spectral_radius: float | Mapping[str, float] | None = None,
        config_finalize: bool = True,
        device: str | torch.device | None = None,
        *,
        backend: str = "auto",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if isinstance(config, RegionGraph):
            graph = config.copy()
        else:
            graph = RegionGraph() if config is None else read_config(config)
        super().__init__(graph, {}, spectral_radius)
        self.rec_constrained, self.inp_constrained = rec_constrained, inp_constrained
        self._known: dict[str, nn.Parameter] = {}  # parameters before a state dict is loaded
        self.register_load_state_dict_post_hook(_keep_parameters)  # type: ignore[no-untyped-call]
        self.noise_level_act, self.noise_level_inp = noise_level_act, noise_level_inp
        self.batch_first, self.backend = batch_first, backend
        self.device, self.dtype = chosen_device(device), dtype
        check_runnable(self.dtype, self.device)
        self.activation = _activation(activation)
        drawn = int(torch.randint(2**62, (), device="cpu").item()) if seed is None else seed
        self.seed = seed_number(drawn, ConfigError)
        # Without a seed the noise is torch's: manual_seed, DataLoader, torch.utils.checkpoint govern it
        self._noise_seeds = None if seed is None else network_noise_seeds(self.seed)
        self._generators: tuple[torch.Generator, torch.Generator] | None = None
        self._draw = True  # False: synapses come from a saved state
        self.bias: nn.Parameter | None = None
        self.init: nn.Parameter | None = None
        self.tau_logit: nn.Parameter | None = None
        self.noise_log: nn.Parameter | None = None
        self.gain_log: nn.Parameter | None = None
        self.x_threshold: nn.Parameter | None = None
        self.electrical: ElectricalSynapses | None = None
        self._strict = True
        # What a forward pass asks of a tensor's values, by name: the tensor, its version, and the answer
        self._on_host: dict[str, tuple[Tensor, int, Any]] = {}
        self._number = register(self)
        if config is not None and config_finalize:
            self.finalize_connectivity()

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if (rec := vars(self).get("_modules", {}).get("rec")) is not None:
            forget_step(cast(SparseWeights, rec))
        if name == "activation":
            self._modules.pop("activation_module", None)
            if isinstance(self.activation.function, nn.Module):  # registered: it trains, moves and is saved
                self.activation_module = self.activation.function.to(self.device, self.dtype)
        if name in ("dt", "tau", "tau_m", "integrator") and before is not None and self.rec_finalized:
            try:
                self._change_times(name)
            except SparseMRNNError:
                vars(self)[name] = before
                raise

    @ordinary_tensors()
    def _change_times(self, name: str) -> None:
        """Make alpha anew after the setting ``name`` has changed, if time constants and delays allow it."""
        if self.tau_logit is not None:
            what = f"{name} cannot be changed while time constants are learnt"
            raise ConfigError(f"{what}; make a network of net.to_graph(), which has them as they are now.")
        for weights in (self.rec, self.inp):
            if weights is not None:
                longest_delay(weights, self.dt)
        self._prepare_alpha()

    # ---------------------------------------------------------------- building

    @ordinary_tensors()
    def build(self, kind: str) -> None:
        """Sample the "recurrent" or "input" synapses and make the parameters; a second call does nothing.

        Raises
        ------
        FinalizeError
            If there is no recurrent region.
        SpectralError
            If a spectral radius is asked for and the net has none to scale.
        """
        if self.rec_finalized if kind == "recurrent" else self.inp_finalized:
            return
        if not self.graph.regions():
            raise FinalizeError("the network has no recurrent region; add one before finalising.")
        if kind == "recurrent":
            self._build_recurrent()
        else:
            self.inp = self._lowered("input")
        if self.rec_finalized and self.inp_finalized:
            nx.freeze(self.graph)
            if self.weights("recurrent").nnz >= MANY_SYNAPSES:
                release_unused_memory()

    def _build_recurrent(self) -> None:
        regions = self.layout().regions
        for region in regions:
            if region.activation is not None:
                get_activation(region.activation, f"region {region.name!r}")
        tonic = self._by_unit([region.base_firing for region in regions])
        initial = self._by_unit([region.init for region in regions])
        self.fix("base_firing", tonic)
        self.fix("initial_x", initial)
        first_bias, first_init = self._learnt("bias"), self._learnt("init")
        self.bias = nn.Parameter(tonic[first_bias]) if len(first_bias) else None
        self.init = nn.Parameter(initial[first_init]) if len(first_init) else None
        self._prepare_noise_and_activation()
        self._prepare_alpha()  # before sampling: it refuses time constants that do not fit
        electrical = self.graph.electrical_projections()
        if len(electrical) and not self.has_states:
            label = projection_label(*electrical.names[0])
            what = f"{label} is electrical, and a current between states needs the leaky model, mRNN"
            raise ConfigError(f"{what}; {type(self).__name__} keeps nothing of a state.")
        rec = self._lowered("recurrent")
        if self.spectral_radius is not None and self._draw:
            with torch.no_grad():
                rec.scale_(self.spectral_factor(rec.matrix(), rec.pattern))
        if len(electrical):
            given = self.dtype, self.device
            self.electrical = ElectricalSynapses(electrical, self.layout(), *given, draw=self._draw)
            self._check_exchange()
        self.rec = rec

    def _prepare_noise_and_activation(self) -> None:
        """Register parameters for what is trained of noise levels, gains and thresholds."""
        for region in self.layout().regions:
            level = self.noise_level_act if region.noise_level is None else region.noise_level
            if region.learnable_noise and not np.all(np.asarray(level) > 0):
                problem = "learnable_noise needs noise levels above 0, of which the logarithm is learnt"
                raise ConfigError(f"region {region.name!r}: {problem}; give noise_level.")
        for value in LEARNT_VALUES:
            if value.declare in UNDECLARED and len(first := self._learnt(value.index, value.field)):
                start = self._declared(value.declare)[first]
                is_log = value.parameter.endswith("_log")
                setattr(self, value.parameter, nn.Parameter(start.log() if is_log else start))

    def _declared(self, field: str) -> Tensor:
        """Noise levels, gains or thresholds as declared, shape (units,); made once, as they are copied."""
        usual = UNDECLARED[field]
        otherwise = self.noise_level_act if usual is None else usual
        derived: dict[Any, Any] = {} if self.rec is None else self.rec.derived
        key = "declared", field, otherwise
        if key not in derived:
            values = (getattr(region, field) for region in self.layout().regions)
            derived[key] = self._by_unit([otherwise if value is None else value for value in values])
        return cast(Tensor, derived[key])

    def _check_exchange(self) -> None:
        """Warn of conductances that are too large for the time step; a model with states does."""

    def allocate(self) -> None:
        """Finalise without drawing anything: there are no synapses yet; `load_state_dict` brings them."""
        self._draw = False
        self.build("recurrent")
        self.build("input")

    def _lowered(self, kind: str) -> SparseWeights:
        constrained = self._constrained[kind]
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        if self._draw:
            stream = synapse_stream(self.seed, kind)
            blocks = lower(self.graph, kind, stream, constrained=constrained, dtype=dtype)
        else:
            blocks = without_synapses(self.graph, kind, constrained=constrained, dtype=dtype)
        projections = list(self.graph.low_rank_projections(kind))
        if not projections:
            return SparseWeights(blocks, self.dtype, self.device)
        rng = low_rank_stream(self.seed, kind)
        low_rank = LowRankProjections(
            projections, blocks.targets, blocks.sources, rng, self.dtype, self.device
        )
        return SparseWeights(blocks, self.dtype, self.device, low_rank)

    def _by_unit(self, values: Sequence[float | np.ndarray[Any, Any]]) -> Tensor:
        """Values of the regions, each one number or one per unit, as a tensor, shape (units,)."""
        parts = [np.broadcast_to(v, r.n) for v, r in zip(values, self.layout().regions, strict=True)]
        return torch.from_numpy(np.concatenate([np.empty(0), *parts])).to(self.device, self.dtype)

    def _learnt(self, name: str, learnable: str | None = None) -> Tensor:
        """Number the parameters of a value that is learnt, one a unit or one a region.

        Buffers: ``<name>_units``, the units that have one; ``<name>_of``, which one each of them has; and
        ``<name>_region``, the number of the region of each.

        Parameters
        ----------
        name : str
        learnable : str, optional
            The field of a region that says how. Default: ``learnable_<name>``.

        Returns
        -------
        Tensor of int64, shape (parameters,)
            For each parameter, the unit that it takes its initial value from.
        """
        ptr = self.layout().ptr.tolist()
        units: list[int] = []
        of: list[int] = []
        region_of: list[int] = []
        first: list[int] = []
        for k, region in enumerate(self.layout().regions):
            how = region.learnt_by(learnable or f"learnable_{name}")
            own = range(ptr[k], ptr[k + 1]) if how else range(0)
            new = own[:1] if how == "region" else own
            units += own
            of += [len(first)] * len(own) if how == "region" else range(len(first), len(first) + len(own))
            first += new
            region_of += [k] * len(new)
        *fixed, taken = (
            torch.tensor(numbers, dtype=torch.int64, device=self.device)
            for numbers in (units, of, region_of, first)
        )
        for what, index in zip(("units", "of", "region"), fixed, strict=True):
            self.fix(f"{name}_{what}", index, persistent=False)
        return taken

    def _declared_alpha(self) -> Tensor:
        """alpha as declared: one number if all have one and it is fixed, else of each unit."""
        regions = self.layout().regions
        alpha: list[Any] = [self._region_alpha(region) for region in regions] or [self._net_alpha]
        # By region, so that ranks, which have some of the units each, decide alike.
        fixed = not any(region.learnable_tau for region in regions)
        if fixed and not any(map(np.ndim, alpha)) and len(set(alpha)) == 1:
            return torch.tensor([alpha[:1]], dtype=self.dtype, device=self.device)
        return self._by_unit(alpha)[:, None]

    def _prepare_alpha(self) -> None:
        """Register alpha as declared, and a parameter for what is trained of it."""
        first, alpha = self._learnt("alpha", "learnable_tau"), self._declared_alpha()
        self.fix("base_alpha", alpha)
        low, high = (end[self.alpha_region] for end in self._alpha_bounds(self.layout().regions))
        self.fix("alpha_low", low, persistent=False)
        self.fix("alpha_high", high, persistent=False)
        # A parameter at its bound has no gradient: it starts a millionth of the range inside.
        share = ((alpha[first, 0] - low) / (high - low)).clamp(1e-6, 1 - 1e-6)
        self.tau_logit = nn.Parameter(torch.log1p(-share) - torch.log(share)) if len(first) else None

    def settings(self) -> dict[str, Any]:
        """The model and the arguments that make a network like this one from its graph, as JSON.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, activation="tanh", tau=50, device="cpu")
        >>> settings = net.settings()
        >>> settings["model"], settings["activation"], settings["tau"], settings["dtype"]
        ('leaky', 'tanh', 50, 'float32')
        """
        found = {"model": self.model, **{name: _plain(getattr(self, name)) for name in self.setting_names}}
        found["dtype"] = str(self.dtype).removeprefix("torch.")
        if "activation" in self.setting_names:
            own = self.activation.slope_into is None
            found["activation"] = {"function": self.activation.name} if own else self.activation.name
        return found

    def describe(self, arrays: Arrays | None = None) -> Description:
        """Settings, regions and projections as JSON; see `sparse_mrnn.state.describe`."""
        return describe(self.graph, self.settings(), arrays)

    @property
    def time_constants(self) -> dict[str, Any]:
        """Time constant of each region in ms, as it is now; empty for a model without a leak."""
        return {}

    def get_extra_state(self) -> Tensor:
        """The declaration of the network and digests of its synapses, for a state dict: JSON as bytes."""
        parts = {"rec": self.rec, "inp": self.inp}
        structure = {k: structure_digest(w.persistent_tensors()) for k, w in parts.items() if w is not None}
        if self.electrical is not None:
            structure["electrical"] = structure_digest(self.electrical.persistent_tensors())
        return encode({**declared(self.describe()), "structure": structure})

    def set_extra_state(self, state: Any) -> None:
        """Do nothing: the declaration of a network does not change when it loads a state."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over synapses, weights and other parameters, as `torch.nn.Module.load_state_dict`.

        The state dict must be of a network that was declared alike: regions with their signs, tonic inputs,
        initial states, time constants, activations and noise levels, projections with their signs and delays,
        model, dt and integrator. Its seed and backend may be others.

        Parameters
        ----------
        state_dict : dict
        strict : bool
            False: take the synapses and parameters that fit, leave what was declared as it is here, and warn.
            A network within another module, whose ``load_state_dict`` is called, is always compared strictly.
        assign : bool
            As in torch.

        Raises
        ------
        StateDictError
            If the network was declared otherwise; the message names what differs, and nothing is loaded.
        RuntimeError
            Of torch, where names or sizes differ.
        """
        self._strict = strict  # torch does not pass it on
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._strict = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        if "W_rec" in own or "W_inp" in own:
            what = "the state dict is of mRNNTorch: its weights are dense, with masks and signs"
            raise StateDictError(f"{what}. sparse_mrnn.interop.from_mrnntorch makes a network of it.")
        found: list[str] = []
        if "_extra_state" in own:
            found = declared_differences(own["_extra_state"], declared(self.describe()))
        if found and self._strict:
            text = f"the state dict is of a network declared otherwise: {first_of(found)}"
            advice = "Declare it alike, or load what fits: net.load_state_dict(..., strict=False)"
            raise StateDictError(f"{text}. {advice}.")
        if found:
            text = f"loading a state dict of a network declared otherwise: {first_of(found)}"
            warnings.warn(f"{text}. What was declared stays as it is here.", StateDictWarning, stacklevel=5)
            kept = {name: getattr(self, name) for name in ("base_alpha", "base_firing", "initial_x")}
            kept |= {"rec.sign": self.weights("recurrent").sign, "inp.sign": self.weights("input").sign}
            state_dict.update({prefix + name: tensor for name, tensor in kept.items() if name in own})
        if "_extra_state" in own:
            self.check_structure(own)
        self._known = dict(self.named_parameters())
        self._load_fixed(state_dict, prefix, *args)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]

    def check_structure(self, state: Mapping[str, Any]) -> None:
        """Refuse synapses that are not those the state dict says it has: the mean of two networks', say.

        Raises
        ------
        StateDictError
        """
        expected = decode(state["_extra_state"]).get("structure")
        for part, weights in (("rec", self.rec), ("inp", self.inp)):
            given = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
            if weights is None or "col" not in given or weights.misfits(given, ""):
                continue  # torch says what is missing or does not fit
            if not isinstance(expected, dict) or structure_digest(given) != expected.get(part):
                raise StateDictError(
                    f"the state dict is damaged or computed: the synapses of {part} are not those it was "
                    "made of. To average networks of one structure, average named_parameters(), or use "
                    "torch.optim.swa_utils.AveragedModel."
                )

    def _alpha_bounds(self, regions: Sequence[Region]) -> tuple[Tensor, Tensor]:
        """Bounds that a learnt alpha keeps to, each of shape (regions,), from those of the time constants."""
        low = torch.zeros(len(regions), dtype=self.dtype, device=self.device)
        return low, torch.ones_like(low)

    def _region_alpha(self, region: Region) -> float | np.ndarray[Any, Any]:
        """alpha of a region, one number or one per unit; 1 without a time constant."""
        return 1.0

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._number = register(self)

    @ordinary_tensors()
    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__dict__, memo))
        return copied

    @ordinary_tensors()
    def _apply(self, fn: Any, recurse: bool = True) -> mRNNBase:
        if self.rec is not None:
            converted = fn(self.rec.values.detach().new_empty(0))
            check_runnable(converted.dtype, converted.device)
        super()._apply(fn, recurse)
        if self.rec is not None:
            vars(self).update(device=self.rec.values.device, dtype=self.rec.values.dtype)
        return self


    # ---------------------------------------------------------------- showing

    def extra_repr(self) -> str:
        size = f"{self.graph.n_units:,} units in {len(self.hid_regions):,} regions"
        dtype = str(self.dtype).removeprefix("torch.")
        how = f"{self.activation.name}, backend={self.backend}, {dtype} on {self.device}"
        return f"{size}, {self.graph.n_inputs:,} inputs, {how}"

    def _repr_html_(self) -> str:
        table = self.graph.table()
        title = f"{type(self).__name__} {self.graph.name!r}: {self.extra_repr()}"
        return SummaryTable([title], table.columns, table.rows)._repr_html_()

    # ---------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the network whole, in one file that `sparse_mrnn.load` reads: safetensors with a JSON header.

        The file has class and settings, regions, projections with their rules, every synapse and value, what
        is frozen, and the seed. It is written beside ``path`` and then renamed: there is the new file or the
        old one.

        Raises
        ------
        FinalizeError
            If the network is not finalised.
        SavedFileError
            If it cannot be written, or the network is of a class of your own.

        Examples
        --------
        >>> import tempfile, sparse_mrnn as sm
        >>> net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, device="cpu", seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(f"{folder}/net.safetensors")
        ...     sm.load(f"{folder}/net.safetensors", device="cpu").seed
        0
        """
        name = type(self).__name__
        if not type(self).__module__.startswith("sparse_mrnn.") or "model" not in vars(type(self)):
            raise SavedFileError(
                f"{name} is a class of your own, which a file cannot name. save_checkpoint keeps its "
                "parameters; load_checkpoint loads them into one that your code has made."
            )
        if not (self.rec_finalized and self.inp_finalized):
            raise FinalizeError("save: the network is not finalised; call finalize_connectivity() first.")
        not_trained = [name for name, p in self.named_parameters() if not p.requires_grad]
        where, state = Path(path), self.state_dict(keep_vars=True)  # the tensors themselves, not copies
        self._refuse_foreign_entries(state)
        seeds = self._noise_seeds
        write_network(
            where, self.graph, self.settings(), state, noise_seeds=seeds, not_trained=not_trained
        )

    def _refuse_foreign_entries(self, state: Mapping[str, Any]) -> None:
        """Refuse to save what `load` could not give back: modules and parameters that a user has added."""
        own = {"_extra_state"}
        for prefix, part in self.named_modules():
            if isinstance(part, FixedTensors):
                names = (*part.parameter_names, *part.persistent_tensors())
                own |= {f"{prefix}.{name}".lstrip(".") for name in names}
        factors = (f"{part}.low_rank.{side}" for part in ("rec", "inp") for side in ("left", "right"))
        lists = ("electrical.conductances", *factors)
        for name in state:
            module, _, last = name.rpartition(".")
            of_list = module in lists and last.isdigit()
            if name in own or of_list or name.startswith("activation_module."):
                continue
            raise SavedFileError(
                f"save: {name} is not part of a network's file. Make pruned or parametrized weights permanent"
                " (torch.nn.utils.prune.remove, parametrize.remove_parametrizations); keep modules and "
                "parameters of your own by sparse_mrnn.save_checkpoint."
            )

    def to_graph(self) -> RegionGraph:
        """The network as a declaration: synapses, effective weights, tonic input and time constants as now.

        All projections of the result are explicit; frozen ones are not trainable, and gains that synapses
        share are multiplied in: every synapse has a weight of its own. Where Dale's law does not hold here
        and a weight has another sign than its source, the projection's sign is "free". A network of the same
        settings made of it computes the same.

        Raises
        ------
        ConversionError
            If a projection has low rank, and so no synapses.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", fan_in=2)
        >>> next(sm.mRNN(g, device="cpu").to_graph().projections()).weights.nnz
        6
        """
        values = {
            "base_firing": self.tonic_inp, "init": self._declared_init(),
            "noise_level": self.unit_noise_level, "activation_gain": self.activation_gain,
            "activation_threshold": self.activation_threshold,
        }  # fmt: skip
        return explicit_graph(
            self.graph, self.weight_matrices(), self.electrical, values, self.time_constants
        )

    def simulation_settings(self) -> SimulationConfig:
        """The network's settings as the ``simulation`` section of a configuration.

        The spectral radius is left out: the weights have it.

        Raises
        ------
        ConfigError
            If the activation is a function of your own.
        """
        settings = self.settings()
        if not isinstance(settings.get("activation", ""), str):
            name = self.activation.name
            what = "is a function of your own, which a configuration cannot name"
            raise ConfigError(f"activation {name!r} {what}; net.save keeps the network.")
        fields = {name: value for name, value in settings.items() if name != "spectral_radius"}
        return SimulationConfig(**fields)

    def to_scipy(
        self, regions: str | Sequence[str] | None = None, *, kind: str = "recurrent"
    ) -> sp.csr_array:
        """Effective weights as a scipy matrix, those of parallel projections added.

        Parameters
        ----------
        regions : str or sequence of str, optional
            Only among these regions or parents (of input weights: only into them), in unit order.
        kind : {"recurrent", "input"}

        Returns
        -------
        csr_array, shape (target units, source units)

        Raises
        ------
        UnknownNameError
            If there is no such region.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_region("b", 2); g.add_projection("a", "b")
        >>> net = sm.mRNN(g, device="cpu")
        >>> net.to_scipy().shape, net.to_scipy().nnz, net.to_scipy(regions="b").nnz
        ((5, 5), 6, 0)
        """
        return to_scipy(self.weights(kind), regions)

    def to_networkx(self, of: Literal["units", "regions"] = "units") -> nx.MultiDiGraph:
        """The network as a networkx graph of plain attributes, which every networkx writer takes.

        Parameters
        ----------
        of : {"units", "regions"}
            Units: a node per unit and input channel (region, kind, sign, x, y, z where it has a position), an
            edge per synapse (weight; delay in ms), whose key is that of its projection. A unit is called by
            its id; by "region/id" where regions share one. Regions: a node per region (kind, units, sign,
            parent_region), an edge per projection (synapses, density, weight, which is their sum,
            mean_weight, delay).

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
        >>> sm.mRNN(g, device="cpu").to_networkx().number_of_edges()
        9
        """
        return to_networkx(self.graph, self.weight_matrices(), self.electrical, of)

    def to_torch_geometric(self) -> Any:
        """The network as a ``torch_geometric.data.Data``: nodes are the units and then the input channels.

        ``edge_index`` (source, target), ``edge_weight`` (effective, detached), ``projection`` of each edge;
        ``region``, ``sign`` and ``is_input`` of each node; ``region_names``, ``projection_names``,
        ``unit_ids``.

        Raises
        ------
        MissingExtraError
            Without torch_geometric.
        """
        return to_torch_geometric(self.weight_matrices(), self.electrical)

    # ---------------------------------------------------------------- state and noise

    @property
    def tonic_inp(self) -> Tensor:
        """Tonic input of every unit, shape (units,), in unit order; differentiable where it is learnt."""
        if self.rec is None:
            return self._by_unit([region.base_firing for region in self.layout().regions])
        if self.bias is None:
            return self.base_firing
        return self.base_firing.index_copy(0, self.bias_units, self.bias[self.bias_of])

    def unit_alpha(self) -> Tensor:
        """Share of the state replaced in a step: of each unit, shape (units, 1), or one for all, shape (1,
        1).

        Of regions with ``learnable_tau`` it is low + (high - low) (1 - sigmoid(tau_logit)), one parameter a
        region or unit, which stays between 0 and 1 whatever an optimiser does; differentiable.
        """
        if self.rec is None:
            return self._declared_alpha()
        if self.tau_logit is None:
            return self.base_alpha
        p = self.tau_logit
        # Near 1, the derivative of sigmoid(-p) cancels; that of sigmoid(p), which is small there, does not
        share = torch.where(p < 0, 1 - torch.sigmoid(p), torch.sigmoid(-p))
        learnt = self.alpha_low + (self.alpha_high - self.alpha_low) * share
        return self.base_alpha.index_copy(0, self.alpha_units, learnt[self.alpha_of, None])

    @property
    def background(self) -> tuple[Stimulus, ...]:
        """Stimuli that belong to the network: every simulation has them."""
        return ()

    @property
    def initial_condition(self) -> Tensor:
        """Initial pre-activation of every unit, shape (units,); differentiable where it is learnt."""
        return self._declared_init()

    def _declared_init(self) -> Tensor:
        if self.rec is None:
            return self._by_unit([region.init for region in self.layout().regions])
        if self.init is None:
            return self.initial_x
        return self.initial_x.index_copy(0, self.init_units, self.init[self.init_of])

    @property
    def unit_noise_level(self) -> Tensor:
        """Noise level of every unit, shape (units,); differentiable where it is learnt."""
        declared = self._declared("noise_level")
        if self.noise_log is None:
            return declared
        return declared.index_copy(0, self.noise_units, self.noise_log.exp()[self.noise_of])

    @property
    def activation_gain(self) -> Tensor:
        """Gain g of every unit's f(g (x - threshold)), shape (units,); differentiable where it is learnt."""
        declared = self._declared("activation_gain")
        if self.gain_log is None:
            return declared
        return declared.index_copy(0, self.gain_units, self.gain_log.exp()[self.gain_of])

    @property
    def activation_threshold(self) -> Tensor:
        """Threshold of every unit's activation, shape (units,), as `activation_gain`."""
        declared = self._declared("activation_threshold")
        if self.x_threshold is None:
            return declared
        return declared.index_copy(0, self.threshold_units, self.x_threshold[self.threshold_of])

    def batched_initial_condition(self, batch_size: int) -> tuple[Tensor, ...]:
        """Initial states ``(x0, h0)``, each (batch, units), with h0 = activation(x0)."""
        return self.initial_tensors(whole_number(batch_size, "batch_size", ShapeError))

    def initial_state(self, batch_size: int) -> NetworkState:
        """The state at the start of so many trials, for ``forward``, ``step`` and ``simulate``."""
        return self.border("initial_state").start(
            None, None, whole_number(batch_size, "batch_size", ShapeError), self.initial_tensors
        )

    def initial_tensors(self, batch: int) -> tuple[Tensor, ...]:
        """Initial states and activity of so many trials, or none, each (batch, units)."""
        x0 = self.initial_condition.repeat(batch, 1)
        states = self.equation.initial(x0.t())
        return (*(state.t() for state in states), self.equation.activity(states).t())

    @property
    def activation_segments(self) -> ActivationSegments:
        """List the activations and the range of units each applies to."""
        runs: list[tuple[int, int, Activation, bool]] = []  # the last: with gains and thresholds
        own = self.activation.bound()
        for region in self.layout().regions:
            activation = own if region.activation is None else get_activation(region.activation)
            has_values, start = region.has_activation_values, runs[-1][1] if runs else 0
            stop = start + region.n
            if runs and runs[-1][2] is activation and runs[-1][3] == has_values:
                start = runs.pop()[0]
            runs.append((start, stop, activation, has_values))
        if not any(has_values for *_, has_values in runs):
            return ActivationSegments(tuple(run[:3] for run in runs))
        gain, threshold = self.activation_gain, self.activation_threshold
        return ActivationSegments(tuple(
            (start, stop, with_values(f, gain[start:stop], threshold[start:stop]) if has_values else f)
            for start, stop, f, has_values in runs
        ))  # fmt: skip

    @property
    def _net_alpha(self) -> float:
        return 1.0

    def set_noise_seeds(self, seeds: tuple[int, int] | None) -> None:
        """Restart the noise of inputs and units from seeds of their own; None: draw it as torch does."""
        self._noise_seeds, self._generators = seeds, None

    def reset_noise(self, seed: int | None = None) -> None:
        """Restart the noise from the network's seed, or from another one, on generators it owns."""
        seeds = self._noise_seeds or network_noise_seeds(self.seed)
        self.set_noise_seeds(seeds if seed is None else noise_seeds(seed_number(seed, ConfigError)))

    def noise_state(self) -> NoiseState:
        """Describe where the network's noise is, for `set_noise_state` to go on from."""
        if self._noise_seeds is None:
            state = torch.get_rng_state()
            return NoiseState(None, state, state)
        return NoiseState(self._noise_seeds, *self.make_noise().state())

    def set_noise_state(self, state: NoiseState) -> None:
        """Go on with the noise of `noise_state`, of a network on the same kind of device.

        If that network was built without a seed, this sets torch's global generator.

        Raises
        ------
        ConfigError
            If the state is of another kind of generator.
        """
        generators = self.restored_generators(state)
        if state.seeds is None:
            torch.set_rng_state(state.units)
        self._noise_seeds, self._generators = state.seeds, generators

    def restored_generators(self, state: NoiseState) -> tuple[torch.Generator, torch.Generator]:
        """Make generators that go on from a state; the network's own stay as they are.

        Raises
        ------
        ConfigError
            If the state is of another kind of generator.
        """
        try:
            apart = torch.Generator(), torch.Generator()
            inputs, units = self._seeded(state.seeds) if state.seeds else apart
            return inputs.set_state(state.inputs), units.set_state(state.units)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"the noise cannot go on on {self.device}: {error}") from error

    def make_noise(self) -> Noise:
        """The network's noise, where ``forward`` has left it; without a seed, from torch's generator anew.

        Raises
        ------
        ConfigError
            In a backward pass, where `torch.utils.checkpoint` computes again, if the generators are the
            network's own.
        """
        if self._noise_seeds is None:
            # Two seeds a call: what is drawn does not depend on the segments that a pass is run in
            first, second = torch.randint(2**62, (2,), device="cpu").tolist()
            return Noise(*self.noise_levels(), *self._seeded((first, second)))
        if torch._C._current_graph_task_id() != -1:
            raise ConfigError(
                "forward(noise=True) within a backward pass: torch.utils.checkpoint restores torch's "
                "generator, not those of a network with a seed, so it would draw other noise. Build the "
                "network without seed=, or use forward(..., checkpoint_steps='auto') instead."
            )
        if self._generators is None or self._generators[0].device != self.device:
            self._generators = self._seeded(self._noise_seeds)
        return Noise(*self.noise_levels(), *self._generators)

    def _seeded(self, seeds: tuple[int, int]) -> tuple[torch.Generator, torch.Generator]:
        first, second = (torch.Generator(self.device).manual_seed(seed) for seed in seeds)
        return first, second

    def noise_levels(self) -> tuple[float, float | Tensor]:
        """Standard deviations of the input noise, and of the unit noise: one, or of shape (units, 1).

        They are sqrt(2 alpha) level / alpha, of the network's alpha and of each unit's. Differentiated in
        learnt noise levels alone: a learnt alpha gets no gradient from how much noise it lets in.
        """
        inputs = math.sqrt(2 * self._net_alpha) * self.noise_level_inp / self._net_alpha
        rate, regions = self._fixed_rate(), self.layout().regions
        own = self.noise_log is not None or any(r.noise_level is not None for r in regions)
        if rate is not None and not own:
            return inputs, math.sqrt(2 * rate) * self.noise_level_act / rate
        alpha = self.unit_alpha().detach()
        return inputs, torch.sqrt(2 * alpha) * self.unit_noise_level[:, None] / alpha

    # ---------------------------------------------------------------- running

    @property
    def equation(self) -> Step:
        """The equation of a time step; `mRNN` and `ElmanmRNN` define it."""
        raise TypeError("mRNNBase has no dynamics; use mRNN or ElmanmRNN.")

    def step_parameters(self) -> dict[str, Tensor]:
        """Collect the step's tensors besides states and current, by name, each of shape (units, 1) or (1, 1).

        Here it is the tonic input, "bias", unless that is 0 everywhere.
        """
        self.weights("recurrent")
        if self.bias is None and not self._read("tonic", self.base_firing, lambda t: bool(t.any())):
            return {}
        return {"bias": self.tonic_inp[:, None]}

    def unit_time_constants(self) -> Tensor:
        """Time constant of each unit in ms, shape (units, 1), float64: a time step, without a leak."""
        return torch.full((self.layout().n, 1), self.dt, dtype=torch.float64, device=self.device)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the dynamics; `mRNN` and `ElmanmRNN` define it."""
        raise TypeError("mRNNBase has no dynamics; use mRNN or ElmanmRNN.")

    def _run(
        self,
        inp: Tensor,
        start: Start = None,
        h0: Tensor | None = None,
        stim: Tensor | None = None,
        noise: bool = False,
        W_rec: Tensor | None = None,  # noqa: N803
        checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Check the arguments, run, and return the sequences of all states and of the activity.

        With ``return_state``, the state to go on from comes after them.
        """
        if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
            self.__prepare_scriptable__()
        if torch.compiler.is_compiling():
            if not isinstance(start, NetworkState) and W_rec is None and not return_state:
                number: int = self.__dict__["_number"]
                return run_compiled(self, number, inp, start, h0, stim, noise, checkpoint_steps, regions)
            # disabling at import costs seconds
            around = torch.compiler.disable(self._run)  # type: ignore[no-untyped-call]
            return around(inp, start, h0, stim, noise, W_rec, checkpoint_steps, regions, return_state)
        if not (self.rec_finalized and self.inp_finalized):
            missing = "recurrent" if not self.rec_finalized else "input"
            raise FinalizeError(
                f"forward: the {missing} connectivity is not finalised; call finalize_connectivity() first."
            )
        border = self.border("forward")
        returned = None if regions is None else self._returned_units(regions)
        whole = true_or_false(return_state, "return_state", ConfigError)
        given = inp, start, h0, stim, noise, checkpoint_steps, None if whole else returned
        call = border.check(*given, self.initial_tensors)
        if W_rec is not None:
            check_tensor("W_rec", W_rec)
            W_rec = border.cast(W_rec)  # noqa: N806
        with border.full_precision(), ordinary_tensors():
            groups, weights = self.recurrent_groups(border, W_rec)
            call, drawn = border.with_noise(call, self.make_noise() if call.noise else None)
            found = recurrence(*prepare(border, call, partial(DelayedProduct, groups), weights, drawn))
            if not whole:
                return border.back(found)
            state = border.after(call, found)
            if returned is not None:
                found = tuple(each.index_select(1, returned) for each in found)
            sequences = border.back(found)
            return (*(sequences if isinstance(sequences, tuple) else (sequences,)), state)

    def step(
        self, u: Tensor, state: Start = None, stim_input: Tensor | None = None, noise: bool = False
    ) -> NetworkState:
        """Make one time step, for closed loops: the next input depends on the activity. Differentiable.

        Values and gradients are those of ``forward``. Products and weights are kept from call to call, until
        a parameter or setting changes. Changes in place, new data, and writes through ``.data`` or numpy are
        noticed; but not an exchange of values, by such a write, within a tensor of more than 16,384.

        Parameters
        ----------
        u : Tensor, shape (batch, inputs)
        state : NetworkState, or as ``forward`` takes its start, optional
            Default: the initial condition.
        stim_input : Tensor, shape (batch, units), optional
            Current added to the units.
        noise : bool
            Add noise to units and inputs, as ``forward`` does.

        Returns
        -------
        NetworkState
            ``state.h`` and ``state.x`` have shape (batch, units).

        Raises
        ------
        FinalizeError
            If the connectivity is not finalised.
        ShapeError
            If a tensor has the wrong shape, dtype or device.
        ConfigError
            If ``noise`` is not a bool.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_input("i", 2)
        >>> g.add_projection("a", "a"); g.add_projection("i", "a")
        >>> net = sm.mRNN(g, device="cpu", seed=0)
        >>> state = net.initial_state(1)
        >>> for _ in range(3):
        ...     state = net.step(1 - state.h[:, :2], state)
        >>> state.h.shape
        torch.Size([1, 4])
        """
        if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
            self.__prepare_scriptable__()
        if torch.compiler.is_compiling():  # as in `_run`
            around = torch.compiler.disable(make_step)  # type: ignore[no-untyped-call]
            found: NetworkState = around(self, u, state, stim_input, noise)
            return found
        return make_step(self, u, state, stim_input, noise)

    def border(self, caller: str) -> Border:
        """The border of a function of this name, which takes and returns states of this network."""
        longest = longest_delay(self.weights("recurrent"), self.dt)
        return Border(self, self.weights("input"), self.batch_first, longest=longest, caller=caller)

    def __prepare_scriptable__(self) -> None:  # torch.jit.script asks for it
        what = "the recurrence of a whole network, a function of sparse matrices, cannot be exported"
        raise ConversionError(f"{what}; export one step: sparse_mrnn.interop.step_module(net).")

    def recurrent_groups(
        self, border: Border, given: Tensor | None = None
    ) -> tuple[tuple[DelayGroup, ...], Tensor]:
        """The recurrent weights, or those given to ``forward``, by delay; and their stored values."""
        rec = self.weights("recurrent")
        if has_delays(rec, self.dt):
            if given is not None:
                raise ConfigError(
                    "forward: W_rec does not say which synapse has which delay; this network has delays, so "
                    "leave it out."
                )
            operand = rec.operand("csr")
        elif given is not None:
            n = rec.shape[0]
            border.check_shape("W_rec", given, (n, n), f"(units, units) = ({n}, {n})")
            pattern, values = split_sparse(given)
            operator = DenseOperator((n, n)) if pattern is None else CsrOperator(pattern)
            return (DelayGroup(1, operator),), values
        else:
            operand = rec.operand(self.chosen_backend)
        return delay_groups(rec, self.dt, operand.operator), rec.stored_values(operand)

    @property
    def chosen_backend(self) -> str:
        """The backend of the recurrent product: ``backend``, or what "auto" stands for in this network."""
        if self.backend != "auto":
            return self.backend
        rec = self.weights("recurrent")
        n, blocks = rec.shape[0], rec.dense_synapses
        if n <= DENSE_UNITS:
            return "dense"
        if blocks >= max(HYBRID_SYNAPSES, HYBRID_SHARE * rec.nnz):
            return "hybrid"
        return "dense" if rec.nnz >= DENSE_FILL * n * n and n * n <= DENSE_LIMIT else "csr"

    def _fixed_rate(self) -> float | None:
        """alpha as a number where it is one for all; read from the device once."""
        if self.tau_logit is not None or (alpha := self.unit_alpha()).numel() != 1:
            return None
        rate: float = self._read("rate", alpha, float)
        return rate

    def _read(self, name: str, tensor: Tensor, read: Callable[[Tensor], Any]) -> Any:
        """Read a tensor by ``read``: once, because it waits for the device, until it changes."""
        found = self._on_host.get(name)
        if found is None or found[0] is not tensor or found[1] != tensor._version:
            found = self._on_host[name] = tensor, tensor._version, read(tensor)
        return found[2]

    def _returned_units(self, regions: str | Sequence[str]) -> Tensor:
        names = [regions] if isinstance(regions, str) else list(regions)
        if not names:
            raise ConfigError("regions is empty; name at least one, or leave it out to get every unit.")
        return torch.from_numpy(self.layout().indices(*names)).to(self.device)

    def memory_estimate(self, batch: int = 1, steps: int = 1, training: bool = False) -> MemoryEstimate:
        """Bytes that ``forward`` over ``steps`` steps needs, and with ``training`` its backward and Adam.

        Raises
        ------
        ShapeError
            If batch or steps is not a whole number of at least 1.

        Notes
        -----
        Simulation: parameter, effective value, column index, and permutation and sign where there are any.
        """
        batch, steps = whole_number(batch, "batch", ShapeError), whole_number(steps, "steps", ShapeError)
        size = torch.empty((), dtype=self.dtype).element_size()
        weights = pattern = training_bytes = 0
        for part in (self.weights("recurrent"), self.weights("input")):
            index = part.col.element_size()
            weights += 2 * size * part.nnz
            extra = sum(t.element_size() for t in (part.perm, part.synapse_sign) if t is not None)
            pattern += part.nnz * (index + extra) + index * (sum(part.shape) + 1)
            learnt = sum(p.numel() for p in part.parameters() if p.requires_grad)
            weights += size * (sum(p.numel() for p in part.parameters()) - part.values.numel())
            if training:
                # Gradient of each synapse, transposed values, pattern and order; gradient, Adam's moments
                training_bytes += part.nnz * (2 * size + 3 * index) + 3 * size * learnt
        if self.electrical is not None:
            pairs = self.electrical.rows.numel()
            weights += 2 * size * pairs
            pattern += pairs * (2 * 8 + 2 * 9)  # ends of each pair; the other unit, pair and direction, twice
            training_bytes += 4 * size * pairs if training else 0
        n = self.weights("recurrent").shape[0]
        states = 2 * size * n * batch * (steps + 1)
        if training:
            gathered = gathered_steps(steps, batch, n, size)
            training_bytes += size * n * batch * (6 + 2 * gathered)
        return MemoryEstimate(weights, pattern, states, training_bytes)


def _keep_parameters(net: Any, _: Any) -> None:
    """After ``load_state_dict(assign=True)``: the parameters stay the objects that optimisers know."""
    for name, parameter in net._known.items():
        module = net.get_submodule(name.rpartition(".")[0])
        new = module._parameters[name.rpartition(".")[2]]
        if new is not None and new is not parameter and new.device == parameter.device:
            parameter.data, parameter.grad = new.data, None
            module._parameters[name.rpartition(".")[2]] = parameter
    net._known = {}
    for part in (net.rec, net.inp):
        if part is not None:
            part.bind_views()


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as those of Python."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value.item() if isinstance(value, np.generic | Tensor) else value

