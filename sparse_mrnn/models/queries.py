"""Queries by name: a network's units, weights and projections; and the scaling of its spectral radius."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import (
    FinalizeError,
    SpectralError,
)
from sparse_mrnn.lowering.layout import Layout, UnitNames
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.low_rank import LowRankProjections
from sparse_mrnn.models.weights import SparseWeights, check_dense
from sparse_mrnn.ops.pattern import Pattern, scatter_dense, split_sparse
from sparse_mrnn.recording.reading import need
from sparse_mrnn.spectral import spectral_radius as find_spectral_radius

if TYPE_CHECKING:
    import pandas


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

    def unit_indices(self, *regions: str) -> Tensor:
        """Units of regions or parents (int64): names in the order given, each in unit order, no repeats."""
        kind = self.kind_of(regions[0]) if regions else "recurrent"
        return torch.from_numpy(self.layout(kind).indices(*regions))

    @property
    def unit_ids(self) -> list[str]:
        """Id of every recurrent unit, in unit order; a unit without one is called ``region[k]``."""
        return list(self.layout().unit_ids)

    @property
    def units(self) -> pandas.DataFrame:
        """Table of all recurrent units, in unit order: region, id, and the columns of the regions' tables.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph()
        >>> g.add_region("MB", 2, unit_ids=["5", "7"], unit_table={"cell_type": ["KC", "MBON"]})
        >>> sm.mRNN(g, device="cpu").units.query("cell_type == 'MBON'").unit_id.tolist()
        ['7']
        """
        pd = need("pandas", "tables of units")
        region, unit_id = self.layout().labels()
        own = {"region": region.astype(object), "unit_id": unit_id.astype(object)}
        table: pandas.DataFrame = pd.DataFrame({**own, **self.layout().table})
        return table

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

    # ---------------------------------------------------------------- weights

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
    def effective_W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent weights as the dynamics use them, a differentiable CSR tensor."""
        return self.weights("recurrent").matrix()

    @property
    def effective_W_inp(self) -> Tensor:  # noqa: N802
        """Input weights as the dynamics use them, a differentiable CSR tensor."""
        return self.weights("input").matrix()

    def chosen(self, *names: str) -> tuple[tuple[str, ...], Tensor]:
        """Regions behind some names (default: all), and their units in unit order."""
        layout = self.layout()
        members = layout.members(*names) if names else tuple(layout.index)
        return members, torch.from_numpy(layout.indices(*members)).sort().values

    def effective_among(self, *names: str, sparse: bool = False) -> Tensor:
        """Effective weights among some regions (default: all), in unit order."""
        weights, (members, units) = self.weights("recurrent"), self.chosen(*names)
        low_rank = weights.low_rank_among(members, members)
        return effective_subset(weights, units, units, sparse, low_rank)

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
        what = f"the weights within {within} have" if names else "the recurrent weights have"
        factor = _spectral_factor(target, self.effective_among(*names, sparse=True), what)
        scale = torch.full((weights.nnz,), factor, dtype=weights.values.dtype, device=weights.values.device)
        if names:
            inside = torch.zeros(weights.shape[0], dtype=torch.bool, device=scale.device)
            inside[torch.from_numpy(self.layout().indices(*names)).to(scale.device)] = True
            among = inside[weights.pattern.row.long()] & inside[weights.col.long()]
            scale = torch.where(among, scale, 1.0)
        weights.scale_(scale)
        return factor

    def spectral_factor(self, weight: Tensor, pattern: Pattern | None) -> Tensor:
        """The factor that gives ``weight`` the radius asked for; for a dict, one per entry (None: dense)."""
        goal = self.spectral_radius
        if not isinstance(goal, Mapping):
            factor = _spectral_factor(goal, weight, "the recurrent weights have")
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
            part = matrix_subset(weight, units, sparse=True)
            factors.append(_spectral_factor(target, part, f"the weights within {name!r} have"))
        group = group.to(weight.device)
        if pattern is None:
            source, target_group = group, group[:, None]
        else:
            source, target_group = group[pattern.col.long()], group[pattern.row.long()]
        table = torch.tensor([*factors, 1.0], dtype=weight.dtype, device=weight.device)
        return table[torch.where(source == target_group, source, -1)]


def _spectral_factor(goal: Any, weight: Tensor, what: str) -> float:
    """The factor that gives a matrix the spectral radius ``goal``; ``what`` has it, for messages."""
    number = isinstance(goal, int | float) and not isinstance(goal, bool)
    if not number or not (math.isfinite(goal) and goal > 0):
        raise SpectralError(f"spectral_radius is {goal!r}; set a positive number first.")
    radius = find_spectral_radius(weight)
    if radius == 0:
        raise SpectralError(
            f"{what} spectral radius 0 (no loop of synapses), so no factor makes it {goal}; "
            "add a recurrent loop or leave spectral_radius out."
        )
    return float(goal) / radius


def effective_subset(
    weights: SparseWeights, rows: Tensor, cols: Tensor, sparse: bool, low_rank: LowRankProjections | None
) -> Tensor:
    """Rows and columns of the effective weights, with the low-rank projections among them."""
    if sparse:
        weights.check_sparse(low_rank)
    matrix = _subset(weights.pattern, weights.csr_values(), rows, cols, sparse)
    return matrix if low_rank is None else matrix + low_rank.submatrix(rows, cols)


def matrix_subset(weight: Tensor, units: Tensor, sparse: bool) -> Tensor:
    """Rows and columns of a square matrix (dense, COO or CSR), in the order given."""
    pattern, values = split_sparse(weight)
    if pattern is not None:
        return _subset(pattern, values, units, units, sparse)
    part = weight[units.to(weight.device)][:, units.to(weight.device)]
    return part.to_sparse_csr() if sparse else part


def _subset(pattern: Pattern, values: Tensor, rows: Tensor, cols: Tensor, sparse: bool) -> Tensor:
    """Rows and columns of a sparse matrix, in the order given. O(synapses)."""
    if not sparse:
        check_dense((len(rows), len(cols)))
    part, entries = pattern.submatrix(rows, cols)
    return part.matrix(values[entries]) if sparse else scatter_dense(part, values[entries])
