"""Questions by region name: sizes, unit ranges, activity, weights. Every one takes parent names too."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import FinalizeError, GraphError, ShapeError, UnknownNameError, suggest
from sparse_mrnn.graph import Region, RegionGraph
from sparse_mrnn.lowering import Layout
from sparse_mrnn.models.weights import SparseWeights, check_dense, scatter_dense
from sparse_mrnn.ops.convert import split_sparse
from sparse_mrnn.ops.pattern import Pattern


class RegionQueries(nn.Module):
    """Queries of a network by region name; mixed into `mRNNBase`."""

    graph: RegionGraph
    rec_constrained: bool
    inp_constrained: bool
    rec_finalized: bool
    inp_finalized: bool
    _layouts: dict[str, Layout]

    def layout(self, kind: str = "recurrent") -> Layout:
        """Unit ranges of the "recurrent" or "input" regions."""
        if kind not in self._layouts:
            self._layouts[kind] = Layout.of(self.graph, kind)
        return self._layouts[kind]

    def _kind(self, name: str) -> str:
        if name in self.layout("input").groups:
            return "input"
        if name not in self.layout().groups:
            known = [*self.layout().groups, *self.layout("input").groups]
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, known, what='regions')}")
        return "recurrent"

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
        """The facts of a region or input by name."""
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
        """First unit of a region and one past its last, in the state vector (of an input: in the input vector).

        Raises
        ------
        UnknownNameError
            If there is no such region.
        GraphError
            If a parent's regions are not neighbours; use `unit_indices`.
        """
        where = self.layout(self._kind(region)).slice(region)
        return where.start, where.stop

    def unit_indices(self, *regions: str) -> Tensor:
        """Units of regions or parents (int64): names in the order given, each in unit order, no repeats."""
        kind = self._kind(regions[0]) if regions else "recurrent"
        return torch.from_numpy(self.layout(kind).indices(*regions))

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
            raise ShapeError(f"get_region_activity: act has {act.shape[-1]} units in its last dimension; this network has {n}.")
        return act[..., torch.from_numpy(self.layout().indices(*args)).to(act.device)]

    def get_excluded_hid_regions(self, *args: str) -> list[str]:
        """Recurrent regions not among the given regions and parents."""
        return self._excluded("recurrent", args)

    def get_excluded_inp_regions(self, *args: str) -> list[str]:
        """Input regions not among the given ones."""
        return self._excluded("input", args)

    def _excluded(self, kind: str, names: tuple[str, ...]) -> list[str]:
        layout = self.layout(kind)
        given = {member for name in names for member in layout.members(name)}
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
                raise ShapeError(f"combine_states: states_{what} has {states.shape[-1]} units; its regions have {len(units)}.")
        units = torch.cat(index)
        if len(torch.unique(units)) != len(units):
            raise GraphError("combine_states: a region is in both lists; leave it out of one.")
        joined = torch.cat([states_a, states_b], dim=-1)[..., torch.argsort(units).to(states_a.device)]
        if keep_dims:
            return joined
        return joined.reshape([size for size in joined.shape[:-1] if size != 1] + [joined.shape[-1]])

    def _weights(self, kind: str) -> SparseWeights:
        module = getattr(self, "rec" if kind == "recurrent" else "inp")
        if module is None:
            what = "finalize_rec_connectivity" if kind == "recurrent" else "finalize_inp_connectivity"
            raise FinalizeError(f"the {kind} weights are not built yet; call {what}() or finalize_connectivity() first.")
        weights: SparseWeights = module
        return weights

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
        """
        kind = self._kind(from_)
        constrained = self.rec_constrained if kind == "recurrent" else self.inp_constrained
        weights = self._weights(kind)
        values = weights.csr_values(constrained=constrained)
        rows, cols = self.layout().indices(to), self.layout(kind).indices(from_)
        return _subset(weights.pattern, values, torch.from_numpy(rows), torch.from_numpy(cols), sparse)

    def get_weight_subset(self, *args: str, W: Tensor | None = None, sparse: bool = False) -> Tensor:  # noqa: N803
        """Effective weights among some regions: to and from each other and themselves.

        Parameters
        ----------
        *args : str
            Regions or parents, in the order the rows and columns shall have.
        W : Tensor, shape (units, units), optional
            Take them from this matrix (dense, COO or CSR) instead.
        sparse : bool
            Return a CSR tensor instead of a dense one.

        Returns
        -------
        Tensor, shape (units of the regions, units of the regions)
        """
        units = torch.from_numpy(self.layout().indices(*args))
        if W is None:
            weights = self._weights("recurrent")
            return _subset(weights.pattern, weights.csr_values(constrained=self.rec_constrained), units, units, sparse)
        n = self.layout().n
        if tuple(W.shape) != (n, n):
            raise ShapeError(f"get_weight_subset: W has shape {tuple(W.shape)}, expected {(n, n)}.")
        pattern, values = split_sparse(W)
        if pattern is None:
            units = units.to(W.device)
            return W[units][:, units] if not sparse else W[units][:, units].to_sparse_csr()
        return _subset(pattern, values, units, units, sparse)


def _named(regions: dict[str, Region], prefix: str) -> Iterator[tuple[str, Region]]:
    for name, region in regions.items():
        yield (f"{prefix}.{name}" if prefix else name), region


def _subset(pattern: Pattern, values: Tensor, rows: Tensor, cols: Tensor, sparse: bool) -> Tensor:
    """Rows and columns of a sparse matrix, in the order given. O(synapses)."""
    device = values.device
    shape = (len(rows), len(cols))
    if not sparse:
        check_dense(shape)
    place = [torch.full((size,), -1, dtype=torch.int64) for size in pattern.shape]
    place[0][rows], place[1][cols] = torch.arange(len(rows)), torch.arange(len(cols))
    row, col = place[0].to(device)[pattern.row.long()], place[1].to(device)[pattern.col.long()]
    keep = torch.nonzero((row >= 0) & (col >= 0))[:, 0]
    row, col, kept = row[keep], col[keep], values[keep]
    order = torch.argsort(row * max(shape[1], 1) + col, stable=True)
    crow = torch.zeros(shape[0] + 1, dtype=torch.int32, device=device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, dtype=torch.int32, out=crow[1:])
    part = Pattern(crow, col[order].to(torch.int32), shape)
    return part.matrix(kept[order]) if sparse else scatter_dense(part, kept[order])
