"""mRNNTorch's names: what its users call on a network, over what is ours.

docs/migration.md is the page for users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparse_mrnn.declaration.graph import Region
from sparse_mrnn.errors import ConfigError, FinalizeError, GraphError, ShapeError
from sparse_mrnn.models.csr_matrix import CsrMatrix
from sparse_mrnn.models.devices import chosen_device
from sparse_mrnn.models.queries import RegionQueries, effective_subset, matrix_subset
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.activations import Activation
from sparse_mrnn.ops.pattern import split_sparse
from sparse_mrnn.spectral import spectral_radius as find_spectral_radius


@dataclass(frozen=True, eq=False)
class Connection:
    """The projections from one region to another: mRNNTorch's ``net.region_dict[source][target]``.

    Attributes
    ----------
    parameter : Tensor, CSR, shape (target units, source units)
        Parameters before Dale's law; without entries until the connectivity is finalised.
    weight_mask, sign_matrix : Tensor or None
        1 where a synapse exists, and its sign, of the same pattern; None until the connectivity is finalised.
    zero_connection : bool
        True if no projection is declared.
    """

    parameter: Tensor
    weight_mask: Tensor | None
    sign_matrix: Tensor | None
    zero_connection: bool


@dataclass(frozen=True, eq=False)
class NetworkRegion(Region):
    """A region of a network, which answers by mRNNTorch's names what its connections are.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN(device="cpu")
    >>> net.add_recurrent_region("a", 2); net.add_recurrent_region("b", 3)
    >>> net.add_recurrent_connection("a", "b")
    >>> net["a"]["b"].parameter.shape, list(net["a"].connections), net["b"].has_connection_to("a")
    (torch.Size([3, 2]), ['b'], False)
    """

    net: MRNNTorchNames = field(kw_only=True, repr=False)

    def __getitem__(self, target: str | int) -> Connection:
        """The connection to a region, by its name or its place among the connections."""
        name = list(self.net.graph[self.name])[target] if isinstance(target, int) else target
        return self.net.connection(self.name, name)

    @property
    def connections(self) -> dict[str, Connection]:
        """Declared connections by target."""
        return {target: self.net.connection(self.name, target) for target in self.net.graph[self.name]}

    def has_connection_to(self, region: str) -> bool:
        """Tell if a connection to ``region`` is declared."""
        return bool(self.net.graph.has_edge(self.name, region))


class MRNNTorchNames(RegionQueries):
    """The vocabulary of mRNNTorch, for a network that has what is ours.

    Every query by region name takes the name of a parent region, too.
    """

    activation: Activation
    noise_level_act: float
    noise_level_inp: float
    device: torch.device
    dtype: torch.dtype

    if TYPE_CHECKING:  # ours, of mRNNBase

        def build(self, kind: str) -> None: ...
        def unit_alpha(self) -> Tensor: ...
        def noise_levels(self) -> tuple[float, float | Tensor]: ...

    # ---------------------------------------------------------------- declaring

    def add_recurrent_region(
        self,
        name: str,
        num_units: int,
        sign: str | Any = "pos",
        base_firing: float | Any = 0,
        init: float | Any = 0,
        parent_region: str | None = None,
        learnable_bias: bool | str = False,
        *,
        device: str | torch.device | None = None,
        **more: Any,
    ) -> None:
        """Add a recurrent region.

        Parameters
        ----------
        name, num_units, sign, base_firing, init, parent_region, learnable_bias
            As `RegionGraph.add_region`.
        device : str or torch.device, optional
            The network's, if it is given: a network is on one device.
        **more
            As in `RegionGraph.add_region`.

        Raises
        ------
        FinalizeError
            After finalising.
        ConfigError
            If the device is another one than the network's.
        GraphError
            As `RegionGraph.add_region`.
        """
        self._still_open("recurrent region", name, self.rec_finalized or self.inp_finalized)
        self._check_device(name, device)
        given: dict[str, Any] = {"sign": sign, "base_firing": base_firing, "init": init}
        given |= {"parent_region": parent_region, "learnable_bias": learnable_bias, **more}
        for option, value in given.items():
            if isinstance(value, Tensor):
                given[option] = value.detach().cpu().numpy()
        self.graph.add_region(name, num_units, **given)
        self._names = None

    def add_input_region(
        self,
        name: str,
        num_units: int,
        sign: str | Any = "pos",
        *,
        device: str | torch.device | None = None,
    ) -> None:
        """Add an input region of ``num_units`` channels; ``device`` as in `add_recurrent_region`."""
        self._still_open("input region", name, self.inp_finalized)
        self._check_device(name, device)
        self.graph.add_input(name, num_units, sign=sign)
        self._names = None

    def __setitem__(self, name: str, region: Region) -> None:
        """Add the region ``region`` under ``name``, or replace one, before finalising."""
        if not isinstance(region, Region):
            raise TypeError(f"net[{name!r}] = ... takes a Region, not {type(region).__name__}.")
        self._still_open("region", name, self.rec_finalized or self.inp_finalized)
        self.graph.set_region(replace(region, name=name))
        self._names = None

    def add_recurrent_connection(
        self,
        src_region: str,
        dst_region: str,
        sparsity: float | None = None,
        *,
        density: float | None = None,
        **more: Any,
    ) -> None:
        """Connect two recurrent regions.

        Parameters
        ----------
        src_region, dst_region : str
        sparsity, density : float in [0, 1], optional
            Fraction of the connections that exist, by mRNNTorch's name or a clear one; give one. None: all.
        **more
            As in `RegionGraph.add_projection`: fan_in, rule, weights, key, initializer, trainable, ...
        """
        self._connect("recurrent", src_region, dst_region, sparsity, density, more)

    def add_input_connection(
        self,
        src_region: str,
        dst_region: str,
        sparsity: float | None = None,
        *,
        density: float | None = None,
        **more: Any,
    ) -> None:
        """Connect an input region to a recurrent one; arguments as `add_recurrent_connection`."""
        self._connect("input", src_region, dst_region, sparsity, density, more)

    def _connect(
        self,
        kind: str,
        src: str,
        dst: str,
        sparsity: float | None,
        density: float | None,
        more: dict[str, Any],
    ) -> None:
        closed = self.rec_finalized if kind == "recurrent" else self.inp_finalized
        self._still_open(f"{kind} connection", f"{src} -> {dst}", closed)
        if src in self.graph and self.graph.region(src).kind != kind:
            other = "add_input_connection" if kind == "recurrent" else "add_recurrent_connection"
            raise ConfigError(f"{src!r} is not a {kind} region; use {other}.")
        if sparsity is not None and density is not None:
            raise ConfigError(f"{src} -> {dst}: sparsity and density are the same number; give one.")
        self.graph.add_projection(src, dst, density=density if sparsity is None else sparsity, **more)

    def _still_open(self, what: str, name: str, closed: bool) -> None:
        if closed:
            raise FinalizeError(
                f"cannot add {what} {name!r}: the connectivity is finalised; add everything before, or build "
                "a new network."
            )

    def _check_device(self, name: str, device: str | torch.device | None) -> None:
        if device is not None and (chosen := chosen_device(device)) != self.device:
            where = f"region {name!r}: device is {chosen}, the network is on {self.device}"
            raise ConfigError(f"{where}; leave it out, and give the network its device.")

    def finalize_connectivity(self) -> None:
        """Finalise the recurrent and the input connectivity; ``net.graph`` is read-only from then on.

        Raises
        ------
        FinalizeError
            If there is no recurrent region.
        SpectralError
            If a spectral radius is asked for and the net has none to scale.
        """
        self.finalize_rec_connectivity()
        self.finalize_inp_connectivity()

    def finalize_rec_connectivity(self) -> None:
        """Sample the recurrent synapses and make the parameters; a second call does nothing.

        Raises as `finalize_connectivity`.
        """
        self.build("recurrent")

    def finalize_inp_connectivity(self) -> None:
        """Sample the input synapses and make the parameters; a second call does nothing."""
        self.build("input")

    @property
    def rec_finalized(self) -> bool:
        """True once the recurrent connectivity is finalised."""
        return self.rec is not None

    @property
    def inp_finalized(self) -> bool:
        """True once the input connectivity is finalised."""
        return self.inp is not None

    # ---------------------------------------------------------------- regions and units

    @property
    def region_dict(self) -> dict[str, NetworkRegion]:
        """Recurrent regions by name, in unit order."""
        return self._regions("recurrent")

    @property
    def inp_dict(self) -> dict[str, NetworkRegion]:
        """Input regions by name, in channel order."""
        return self._regions("input")

    def _regions(self, kind: str) -> dict[str, NetworkRegion]:
        return {r.name: NetworkRegion(**vars(r), net=self) for r in self.layout(kind).regions}

    @property
    def total_num_units(self) -> int:
        """Recurrent units."""
        return self.layout().n

    @property
    def total_num_inputs(self) -> int:
        """Channels of all inputs."""
        return self.layout("input").n

    @property
    def region_mask_dict(self) -> dict[str, Tensor]:
        """1 at the units of each recurrent region and 0 elsewhere, shape (units,), by region."""
        layout = self.layout()
        masks = {name: torch.zeros(layout.n, dtype=self.dtype) for name in layout.index}
        for name, mask in masks.items():
            mask[layout.slice(name)] = 1
        return {name: mask.to(self.device) for name, mask in masks.items()}

    def __getitem__(self, name: str) -> NetworkRegion:
        """A region or input by name."""
        return NetworkRegion(**vars(self.graph.region(name)), net=self)

    @property
    def hid_regions(self) -> list[str]:
        """Names of the recurrent regions, in unit order."""
        return list(self.layout().index)

    @property
    def inp_regions(self) -> list[str]:
        """Names of the input regions, in channel order."""
        return list(self.layout("input").index)

    def named_rec_regions(self, prefix: str = "") -> Iterator[tuple[str, NetworkRegion]]:
        """Yield (name, region) of the recurrent regions; a prefix is joined with a dot."""
        yield from _named(self.region_dict, prefix)

    def named_inp_regions(self, prefix: str = "") -> Iterator[tuple[str, NetworkRegion]]:
        """Yield (name, region) of the input regions; a prefix is joined with a dot."""
        yield from _named(self.inp_dict, prefix)

    def get_region_size(self, region: str) -> int:
        """Units of a region, of all regions under a parent, or of an input.

        Raises
        ------
        UnknownNameError
            If there is no such region.
        """
        return len(self.unit_indices(region))

    def get_region_indices(self, region: str) -> tuple[int, int]:
        """First unit of a region and one past its last, in the state vector (of an input: the input vector).

        Raises
        ------
        UnknownNameError
            If there is no such region.
        GraphError
            If a parent's regions are not neighbours; use `unit_indices`.
        """
        units = self.layout(self.kind_of(region)).slice(region)
        return units.start, units.stop

    def get_region_activity(self, act: Tensor, *args: str) -> Tensor:
        """Activity of some regions.

        Parameters
        ----------
        act : Tensor, shape (..., units)
            Any states of the network, units last.
        *args : str
            Regions or parents. They come in the order given, each in unit order, none twice.

        Returns
        -------
        Tensor, shape (..., units of the regions)
        """
        n = self.layout().n
        if act.shape[-1] != n:
            got = act.shape[-1]
            raise ShapeError(f"get_region_activity: act has {got} units (last dimension), the network {n}.")
        return act[..., torch.from_numpy(self.layout().indices(*args)).to(act.device)]

    def get_excluded_hid_regions(self, *args: str) -> list[str]:
        """Recurrent regions not among the given regions and parents."""
        return self._excluded("recurrent", args)

    def get_excluded_inp_regions(self, *args: str) -> list[str]:
        """Input regions not among the given ones."""
        return self._excluded("input", args)

    def _excluded(self, kind: str, names: tuple[str, ...]) -> list[str]:
        layout = self.layout(kind)
        given = set(layout.members(*names))
        return [region.name for region in layout.regions if region.name not in given]

    def combine_states(
        self,
        states_a: Tensor,
        states_b: Tensor,
        region_list_a: list[str],
        region_list_b: list[str],
        keep_dims: bool = True,
    ) -> Tensor:
        """Join the states of two lists of regions into one, in unit order.

        Parameters
        ----------
        states_a, states_b : Tensor, shape (..., units of the list)
            As `get_region_activity` returns them for the list.
        region_list_a, region_list_b : list of str
            Regions or parents; no region may be in both.
        keep_dims : bool
            False removes leading dimensions of size 1.

        Returns
        -------
        Tensor, shape (..., units of both lists)
        """
        layout = self.layout()
        index = [torch.from_numpy(layout.indices(*names)) for names in (region_list_a, region_list_b)]
        for what, states, units in (("a", states_a, index[0]), ("b", states_b, index[1])):
            if states.shape[-1] != len(units):
                got = states.shape[-1]
                raise ShapeError(f"combine_states: states_{what} has {got} units, its regions {len(units)}.")
        units = torch.cat(index)
        if len(torch.unique(units)) != len(units):
            raise GraphError("combine_states: a region is in both lists; leave it out of one.")
        joined = torch.cat([states_a, states_b], dim=-1)[..., torch.argsort(units).to(states_a.device)]
        if keep_dims:
            return joined
        return joined.reshape([size for size in joined.shape[:-1] if size != 1] + [joined.shape[-1]])

    def _ensure_order(self, *args: str) -> tuple[str, ...]:
        """Regions behind some names, in unit order; mRNNTorch's analysis calls it."""
        given = self.layout().members(*args)
        return tuple(name for name in self.hid_regions if name in given)

    # ---------------------------------------------------------------- weights

    @property
    def rec_constrained(self) -> bool:
        """Flag: Dale's law holds for recurrent weights; may be set."""
        return self._constrained["recurrent"]

    @rec_constrained.setter
    def rec_constrained(self, value: bool) -> None:
        self._constrained["recurrent"] = value
        if self.rec is not None:
            self.rec.constrained = value

    @property
    def inp_constrained(self) -> bool:
        """Flag: Dale's law holds for input weights; may be set."""
        return self._constrained["input"]

    @inp_constrained.setter
    def inp_constrained(self, value: bool) -> None:
        self._constrained["input"] = value
        if self.inp is not None:
            self.inp.constrained = value

    @property
    def W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent parameters as a CSR tensor, shape (units, units), before Dale's law."""
        return CsrMatrix(self.weights("recurrent").matrix(effective_weights=False))

    @property
    def W_inp(self) -> Tensor:  # noqa: N802
        """Input parameters as a CSR tensor, shape (units, channels), before Dale's law."""
        return CsrMatrix(self.weights("input").matrix(effective_weights=False))

    @property
    def W_rec_mask(self) -> Tensor:  # noqa: N802
        """1 where a recurrent synapse exists; the pattern of ``W_rec``."""
        return CsrMatrix(_mask(self.weights("recurrent")))

    @property
    def W_inp_mask(self) -> Tensor:  # noqa: N802
        """1 where an input synapse exists; the pattern of ``W_inp``."""
        return CsrMatrix(_mask(self.weights("input")))

    @property
    def W_rec_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each recurrent synapse (0: free); the pattern of ``W_rec``."""
        return CsrMatrix(_sign_matrix(self.weights("recurrent")))

    @property
    def W_inp_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each input synapse (0: free); the pattern of ``W_inp``."""
        return CsrMatrix(_sign_matrix(self.weights("input")))

    def get_projection(self, to: str, from_: str, *, sparse: bool = False) -> Tensor:
        """Effective weights of the projections from one region to another (parallel ones added).

        Parameters
        ----------
        to, from_ : str
            Target (rows) and source (columns); regions or parents. The source may be an input.
        sparse : bool
            Return a CSR tensor instead of a dense one.

        Returns
        -------
        Tensor, shape (target units, source units), differentiable in the weights

        Raises
        ------
        SizeError
            If the dense matrix would be very large; pass ``sparse=True``.
        WeightError
            If a sparse matrix is asked for, and some projection between them has low rank.
        """
        weights = self.weights(self.kind_of(from_))
        rows, cols = self.layout().indices(to), weights.sources.indices(from_)
        low_rank = weights.low_rank_among(self.layout().members(to), weights.sources.members(from_))
        return effective_subset(weights, torch.from_numpy(rows), torch.from_numpy(cols), sparse, low_rank)

    def get_weight_subset(
        self, *args: str, W: Tensor | None = None, sparse: bool = False  # noqa: N803
    ) -> Tensor:
        """Effective weights among some regions: to and from each other and themselves.

        Parameters
        ----------
        *args : str
            Regions or parents. Rows and columns come in unit order, whatever the order of the names, as in
            mRNNTorch. Default: all regions.
        W : Tensor, shape (units, units), optional
            Take them from this matrix (dense, COO or CSR) instead.
        sparse : bool
            Return a CSR tensor instead of a dense one.

        Returns
        -------
        Tensor, shape (units of the regions, units of the regions)
        """
        if W is None:
            return self.effective_among(*args, sparse=sparse)
        n, (_, units) = self.layout().n, self.chosen(*args)
        if tuple(W.shape) != (n, n):
            raise ShapeError(f"get_weight_subset: W has shape {tuple(W.shape)}, expected {(n, n)}.")
        return matrix_subset(W, units, sparse)

    def connection(self, source: str, target: str) -> Connection:
        """The projections from one region to another by mRNNTorch's names; see `Connection`.

        Raises
        ------
        UnknownNameError
            If a region does not exist.
        WeightError
            If a projection between them has low rank: it has no sparse matrix.
        """
        kind, none = self.kind_of(source), not self.graph.has_edge(source, target)
        rows = torch.from_numpy(self.layout().indices(target))
        cols = torch.from_numpy(self.layout(kind).indices(source))
        weights = self.rec if kind == "recurrent" else self.inp
        if weights is None:
            empty = torch.zeros(len(rows), len(cols), dtype=self.dtype, device=self.device)
            return Connection(CsrMatrix(empty.to_sparse_csr()), None, None, none)
        members = self.layout().members(target), weights.sources.members(source)
        weights.check_sparse(weights.low_rank_among(*members))
        parts = weights.csr_values(effective_weights=False), torch.ones_like(weights.col), weights.csr_signs()
        pattern, entries = weights.pattern.submatrix(rows, cols)
        w, mask, sign = (CsrMatrix(pattern.matrix(part[entries].to(self.dtype))) for part in parts)
        return Connection(w, mask, sign, none)

    def gen_w(self, dict_: dict[str, Region]) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, mask and signs (CSR) of the projections from the regions of ``dict_``.

        ``net.gen_w(net.region_dict)`` is the recurrent, ``net.gen_w(net.inp_dict)`` the input matrix.

        Raises
        ------
        UnknownNameError
            If a key is not a region.
        WeightError
            If a projection from these regions has low rank: it has no sparse matrix.
        """
        kinds = {self.kind_of(name) for name in dict_}
        if len(kinds) != 1:
            raise ConfigError(
                "gen_w takes a dict of recurrent or of input regions, and at least one; see region_dict and "
                "inp_dict."
            )
        weights = self.weights(kinds.pop())
        weights.check_sparse(weights.low_rank_among(self.hid_regions, [*dict_]))
        values = weights.csr_values(effective_weights=False)
        parts = values, torch.ones_like(values), weights.csr_signs().to(values.dtype)
        chosen = torch.zeros(weights.shape[1], dtype=torch.bool)
        chosen[torch.from_numpy(weights.sources.indices(*dict_))] = True
        entries = torch.nonzero(chosen.to(values.device)[weights.col.long()])[:, 0]
        pattern = weights.pattern.select(entries)
        w, mask, sign = (pattern.matrix(part[entries]) for part in parts)
        return w, mask, sign

    def apply_dales_law(
        self, W_rec: Tensor, W_rec_mask: Tensor, W_rec_sign_matrix: Tensor  # noqa: N803
    ) -> Tensor:
        """``mask * |W| * sign``, and ``mask * W`` where the sign is 0. Dense, or CSR tensors of one pattern.

        Raises
        ------
        ShapeError
            If the three do not share a shape, layout and, for CSR, a pattern.
        """
        triple = (W_rec, W_rec_mask, W_rec_sign_matrix)
        if len({(t.shape, t.layout) for t in triple}) != 1:
            raise ShapeError("apply_dales_law: W, mask and sign must have one shape and layout.")
        (pattern, w), (_, mask), (_, sign) = (split_sparse(t) for t in triple)
        if len({len(t) for t in (w, mask, sign)}) != 1:
            raise ShapeError("apply_dales_law: W, mask and sign must have the same pattern.")
        result = torch.where(sign == 0, w, w.abs() * sign) * mask
        return result if pattern is None else pattern.matrix(result)

    def compute_spectral_radius(self, weight: Tensor) -> float:
        """Largest absolute eigenvalue of a square matrix (dense, COO or CSR).

        Raises
        ------
        SpectralError
            If it cannot be certified; see `sparse_mrnn.spectral_radius`.
        """
        return find_spectral_radius(weight)

    def set_spectral_radius(self, W: Tensor, W_tmp: Tensor | None = None) -> Tensor:  # noqa: N803
        """``W`` scaled so that the radius of ``W_tmp`` (default: W itself) would be ``self.spectral_radius``.

        Where ``self.spectral_radius`` is a dict, only the weights within each region are scaled.

        Raises
        ------
        SpectralError
            If ``self.spectral_radius`` is not set, or a matrix has radius 0 and cannot be scaled.
        UnknownNameError
            If it names an unknown region.
        """
        pattern, values = split_sparse(W)
        scale = self.spectral_factor(W if W_tmp is None else W_tmp, pattern)
        return values * scale if pattern is None else pattern.matrix(values * scale)

    # ---------------------------------------------------------------- dynamics and noise

    @property
    def alpha(self) -> Tensor:
        """Share of the state replaced in a step: a number (a tensor without dimensions) if all units have one
        that is fixed, else of each unit, shape (units, 1). Differentiable where time constants are learnt.
        """
        alpha = self.unit_alpha()
        return alpha.reshape(()) if alpha.numel() == 1 else alpha

    @property
    def activation_name(self) -> str:
        """Name of the activation."""
        return self.activation.name

    @property
    def sigma_recur(self) -> float:
        """mRNNTorch's name for ``noise_level_act``; may be set."""
        return self.noise_level_act

    @sigma_recur.setter
    def sigma_recur(self, value: float) -> None:
        self.noise_level_act = value

    @property
    def sigma_input(self) -> float:
        """mRNNTorch's name for ``noise_level_inp``; may be set."""
        return self.noise_level_inp

    @sigma_input.setter
    def sigma_input(self, value: float) -> None:
        self.noise_level_inp = value

    @property
    def hid_noise_const(self) -> float | Tensor:
        """Standard deviation of the unit noise, sqrt(2 alpha) noise_level_act / alpha; a tensor of shape
        (units,) if units differ.
        """
        std = self.noise_levels()[1]
        return std[:, 0] if isinstance(std, Tensor) else std

    @property
    def inp_noise_const(self) -> float:
        """Standard deviation of the input noise, sqrt(2 alpha) noise_level_inp / alpha of the network's
        alpha."""
        return self.noise_levels()[0]


def _mask(weights: SparseWeights) -> Tensor:
    return weights.pattern.matrix(torch.ones_like(weights.col, dtype=weights.values.dtype))


def _sign_matrix(weights: SparseWeights) -> Tensor:
    return weights.pattern.matrix(weights.csr_signs().to(weights.values.dtype))


def _named(regions: dict[str, NetworkRegion], prefix: str) -> Iterator[tuple[str, NetworkRegion]]:
    for name, region in regions.items():
        yield (f"{prefix}.{name}" if prefix else name), region
