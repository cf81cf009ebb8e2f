"""SparseWeights: the parameters and pattern of one weight matrix, as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import SizeError, UnknownNameError
from sparse_mrnn.graph import PROJECTION_SIGNS, projection_label
from sparse_mrnn.lowering import BlockSparse
from sparse_mrnn.models.parameter_views import ParameterViews
from sparse_mrnn.models.synapse_table import ProjectionKey, SynapseTable, follow
from sparse_mrnn.ops.backends import (
    CsrOperator,
    DenseOperator,
    Extent,
    HybridOperator,
    Operator,
    TorchSparseOperator,
)
from sparse_mrnn.ops.dale import effective
from sparse_mrnn.ops.pattern import Pattern, scatter_dense

DENSE_LIMIT = 4096 * 4096
"""Entries a dense matrix may have without being asked for by force."""


@dataclass(frozen=True)
class Operand:
    """A backend prepared for a weight matrix, and how parameters become its stored values.

    Stored value e is that of synapse ``index[e]`` in projection order, or 0 where that is the number of
    synapses.
    """

    operator: Operator
    index: Tensor | None
    sign: Tensor | None = None
    """Sign of each stored value; None: in CSR order, which takes no memory."""
    offset: Tensor | None = None
    """Offset at which each stored value is added in a dense matrix, for the dense backend."""


class SparseWeights(nn.Module):
    """A block-sparse weight matrix: one value per synapse, the only parameters.

    The pattern is part of ``state_dict``, so a network drawn with another seed loads a saved one whole.

    Parameters
    ----------
    blocks : BlockSparse
    dtype : torch.dtype
    device : torch.device

    Attributes
    ----------
    kind : {"recurrent", "input"}
    constrained : bool
        Whether Dale's law applies.
    targets, sources : Layout
        Units by region, of the rows and of the columns.
    values : nn.Parameter, shape (trainable synapses,)
        Projection after projection, row-major inside each.
    frozen : Tensor, shape (other synapses,)
        Those that are not trained, likewise.
    own_signs : dict
        Sign (1, -1, or 0 for free) of the projections that do not inherit it from their source units.
    """

    values: nn.Parameter
    frozen: Tensor
    crow: Tensor
    col: Tensor
    perm: Tensor | None
    sign: Tensor
    synapse_sign: Tensor | None
    ptr: Tensor
    order: Tensor
    orientation: Tensor | None

    def __init__(self, blocks: BlockSparse, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()

        def tensor(array: Any, kind: torch.dtype | None = None) -> Tensor:
            return torch.from_numpy(array).to(device=device, dtype=kind)

        n = blocks.trainable_synapses
        self.kind, self.constrained, self.shape = blocks.kind, blocks.constrained, blocks.shape
        self.targets, self.sources = blocks.targets, blocks.sources
        names = ((b.source, b.target, b.key) for b in blocks.blocks)
        self.projections: tuple[ProjectionKey, ...] = tuple(names)
        self._delays = {name: b.delay for name, b in zip(self.projections, blocks.blocks, strict=True)}
        self.own_signs = {
            name: PROJECTION_SIGNS[b.sign]
            for name, b in zip(self.projections, blocks.blocks, strict=True)
            if b.sign != "inherit"
        }
        self._declared = {name: k for k, name in enumerate(self.projections)}
        self._extents = blocks.extents()  # in declared order
        self.values = nn.Parameter(tensor(blocks.values[:n], dtype))
        self.register_buffer("frozen", tensor(blocks.values[n:], dtype))
        self.register_buffer("crow", tensor(blocks.crow))
        self.register_buffer("col", tensor(blocks.col))
        self.register_buffer("perm", None if blocks.perm is None else tensor(blocks.perm))
        self.register_buffer("sign", tensor(blocks.sources.unit_signs))
        synapse_sign = blocks.synapse_sign
        self.register_buffer("synapse_sign", None if synapse_sign is None else tensor(synapse_sign))
        self.register_buffer("ptr", tensor(blocks.ptr))
        self.register_buffer("order", self._alphabetical_rank().to(device))
        self.register_buffer("orientation", None, persistent=False)  # signs at the start of "deepr" rewiring
        self.views: ParameterViews | None = None
        self._pattern: Pattern | None = None
        self._operands: dict[str, Operand] = {}
        self._dense_synapses: int | None = None
        self.derived: dict[tuple[Any, ...], Any] = {}  # derived from the pattern by others; dropped with it

    @property
    def nnz(self) -> int:
        """Synapses."""
        return self.col.numel()

    @property
    def pattern(self) -> Pattern:
        """The fused CSR pattern."""
        if self._pattern is None:
            self._pattern = Pattern(self.crow, self.col, self.shape)
        return self._pattern

    @property
    def delays(self) -> tuple[float | None, ...]:
        """Delay of each projection in ms (None: one time step), in the order of ``values``."""
        return tuple(self._delays[name] for name in self.projections)

    @property
    def trainable_projections(self) -> int:
        """Projections that are trainable; they come first in ``projections``."""
        return int(torch.searchsorted(self.ptr[1:], self.values.numel(), right=True))

    def extra_repr(self) -> str:
        size = f"{self.shape[0]} x {self.shape[1]}"
        return f"{size}, {self.nnz} synapses in {len(self.projections)} projections"

    # ---------------------------------------------------------------- values and matrices

    def all_values(self) -> Tensor:
        """Every synapse's parameter, in projection order: the trainable ones, then the frozen ones."""
        if self.frozen.numel() == 0:
            return self.values
        # With nothing to train there is no gradient work.
        return torch.cat([self.values, self.frozen]) if self.values.numel() else self.frozen

    def projection_values(self, *, source: str, target: str, key: str = "default") -> Tensor:
        """A view of one projection's values, row-major.

        Raises
        ------
        UnknownNameError
            If there is no such projection.
        """
        if (source, target, key) not in self.projections:
            known = ", ".join(repr(k) for s, t, k in self.projections if (s, t) == (source, target)) or "none"
            label = projection_label(source, target)
            raise UnknownNameError(f"no {label} with key {key!r} (keys there: {known}).")
        k = self.projections.index((source, target, key))
        start, stop = self.ptr[k : k + 2].tolist()
        n = self.values.numel()
        return self.values[start:stop] if stop <= n else self.frozen[start - n : stop - n]

    def csr_signs(self) -> Tensor:
        """Sign of each synapse (int8), in CSR order; 0 for a free one."""
        return self.sign.index_select(0, self.col) if self.synapse_sign is None else self.synapse_sign

    def signs_of(self, projection: Tensor, col: Tensor) -> Tensor:
        """Sign (int8) of synapses from units ``col`` in projections of these numbers; 0 for a free one."""
        inherited = self.sign.index_select(0, col)
        if not self.own_signs:
            return inherited
        inherits = torch.tensor([name not in self.own_signs for name in self.projections], device=col.device)
        own = [self.own_signs.get(name, 0) for name in self.projections]
        own_sign = torch.tensor(own, dtype=torch.int8, device=col.device)
        return torch.where(inherits[projection], inherited, own_sign[projection])

    def csr_values(self, *, effective_weights: bool = True) -> Tensor:
        """Values in CSR order: weights as the dynamics use them, or the parameters. Differentiable."""
        signed = effective_weights and self.constrained
        return effective(self.all_values(), self.perm, self.csr_signs() if signed else None)

    def matrix(self, *, effective_weights: bool = True) -> Tensor:
        """The weight matrix as a torch CSR tensor, differentiable; arguments as `csr_values`."""
        return self.pattern.matrix(self.csr_values(effective_weights=effective_weights))

    def dense(self, *, effective_weights: bool = True, force: bool = False) -> Tensor:
        """The weight matrix as a dense tensor, for small nets.

        Raises
        ------
        SizeError
            If it has more than `DENSE_LIMIT` entries, unless ``force``.
        """
        check_dense(self.shape, force)
        return scatter_dense(self.pattern, self.csr_values(effective_weights=effective_weights))

    def projection_of_entry(self) -> Tensor:
        """Number of the projection that each synapse belongs to (int32), in CSR order."""
        lengths = torch.diff(self.ptr)
        number = torch.arange(len(lengths), dtype=torch.int32, device=lengths.device)
        projection = torch.repeat_interleave(number, lengths)
        return projection if self.perm is None else projection.index_select(0, self.perm)

    @torch.no_grad()
    def scale_(self, factor: Tensor) -> None:
        """Multiply the weights in place, by one number or by one per synapse in CSR order."""
        if factor.dim() and self.perm is not None:
            factor = torch.empty_like(factor).scatter_(0, self.perm.long(), factor)
        n = self.values.numel()
        self.values.mul_(factor[:n] if factor.dim() else factor)
        self.frozen.mul_(factor[n:] if factor.dim() else factor)

    # ---------------------------------------------------------------- backends

    def extents(self) -> list[Extent]:
        """Range of each projection in the values and in the matrix, in the order of ``values``."""
        ptr, declared = self.ptr.tolist(), (self._declared[name] for name in self.projections)
        return [Extent(ptr[k], ptr[k + 1], *self._extents[d].tolist()) for k, d in enumerate(declared)]

    @property
    def dense_synapses(self) -> int:
        """Synapses in projections that "hybrid" multiplies densely; counted when first asked for."""
        if self._dense_synapses is None:
            self._dense_synapses = sum(e.stop - e.start for e in self.extents() if e.is_dense)
        return self._dense_synapses

    def operand(self, backend: str) -> Operand:
        """The matrix prepared for "csr", "dense", "hybrid" or "torch_sparse", made when first asked for.

        Raises
        ------
        MissingExtraError
            If torch_sparse is not installed.
        """
        if backend not in self._operands:
            self._operands[backend] = self._prepare(backend)
        return self._operands[backend]

    def _prepare(self, backend: str) -> Operand:
        n = self.values.numel()
        if backend == "hybrid":
            dense = [e for e in self.extents() if e.is_dense]
            operator = HybridOperator(self.pattern, self.perm, dense, self.nnz, n)
            sign = self.csr_signs()
            by_synapse = sign.new_zeros(self.nnz + 1)
            if self.perm is None:
                by_synapse[: self.nnz] = sign
            else:
                by_synapse.scatter_(0, self.perm.long(), sign)
            return Operand(operator, operator.index, by_synapse.index_select(0, operator.index))
        if backend == "dense":
            offset = self.pattern.row.long() * self.shape[1] + self.col
            return Operand(DenseOperator(self.shape), self.perm, None, offset)
        trained = None
        if 0 < n < self.nnz:
            synapse = torch.arange(self.nnz, device=self.col.device) if self.perm is None else self.perm
            trained = torch.nonzero(synapse < n)[:, 0].to(self.col.dtype)
        kind = TorchSparseOperator if backend == "torch_sparse" else CsrOperator
        return Operand(kind(self.pattern, trained), self.perm)

    def stored_values(self, operand: Operand, *, gain: Tensor | None = None) -> Tensor:
        """Weights as the backend stores them, with Dale's law where it applies. Differentiable.

        Parameters
        ----------
        operand : Operand
        gain : Tensor, shape (projections,), optional
            At least 0; multiplies the weights of each projection.
        """
        values = self.all_values()
        if gain is not None:
            values = values * torch.repeat_interleave(gain, torch.diff(self.ptr))
        if isinstance(operand.operator, HybridOperator) and operand.operator.padded:
            values = torch.cat([values, values.new_zeros(1)])
        sign = None
        if self.constrained and self._has_signs:
            sign = self.csr_signs() if operand.sign is None else operand.sign
        stored = effective(values, operand.index, sign)
        if operand.offset is None:
            return stored
        flat = stored.new_zeros(self.shape[0] * self.shape[1])
        return flat.index_add(0, operand.offset, stored).view(self.shape)

    @property
    def _has_signs(self) -> bool:
        """Whether Dale's law changes anything; read from the device once."""
        if ("has signs",) not in self.derived:
            self.derived[("has signs",)] = self.synapse_sign is not None or bool((self.sign != 0).any())
        return bool(self.derived[("has signs",)])

    def _reset_caches(self) -> None:
        """Forget what is derived from the pattern."""
        self._pattern = None
        self._operands = {}
        self._dense_synapses = None
        self.derived = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseWeights:
        self._reset_caches()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._bind_views()
        return self

    # ---------------------------------------------------------------- saving and loading

    def _alphabetical_rank(self) -> Tensor:
        """Rank of each projection in alphabetical order: how ``state_dict`` says which block is whose."""
        rank = {name: k for k, name in enumerate(sorted(self.projections))}
        return torch.tensor([rank[name] for name in self.projections], dtype=torch.int64)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over the saved pattern, whose synapses may be others than the ones drawn here."""
        saved = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        order = saved.get("order")
        if order is None:  # saved before projections could be reordered
            state_dict[f"{prefix}order"] = self.order
        elif order.shape == self.order.shape:
            names = sorted(self.projections)
            self.projections = tuple(names[k] for k in order.tolist())
        pointers = {"ptr": self.ptr, "crow": self.crow}
        if all(saved.get(name, own).shape == own.shape for name, own in pointers.items()):
            for name in ("frozen", "col", "perm", "synapse_sign"):
                old, new = getattr(self, name), saved.get(name)
                if new is None and name in ("perm", "synapse_sign"):
                    setattr(self, name, None)
                elif new is not None and (old is None or old.shape != new.shape):
                    setattr(self, name, torch.empty_like(new, device=self.values.device))
            new = saved.get("values")
            if new is not None and new.shape != self.values.shape:
                self._resize(self.values.detach().new_empty(new.shape), None)
        self.orientation = None
        self._reset_caches()
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._reset_caches()
        if self.own_signs:
            self.synapse_sign = self.signs_of(self.projection_of_entry(), self.col)
        if self.views is not None:  # their projections may not be neighbours in the saved order
            trainable = set(self.projections[: self.trainable_projections])
            self.set_table(self.in_declared_order(self.table(), trainable.__contains__))

    # ---------------------------------------------------------------- changing which synapses there are

    def table(self) -> SynapseTable:
        """Every synapse in projection order, detached. O(synapses)."""
        row, col = self.pattern.row.long(), self.col.long()
        if self.perm is not None:
            row, col = (torch.empty_like(t).scatter_(0, self.perm.long(), t) for t in (row, col))
        return SynapseTable(
            projections=self.projections,
            lengths=torch.diff(self.ptr).cpu(),
            trainable_synapses=self.values.numel(),
            row=row,
            col=col,
            values=self.all_values().detach(),
            origin=torch.arange(self.nnz, device=self.col.device),
        )

    def in_declared_order(
        self, table: SynapseTable, trainable: Callable[[ProjectionKey], bool]
    ) -> SynapseTable:
        """The projections for which ``trainable`` holds, view by view, then the others, as they were
        declared."""
        rank = {} if self.views is None else self.views.rank

        def sort_key(k: int) -> tuple[bool, int, int]:
            name = table.projections[k]
            frozen = not trainable(name)
            return frozen, 0 if frozen else rank.get(name, 0), self._declared[name]

        order = sorted(range(len(table.projections)), key=sort_key)
        return table.reordered(order, sum(trainable(name) for name in table.projections))

    def set_table(self, table: SynapseTable) -> None:
        """Take other synapses: the one function that changes the pattern. O(n) for n synapses.

        The parameter stays the same object; its gradient follows the synapses, 0 for new ones.

        Parameters
        ----------
        table : SynapseTable
            Made from `table`, so that its ``origin`` says which synapse was which.
        """
        n, device = table.trainable_synapses, self.values.device
        pattern, perm = Pattern.from_coo(table.row, table.col, self.shape)
        gradient, origin = self.values.grad, table.origin[:n]
        if gradient is not None:  # what was frozen has none
            gradient = follow(gradient, torch.where(origin < gradient.numel(), origin, -1))
        if self.orientation is not None:
            self.orientation = follow(self.orientation, table.origin)
        self._resize(table.values[:n].clone(), gradient)
        self.frozen = table.values[n:].clone()
        self.crow, self.col, self.perm, self.projections = pattern.crow, pattern.col, perm, table.projections
        ends = torch.cumsum(table.lengths, 0).tolist()
        self.ptr = torch.tensor([0, *ends], dtype=torch.int64, device=device)
        self.order = self._alphabetical_rank().to(device)
        self._reset_caches()
        if self.own_signs:
            self.synapse_sign = self.signs_of(self.projection_of_entry(), self.col)
        self._bind_views()

    def _resize(self, values: Tensor, gradient: Tensor | None) -> None:
        """Give the parameter other values without making another object, which optimisers would not know."""
        self.values.grad = None
        # A graph that is still alive keeps the node that accumulates gradients of the old shape; torch makes
        # a
        # one only when the dtype changes.
        other = torch.float16 if values.dtype != torch.float16 else torch.float32
        self.values.data = values.new_empty(0, dtype=other)
        self.values.data = values
        self.values.grad = gradient

    def split(self, runs: Sequence[Sequence[ProjectionKey]]) -> list[nn.Parameter]:
        """Parameters that share their storage with runs of ``values``; they replace earlier ones.

        Parameters
        ----------
        runs : sequence of sequences of projections
            Every projection once, frozen ones too; trainable ones in the order of ``values``.
        """
        if self.views is not None:
            self.views.remove()
        self.views = ParameterViews(self.values, runs)
        self._bind_views()
        return self.views.parameters

    def _bind_views(self) -> None:
        if self.views is not None:
            lengths = torch.diff(self.ptr).tolist()[: self.trainable_projections]
            self.views.bind(self.values, dict(zip(self.projections, lengths, strict=False)))


def check_dense(shape: tuple[int, int], force: bool = False) -> None:
    """Refuse a dense matrix too large to be made by accident."""
    if shape[0] * shape[1] > DENSE_LIMIT and not force:
        gib = shape[0] * shape[1] * 4 / 2**30
        raise SizeError(
            f"a dense {shape[0]} x {shape[1]} matrix takes {gib:.1f} GiB; use the sparse one (W_rec, "
            "sparse=True), "
            "or dense(force=True)."
        )
