"""ElectricalSynapses: conductances of the electrical projections of a network, as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_mrnn.declaration.explicit_synapses import SynapseArrays
from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.declaration.projection_columns import Projections
from sparse_mrnn.errors import UnknownNameError
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.ops.electrical import ElectricalPairs
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.weights import effective

Error = TypeVar("Error", bound=Exception)


class ElectricalSynapses(FixedTensors):
    """The electrical synapses of a network: one conductance for each pair of units.

    The current g (x_j - x_i) flows into unit i and out of unit j, where x are states before the activation.
    Conductances are the absolute values of the parameters, which keeps them at 0 or above.

    Attributes
    ----------
    names : tuple of (source, target, key)
        The projections.
    conductances : nn.ParameterList
        Of each projection, shape (pairs,); those of a projection that is not trained need no gradient.
    rows, cols : Tensor of int64, shape (pairs of all projections,)
        Units i and j, projection after projection.
    ptr : Tensor of int64, shape (projections + 1,)
        First pair of each projection, and the number of pairs.
    """

    rows: Tensor
    cols: Tensor
    ptr: Tensor
    trained: Tensor
    """Flag of each projection: it is trained; it is in the state dict."""

    def __init__(
        self, projections: Projections, layout: Layout, dtype: torch.dtype, device: torch.device, *,
        draw: bool,
    ) -> None:
        super().__init__()
        listed = list(projections)
        self.names: tuple[ProjectionKey, ...] = tuple((p.source, p.target, p.key) for p in listed)
        self.units, self._rectify = layout.n, tuple(p.rectifies for p in listed)
        self._first = [(layout.slice(p.target).start, layout.slice(p.source).start) for p in listed]
        self._sizes = [(p.pair.n_target, p.pair.n_source) for p in listed]
        self.conductances = nn.ParameterList()
        rows, cols = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for p, (first_row, first_col) in zip(listed, self._first, strict=True):
            values = np.empty(0)
            if draw and p.weights is not None:
                coo = p.weights.tocoo()
                # The matrix of a region has each pair twice.
                once = np.full(coo.nnz, True) if p.source != p.target or p.rectifies else coo.row > coo.col
                rows.append(coo.row[once].astype(np.int64) + first_row)
                cols.append(coo.col[once].astype(np.int64) + first_col)
                values = coo.data[once]
            made = torch.from_numpy(values).to(device, dtype)
            self.conductances.append(nn.Parameter(made, requires_grad=p.trainable and len(values) > 0))
        self.fix("rows", torch.from_numpy(np.concatenate(rows)).to(device))
        self.fix("cols", torch.from_numpy(np.concatenate(cols)).to(device))
        ends = np.cumsum([0, *(len(c) for c in self.conductances)])
        self.fix("ptr", torch.from_numpy(ends.astype(np.int64)).to(device))
        self.fix("trained", torch.tensor([p.trainable for p in listed], device=device))
        self._pairs: ElectricalPairs | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def pairs(self) -> ElectricalPairs:
        """The pairs of units, and which of them rectify."""
        if self._pairs is None or self._pairs.rows is not self.rows:
            flags = torch.tensor(self._rectify, dtype=torch.bool, device=self.rows.device)
            rectifies = torch.repeat_interleave(flags, torch.diff(self.ptr))
            self._pairs = ElectricalPairs(self.units, self.rows, self.cols, rectifies)
        return self._pairs

    def values(self) -> Tensor:
        """Conductance of each pair, shape (pairs,), never negative. Differentiable."""
        for hook in self.conductances._forward_pre_hooks.values():  # of torch.nn.utils.prune
            hook(self.conductances, ())
        stored = torch.cat(list(self.conductances))
        return effective(stored, None, torch.ones_like(stored, dtype=torch.int8))

    def of_projection(self) -> Tensor:
        """Number of the projection of each pair, shape (pairs,)."""
        numbers = torch.arange(len(self.names), device=self.rows.device)
        return torch.repeat_interleave(numbers, torch.diff(self.ptr))

    def matrix(self) -> Tensor:
        """Conductances as a CSR tensor, shape (units, units): entry (i, j) carries current into unit i.

        It is symmetric, but for pairs that rectify; those have the entry of the unit that receives.
        """
        pairs, g = self.pairs, self.values().detach()
        both = ~pairs.rectifies
        row, col = torch.cat([pairs.rows, pairs.cols[both]]), torch.cat([pairs.cols, pairs.rows[both]])
        pattern, order = Pattern.from_coo(row, col, (self.units, self.units))
        values = torch.cat([g, g[both]])
        return pattern.matrix(values if order is None else values[order.long()])

    def projection_conductances(self, *, source: str, target: str, key: str = "default") -> Tensor:
        """The conductances of a projection, shape (pairs,). Differentiable.

        Raises
        ------
        UnknownNameError
            If there is no such electrical projection.
        """
        if (source, target, key) not in self.names:
            known = ", ".join(projection_label(*name) for name in self.names)
            label = projection_label(source, target, key)
            raise UnknownNameError(f"no electrical {label}; there are: {known}.")
        k = self.names.index((source, target, key))
        return self.values()[int(self.ptr[k]) : int(self.ptr[k + 1])]

    def among(
        self, sources: Collection[str] | None, targets: Collection[str] | None, key: str | None = None
    ) -> list[int]:
        """Numbers of the projections between some regions (None: any), in either direction."""

        def inside(name: str, regions: Collection[str] | None) -> bool:
            return regions is None or name in regions

        return [
            k
            for k, (s, t, own) in enumerate(self.names)
            if key in (None, own)
            and (
                (inside(s, sources) and inside(t, targets))
                or (not self._rectify[k] and inside(t, sources) and inside(s, targets))
            )
        ]

    def between(
        self, members: Callable[..., Collection[str]], source: str | None, target: str | None,
        key: str | None = None,
    ) -> list[int]:
        """`among`, for names of regions or parents; ``members`` gives the regions behind a name."""
        sources, targets = (None if name is None else set(members(name)) for name in (source, target))
        return self.among(sources, targets, key)

    def set_trainable(self, numbers: Collection[int], trainable: bool) -> None:
        """Train the conductances of some projections, or no longer; a gradient they have is dropped."""
        chosen = [k in set(numbers) for k in range(len(self.names))]
        self.trained = self.trained.masked_fill(torch.tensor(chosen, device=self.trained.device), trainable)
        self._require_gradients()

    def _require_gradients(self) -> None:
        for own, trained in zip(self.conductances, self.trained.tolist(), strict=True):
            own.requires_grad_(trained and own.numel() > 0)
            own.grad = own.grad if own.requires_grad else None

    def arrays(self) -> tuple[SynapseArrays, NDArray[np.int64]]:
        """Conductances as projections are declared with them, within their regions, and where each begins.

        Those of a region that do not rectify are there in both directions.
        """
        g, parts, ends = self.values().detach().cpu().numpy(), [], [0]
        rows, cols, ptr = (t.cpu().numpy() for t in (self.rows, self.cols, self.ptr))
        for k, (source, target, _) in enumerate(self.names):
            own = slice(ptr[k], ptr[k + 1])
            row, col, values = rows[own] - self._first[k][0], cols[own] - self._first[k][1], g[own]
            if source == target and not self._rectify[k]:
                row, col, values = np.append(row, col), np.append(col, row), np.append(values, values)
            order = np.lexsort((col, row))
            parts.append((row[order], col[order], values[order]))
            ends.append(ends[-1] + len(row))
        row, col, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        found = SynapseArrays(row.astype(np.int32), col.astype(np.int32), values)
        return found, np.array(ends, dtype=np.int64)

    def misfits(self, saved: dict[str, Any], prefix: str) -> list[str]:
        """Say why some entries of a state dict cannot be loaded, before any is."""
        structure = [saved.get(name, getattr(self, name)) for name in ("rows", "cols", "ptr")]
        if any(t.dtype != torch.int64 or t.dim() != 1 for t in structure):
            return [f"{prefix}rows, cols and ptr are not lists of whole numbers."]
        rows, cols, ptr = (t.cpu() for t in structure)
        fits = len(ptr) == len(self.names) + 1 and ptr.tolist() == sorted(ptr.tolist())
        if not fits or int(ptr[0]) != 0 or not len(rows) == len(cols) == int(ptr[-1]):
            return [f"{prefix}ptr does not divide {len(rows)} pairs among {len(self.names)} projections."]
        for k, (row_first, col_first) in enumerate(self._first):
            i, j = rows[ptr[k] : ptr[k + 1]] - row_first, cols[ptr[k] : ptr[k + 1]] - col_first
            units, others = self._sizes[k]
            inside = (i >= 0) & (i < units) & (j >= 0) & (j < others) & (i + row_first != j + col_first)
            if not bool(inside.all()):
                label = projection_label(*self.names[k])
                return [f"{prefix}rows and cols have a pair that is not one of {label}."]
            given = saved.get(f"conductances.{k}")
            if given is not None and (given.shape != i.shape or not given.is_floating_point()):
                what = f"{prefix}conductances.{k} has shape {tuple(given.shape)}"
                return [f"{what} and type {given.dtype}, and its projection {len(i)} pairs."]
        return []

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        saved = {name: entry for name, entry in saved.items() if isinstance(entry, Tensor)}
        if problems := self.misfits(saved, prefix):
            args[-1].extend(problems)
            return
        for k, own in enumerate(self.conductances):
            given = saved.get(f"conductances.{k}")
            if given is not None and given.shape != own.shape:
                own.data, own.grad = own.new_empty(given.shape), None
        self._load_fixed(state_dict, prefix, *args, free=("rows", "cols"))
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]
        self._require_gradients()

    def extra_repr(self) -> str:
        return f"{self.rows.numel()} pairs in {len(self.names)} projections"


def refuse_electrical(electrical: ElectricalSynapses | None, what: str, why: str, error: type[Error]) -> None:
    """Raise an error that names an electrical projection, if a network has one.

    Parameters
    ----------
    electrical : ElectricalSynapses or None
    what : str
        The function that cannot use it.
    why : str
        The reason, as the end of a sentence.
    error : type of Exception
    """
    if electrical is not None:
        raise error(f"{what}: {projection_label(*electrical.names[0])} is electrical, and {why}.")
