"""What a network is asked by region name: sizes, unit ranges, activity, weights under mRNNTorch's names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.errors import (
    ConfigError,
    FinalizeError,
    GraphError,
    ShapeError,
    SpectralError,
)
from sparse_mrnn.lowering.layout import Layout, UnitNames
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.low_rank import LowRankProjections
from sparse_mrnn.models.weights import SparseWeights, check_dense
from sparse_mrnn.ops.pattern import Pattern, scatter_dense, split_sparse
from sparse_mrnn.spectral import spectral_radius as find_spectral_radius


class UnitLocation(NamedTuple):
    """A unit by its region and its index there, from 0.

    Its number among all units is ``net.get_region_indices(region)[0] + index``.
    """

    region: str
    index: int  # type: ignore[assignment]  # hides tuple.index


class RegionQueries(FixedTensors):
    """The queries of a network by region name, which every name of a parent region answers too.

    Parameters
    ----------
    graph : RegionGraph
    constrained : dict
        Whether Dale's law holds for "recurrent" and "input" weights.
    spectral_radius : float or dict of region to float, optional
        What `set_spectral_radius` scales to.

    Attributes
    ----------
    rec, inp : SparseWeights or None
        The weights, once they are finalised.
    """

    def __init__(
        self,
        graph: RegionGraph,
        constrained: dict[str, bool],
        spectral_radius: float | Mapping[str, float] | None,
    ) -> None:
        super().__init__()
        self.graph, self._constrained, self.spectral_radius = graph, constrained, spectral_radius
        self.rec: SparseWeights | None = None
        self.inp: SparseWeights | None = None
        self._names: UnitNames | None = None

    # ---------------------------------------------------------------- regions and units

    @property
    def names(self) -> UnitNames:
        """Resolver of every name in the network (region, parent, input, unit id) to units."""
        if self._names is None:
            self._names = UnitNames(self.graph)
        return self._names

    def layout(self, kind: str = "recurrent") -> Layout:
        """Unit ranges of the "recurrent" or "input" regions."""
        return self.names.layouts[kind]

    def kind_of(self, name: str) -> str:
        """Tell if a region is "recurrent" or "input".

        Raises
        ------
        UnknownNameError
            If there is no such region or parent.
        """
        return self.names.kind_of(name)

    @property
    def region_dict(self) -> dict[str, Region]:
        """Recurrent regions by name, in unit order."""
        return {region.name: region for region in self.layout().regions}

    @property
    def inp_dict(self) -> dict[str, Region]:
        """Input regions by name, in channel order."""
        return {region.name: region for region in self.layout("input").regions}

    @property
    def hid_regions(self) -> list[str]:
        """Names of the recurrent regions, in unit order."""
        return list(self.region_dict)

    @property
    def inp_regions(self) -> list[str]:
        """Names of the input regions, in channel order."""
        return list(self.inp_dict)

    def named_rec_regions(self, prefix: str = "") -> Iterator[tuple[str, Region]]:
        """Yield (name, region) of the recurrent regions; a prefix is joined with a dot."""
        yield from _named(self.region_dict, prefix)

    def named_inp_regions(self, prefix: str = "") -> Iterator[tuple[str, Region]]:
        """Yield (name, region) of the input regions; a prefix is joined with a dot."""
        yield from _named(self.inp_dict, prefix)

    def __getitem__(self, name: str) -> Region:
        """A region or input by name."""
        return self.graph.region(name)

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

    def unit_indices(self, *regions: str) -> Tensor:
        """Units of regions or parents (int64): names in the order given, each in unit order, no repeats."""
        kind = self.kind_of(regions[0]) if regions else "recurrent"
        return torch.from_numpy(self.layout(kind).indices(*regions))

    @property
    def unit_ids(self) -> list[str]:
        """Id of every recurrent unit, in unit order; a unit without one is called ``region[k]``."""
        return list(self.layout().unit_ids)

    def find_unit(self, unit_id: str | int) -> UnitLocation:
        """Find the region and index of a unit, or of a channel of an input, by its id.

        Raises
        ------
        UnknownNameError
            If no unit has this id, or units of several regions have it.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("touch", 2, unit_ids=["ALML", "ALMR"])
        >>> sm.mRNN(g, device="cpu").find_unit("ALMR")
        UnitLocation(region='touch', index=1)
        """
        kind, unit = self.names.unit(unit_id)
        region, index = self.layout(kind).region_of(unit)
        return UnitLocation(region.name, index)

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

    # ---------------------------------------------------------------- weights

    @property
    def rec_constrained(self) -> bool:
        """Whether Dale's law holds for recurrent weights; may be set."""
        return self._constrained["recurrent"]

    @rec_constrained.setter
    def rec_constrained(self, value: bool) -> None:
        self._constrained["recurrent"] = value
        if self.rec is not None:
            self.rec.constrained = value

    @property
    def inp_constrained(self) -> bool:
        """Whether Dale's law holds for input weights; may be set."""
        return self._constrained["input"]

    @inp_constrained.setter
    def inp_constrained(self, value: bool) -> None:
        self._constrained["input"] = value
        if self.inp is not None:
            self.inp.constrained = value

    def weights(self, kind: str = "recurrent") -> SparseWeights:
        """The "recurrent" or "input" weights.

        Raises
        ------
        FinalizeError
            If they are not built yet.
        """
        weights = self.rec if kind == "recurrent" else self.inp
        if weights is None:
            call = "finalize_rec_connectivity" if kind == "recurrent" else "finalize_inp_connectivity"
            what = f"the {kind} weights are not built yet"
            raise FinalizeError(f"{what}; call {call}() or finalize_connectivity() first.")
        return weights

    def weight_matrices(self) -> tuple[SparseWeights, SparseWeights]:
        """The recurrent and the input weights; raises as `weights`."""
        return self.weights("recurrent"), self.weights("input")

    def projections(
        self, source: str | None = None, target: str | None = None, key: str | None = None
    ) -> tuple[str, tuple[int, ...]]:
        """Find the projections between two regions or parents.

        Parameters
        ----------
        source, target : str, optional
            Default: all recurrent regions.
        key : str, optional
            Default: any.

        Returns
        -------
        kind : {"recurrent", "input"}
            Kind of the source.
        numbers : tuple of int
            Places of the projections in ``weights(kind).all_projections``.

        Raises
        ------
        UnknownNameError
            If a region does not exist.
        """
        kind = "recurrent" if source is None else self.kind_of(source)
        sources = None if source is None else set(self.layout(kind).members(source))
        targets = None if target is None else set(self.layout().members(target))
        found = (
            k
            for k, (start, end, own) in enumerate(self.weights(kind).all_projections)
            if (sources is None or start in sources)
            and (targets is None or end in targets)
            and key in (None, own)
        )
        return kind, tuple(found)

    @property
    def W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent parameters as a CSR tensor, shape (units, units), before Dale's law."""
        return self.weights("recurrent").matrix(effective_weights=False)

    @property
    def W_inp(self) -> Tensor:  # noqa: N802
        """Input parameters as a CSR tensor, shape (units, channels), before Dale's law."""
        return self.weights("input").matrix(effective_weights=False)

    @property
    def W_rec_mask(self) -> Tensor:  # noqa: N802
        """1 where a recurrent synapse exists; the pattern of ``W_rec``."""
        return _mask(self.weights("recurrent"))

    @property
    def W_inp_mask(self) -> Tensor:  # noqa: N802
        """1 where an input synapse exists; the pattern of ``W_inp``."""
        return _mask(self.weights("input"))

    @property
    def W_rec_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each recurrent synapse (0: free); the pattern of ``W_rec``."""
        return _sign_matrix(self.weights("recurrent"))

    @property
    def W_inp_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each input synapse (0: free); the pattern of ``W_inp``."""
        return _sign_matrix(self.weights("input"))

    @property
    def effective_W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent weights as the dynamics use them, a differentiable CSR tensor."""
        return self.weights("recurrent").matrix()

    @property
    def effective_W_inp(self) -> Tensor:  # noqa: N802
        """Input weights as the dynamics use them, a differentiable CSR tensor."""
        return self.weights("input").matrix()

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
        return _effective_subset(weights, torch.from_numpy(rows), torch.from_numpy(cols), sparse, low_rank)

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
        n = self.layout().n
        units = torch.from_numpy(self.layout().indices(*args)).sort().values if args else torch.arange(n)
        if W is None:
            weights = self.weights("recurrent")
            among = self.layout().members(*args) or self.hid_regions
            low_rank = weights.low_rank_among(among, among)
            return _effective_subset(weights, units, units, sparse, low_rank)
        if tuple(W.shape) != (n, n):
            raise ShapeError(f"get_weight_subset: W has shape {tuple(W.shape)}, expected {(n, n)}.")
        pattern, values = split_sparse(W)
        if pattern is None:
            units = units.to(W.device)
            return W[units][:, units] if not sparse else W[units][:, units].to_sparse_csr()
        return _subset(pattern, values, units, units, sparse)

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
        scale = self._scale(W if W_tmp is None else W_tmp, pattern)
        return values * scale if pattern is None else pattern.matrix(values * scale)

    @torch.no_grad()
    def scale_spectral_radius_(self, target: float, regions: str | list[str] | None = None) -> float:
        """Scale recurrent weights in place, so that their spectral radius becomes ``target``.

        Parameters
        ----------
        target : float
            Above 0.
        regions : str or list of str, optional
            Scale the weights among these regions or parents only, to this radius of theirs. Default: all.

        Returns
        -------
        float
            The factor.

        Raises
        ------
        SpectralError
            If the weights have radius 0 and cannot be scaled, or their radius cannot be certified.
        UnknownNameError
            If there is no such region.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 50); g.add_projection("a", "a", density=0.2)
        >>> net = sm.mRNN(g, device="cpu", seed=0)
        >>> factor = net.scale_spectral_radius_(0.9)
        >>> round(sm.spectral_radius(net), 3)
        0.9
        """
        weights = self.weights("recurrent")
        names = [] if regions is None else [regions] if isinstance(regions, str) else list(regions)
        if regions is not None and not names:
            raise SpectralError("scale_spectral_radius_: regions is empty; name one, or leave it out.")
        within = ", ".join(map(repr, names))
        factor = self._factor(
            target,
            self.get_weight_subset(*names, sparse=True),
            f"the weights within {within} have" if names else "the recurrent weights have",
        )
        scale = torch.full((weights.nnz,), factor, dtype=weights.values.dtype, device=weights.values.device)
        if names:
            inside = torch.zeros(weights.shape[0], dtype=torch.bool, device=scale.device)
            inside[torch.from_numpy(self.layout().indices(*names)).to(scale.device)] = True
            among = inside[weights.pattern.row.long()] & inside[weights.col.long()]
            scale = torch.where(among, scale, 1.0)
        weights.scale_(scale)
        return factor

    def _scale(self, weight: Tensor, pattern: Pattern | None) -> Tensor:
        """The factor that gives ``weight`` the radius asked for; for a dict, one per entry (None: dense)."""
        goal = self.spectral_radius
        if not isinstance(goal, Mapping):
            factor = self._factor(goal, weight, "the recurrent weights have")
            return torch.as_tensor(factor, dtype=weight.dtype, device=weight.device)
        group = torch.full((self.layout().n,), -1, dtype=torch.int64)
        factors: list[float] = []
        for name, target in goal.items():
            units = torch.from_numpy(self.layout().indices(name))
            if (taken := group[units]).max() >= 0:
                other = list(goal)[int(taken.max())]
                raise SpectralError(
                    f"spectral_radius: {name!r} and {other!r} share units; name each region in one of them."
                )
            group[units] = len(factors)
            part = self.get_weight_subset(name, W=weight, sparse=True)
            factors.append(self._factor(target, part, f"the weights within {name!r} have"))
        group = group.to(weight.device)
        if pattern is None:
            source, target_group = group, group[:, None]
        else:
            source, target_group = group[pattern.col.long()], group[pattern.row.long()]
        table = torch.tensor([*factors, 1.0], dtype=weight.dtype, device=weight.device)
        return table[torch.where(source == target_group, source, -1)]

    def _factor(self, goal: Any, weight: Tensor, what: str) -> float:
        number = isinstance(goal, int | float) and not isinstance(goal, bool)
        if not number or not (math.isfinite(goal) and goal > 0):
            raise SpectralError(f"spectral_radius is {goal!r}; set a positive number first.")
        radius = self.compute_spectral_radius(weight)
        if radius == 0:
            raise SpectralError(
                f"{what} spectral radius 0 (no loop of synapses), so no factor makes it {goal}; "
                "add a recurrent loop or leave spectral_radius out."
            )
        return float(goal) / radius


def _mask(weights: SparseWeights) -> Tensor:
    return weights.pattern.matrix(torch.ones_like(weights.col, dtype=weights.values.dtype))


def _sign_matrix(weights: SparseWeights) -> Tensor:
    return weights.pattern.matrix(weights.csr_signs().to(weights.values.dtype))


def _named(regions: dict[str, Region], prefix: str) -> Iterator[tuple[str, Region]]:
    for name, region in regions.items():
        yield (f"{prefix}.{name}" if prefix else name), region


def _effective_subset(
    weights: SparseWeights, rows: Tensor, cols: Tensor, sparse: bool, low_rank: LowRankProjections | None
) -> Tensor:
    """Rows and columns of the effective weights, with the low-rank projections among them."""
    if sparse:
        weights.check_sparse(low_rank)
    matrix = _subset(weights.pattern, weights.csr_values(), rows, cols, sparse)
    return matrix if low_rank is None else matrix + low_rank.submatrix(rows, cols)


def _subset(pattern: Pattern, values: Tensor, rows: Tensor, cols: Tensor, sparse: bool) -> Tensor:
    """Rows and columns of a sparse matrix, in the order given. O(synapses)."""
    if not sparse:
        check_dense((len(rows), len(cols)))
    part, entries = pattern.submatrix(rows, cols)
    return part.matrix(values[entries]) if sparse else scatter_dense(part, values[entries])
