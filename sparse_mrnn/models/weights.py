"""SparseWeights: the parameters and pattern of one weight matrix, as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.declaration.projection_columns import INHERITED, ProjectionNames
from sparse_mrnn.errors import SizeError, UnknownNameError, WeightError
from sparse_mrnn.lowering.block_sparse import BlockSparse
from sparse_mrnn.models.fixed_tensors import FixedTensors, computed
from sparse_mrnn.models.low_rank import LowRankProjections
from sparse_mrnn.models.synapse_table import ProjectionKey, SynapseTable, follow
from sparse_mrnn.models.views import ParameterViews
from sparse_mrnn.ops.pattern import Pattern, index_dtype, scatter_dense
from sparse_mrnn.ops.products import (
    CsrOperator,
    DenseOperator,
    Extent,
    HybridOperator,
    LowRankSum,
    Operator,
    TorchSparseOperator,
    are_dense,
)
from sparse_mrnn.ops.torch_modes import ordinary_tensors
from sparse_mrnn.ops.weights import bounded, effective, scaled, unbounded

DENSE_LIMIT = 4096 * 4096
"""Entries a dense matrix may have without being asked for by force."""
OPTIONAL = ("perm", "synapse_sign")
"""Entries that the state of a matrix may lack."""
SYNAPSES = ("values", "frozen", "group")
PATTERN = ("crow", "col", "ptr", "order")
GAINS = ("gains", "frozen_gains", "gain_index")
"""Entries of a state that say what each other's numbers are of: the synapses' values and their pattern, and
the shared gains."""


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
    padded: bool = False
    """Flag: some stored values are 0, of no synapse."""


class SparseWeights(FixedTensors):
    """A block-sparse weight matrix: one value per synapse, the only parameters.

    The pattern is part of ``state_dict``, so a network drawn with another seed loads a saved one whole.

    Parameters
    ----------
    blocks : BlockSparse
    dtype : torch.dtype
    device : torch.device
    low_rank : LowRankProjections, optional
        Projections beside the synapses.

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
        Base values of the shared synapses, then those that are not trained, likewise.
    gains : nn.Parameter, shape (trained gains,), or None where nothing is shared
        What the shared synapses' base values are multiplied by, before bounds and Dale's law (see
        `gain_values`).
    gain_names : tuple of (source, target, key, what)
        What each gain is for, trained or not: the projection (of several, the first), and the unit, label or
        name.
    """

    parameter_names = ("values", "gains")
    values: nn.Parameter
    gains: nn.Parameter | None
    frozen: Tensor
    frozen_gains: Tensor
    group: Tensor
    gain_index: Tensor
    gain_low: Tensor
    gain_high: Tensor
    crow: Tensor
    col: Tensor
    perm: Tensor | None
    sign: Tensor
    synapse_sign: Tensor | None
    ptr: Tensor
    order: Tensor
    orientation: Tensor | None

    def __init__(
        self,
        blocks: BlockSparse,
        dtype: torch.dtype,
        device: torch.device,
        low_rank: LowRankProjections | None = None,
    ) -> None:
        super().__init__()
        self.low_rank = low_rank

        def tensor(array: Any, kind: torch.dtype | None = None) -> Tensor:
            return torch.from_numpy(array).to(device=device, dtype=kind)

        n = blocks.trainable_synapses
        self.kind, self.constrained, self.shape = blocks.kind, blocks.constrained, blocks.shape
        self.targets, self.sources = blocks.targets, blocks.sources
        # Of the projections in declared order, and the numbers there of those in the order of the values:
        declared = blocks.blocks
        self._names, self._declared_delays = declared.names, declared.field("delay", np.float64)
        self._declared_delay_stds = declared.field("delay_std", np.float64)
        self._declared_signs = declared.own_signs()
        self._extents, self._gains_of = blocks.extents(), blocks.gains.of_block
        self._order = np.arange(len(declared))
        self.values = _parameter(tensor(blocks.values[:n], dtype))
        self.fix("frozen", tensor(blocks.values[n:], dtype))
        self.fix("crow", tensor(blocks.crow))
        self.fix("col", tensor(blocks.col))
        self.fix("perm", None if blocks.perm is None else tensor(blocks.perm))
        self.fix("sign", tensor(blocks.sources.unit_signs))
        synapse_sign = blocks.synapse_sign
        self.fix("synapse_sign", None if synapse_sign is None else tensor(synapse_sign))
        self.fix("ptr", tensor(blocks.ptr))
        self.fix("order", self._alphabetical_rank().to(device))
        self.fix("orientation", None, persistent=False)  # signs at the start of "deepr" rewiring
        self._prepare_gains(blocks, tensor, dtype)
        self.views: ParameterViews | None = None
        self.gain_views: ParameterViews | None = None
        self._pattern: Pattern | None
        self._operands: dict[str, Operand]
        self._dense_synapses: int | None
        self.derived: dict[tuple[Any, ...], Any]  # derived from the pattern by others; dropped with it
        self._reset_caches()

    def _prepare_gains(self, blocks: BlockSparse, tensor: Callable[..., Tensor], dtype: torch.dtype) -> None:
        """Make the gains: trained ones a parameter, the others fixed; ``gain_index`` finds each in both."""
        gains = blocks.gains
        self.gain_names = gains.names
        self.fix("group", tensor(blocks.group))
        if not gains.names:
            self.gains = None
            for name in ("frozen_gains", "gain_index", "gain_low", "gain_high"):
                self.fix(name, None)
            return
        self.fix("gain_low", tensor(gains.low, dtype))
        self.fix("gain_high", tensor(gains.high, dtype))
        raw = unbounded(tensor(gains.initial, dtype), self.gain_low, self.gain_high)
        trained = tensor(gains.trainable)
        self.gains = _parameter(raw[trained])
        self.fix("frozen_gains", raw[~trained])
        self.fix("gain_index", torch.argsort(torch.argsort(~trained, stable=True)))

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
    def projections(self) -> tuple[ProjectionKey, ...]:
        """Name of each projection: source, target, key; trained ones first, in the order of ``values``."""
        key = ("projections",)
        if key not in self.derived:
            self.derived[key] = self.projection_names.tuples
        return self.derived[key]  # type: ignore[no-any-return]

    @property
    def projection_names(self) -> ProjectionNames:
        """`projections` in columns."""
        return self._names.take(self._order)

    @property
    def _number(self) -> dict[ProjectionKey, int]:
        """Number of each projection in declared order."""
        key = ("numbers",)
        if key not in self.derived:
            self.derived[key] = {name: k for k, name in enumerate(self._names.tuples)}
        return self.derived[key]  # type: ignore[no-any-return]

    @property
    def all_projections(self) -> tuple[ProjectionKey, ...]:
        """Projections of synapses, then those of low rank."""
        return self.projections if self.low_rank is None else self.projections + self.low_rank.names

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to multiply."""
        return self.nnz == 0 and self.low_rank is None and self.gains is None

    @property
    def delays(self) -> tuple[float | None, ...]:
        """Delay of each projection in ms (None: one time step), in the order of ``values``."""
        return tuple(None if delay != delay else delay for delay in self.delay_times.tolist())

    @property
    def delay_times(self) -> NDArray[np.float64]:
        """`delays` as an array, NaN for None."""
        return self._declared_delays[self._order]

    @property
    def delay_stds(self) -> NDArray[np.float64]:
        """Standard deviation of the delays of each projection, ms, in the order of ``values``."""
        return self._declared_delay_stds[self._order]

    @property
    def trainable_projections(self) -> int:
        """Projections whose synapses are parameters; they come first in ``projections``."""
        # Those that share gains come next; their sizes do not tell, for a projection may have no synapses.
        shared = np.flatnonzero(self._gains_of[self._order, 0] >= 0)
        of_size = int(torch.searchsorted(self.ptr[1:], self.values.numel(), right=True))
        return int(shared[0]) if len(shared) else of_size

    @property
    def shared_projections(self) -> int:
        """Projections whose synapses share gains; they come next in ``projections``."""
        return int((self._gains_of[:, 0] >= 0).sum())

    def is_shared(self, name: ProjectionKey) -> bool:
        """Return True if the synapses of a projection share gains."""
        return name in self._number and bool(self._gains_of[self._number[name], 0] >= 0)

    def is_trainable(self, name: ProjectionKey) -> bool:
        """Return True if a projection is trained: its synapses, or its gains."""
        return name in self.trained_projections

    @property
    def trained_projections(self) -> frozenset[ProjectionKey]:
        """Projections whose synapses or gains are trained; kept until that changes."""
        key = ("trained projections",)
        if key not in self.derived:
            which = np.flatnonzero(self.are_trained)
            self.derived[key] = frozenset(self.projection_names.take(which).tuples)
        return self.derived[key]  # type: ignore[no-any-return]

    @property
    def are_trained(self) -> NDArray[np.bool_]:
        """Tell of each projection, in the order of ``values``, if its synapses or gains are trained."""
        gains = self._gains_of[self._order]
        before = np.append(0, np.cumsum(self.trained_gains.tolist()))
        every = before[gains[:, 1]] - before[gains[:, 0]] == gains[:, 1] - gains[:, 0]
        found: NDArray[np.bool_] = (gains[:, 0] >= 0) & every
        found[: self.trainable_projections] = True
        return found

    def extra_repr(self) -> str:
        size = f"{self.shape[0]} x {self.shape[1]}"
        return f"{size}, {self.nnz} synapses in {len(self._names)} projections"

    # ---------------------------------------------------------------- values and matrices

    def all_values(self) -> Tensor:
        """Value of every synapse before Dale's law, in projection order: trainable, shared, frozen ones."""
        for hook in self._forward_pre_hooks.values():  # of torch.nn.utils.prune: makes ``values`` anew
            hook(self, ())
        if self.views is not None:
            self.views.follow(self.values)
        n = self.group.numel()
        # With nothing to train there is no gradient work; gains of no synapse here may have some elsewhere.
        parts = [part for part in (self.values, self.frozen[n:]) if part.numel()]
        if n or self.gains is not None:
            shared = scaled(self.gain_values(), self.frozen[:n], self.group)
            parts.insert(1 if self.values.numel() else 0, shared)
        return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else self.values

    def gain_values(self) -> Tensor:
        """Every gain within its bounds, in the order of ``gain_names``, shape (gains,). Differentiable.

        Under Dale's law a gain counts with its absolute value where the source has a sign.
        """
        if self.gain_index is None:
            return self.values.new_empty(0)
        if self.gain_views is not None and self.gains is not None:
            self.gain_views.follow(self.gains)
        stored = self.frozen_gains if self.gains is None else torch.cat([self.gains, self.frozen_gains])
        return bounded(stored.index_select(0, self.gain_index), self.gain_low, self.gain_high)

    def projection_gains(self, *, source: str, target: str, key: str = "default") -> Tensor:
        """The gains of a shared projection, differentiable: one, or one per unit or label (`gain_names`).

        Raises
        ------
        UnknownNameError
            If it does not exist, or its synapses share no gain.
        """
        if not self.is_shared((source, target, key)):
            label = projection_label(source, target, key)
            there = (source, target, key) in self._number
            why = "shares no gain; declare it with share=." if there else "does not exist."
            raise UnknownNameError(f"{label} {why}")
        return self.gain_values()[self.gain_range((source, target, key))]

    def projection_values(self, *, source: str, target: str, key: str = "default") -> Tensor:
        """A view of one projection's values, row-major: parameters, frozen ones, or base values of a shared
        projection.

        Raises
        ------
        UnknownNameError
            If it does not exist.
        """
        if (source, target, key) not in self._number:
            known = ", ".join(repr(k) for s, t, k in self.projections if (s, t) == (source, target)) or "none"
            label = projection_label(source, target)
            raise UnknownNameError(f"no {label} with key {key!r} (keys there: {known}).")
        k = self._place((source, target, key))
        start, stop = self.ptr[k : k + 2].tolist()
        n = self.values.numel()
        return self.values[start:stop] if stop <= n else self.frozen[start - n : stop - n]

    def gain_codes(self, name: ProjectionKey) -> Tensor:
        """Number of the gain of each synapse among those of its shared projection (int32), row-major."""
        k = self._place(name)
        start, stop = (self.ptr[k : k + 2] - self.values.numel()).tolist()
        codes: Tensor = self.group[start:stop] - self.gain_range(name).start
        return codes

    def _place(self, name: ProjectionKey) -> int:
        """Place of a projection in the order of ``values``."""
        return int(np.flatnonzero(self._order == self._number[name])[0])

    def csr_signs(self) -> Tensor:
        """Sign of each synapse (int8), in CSR order; 0 for a free one."""
        return self.sign.index_select(0, self.col) if self.synapse_sign is None else self.synapse_sign

    @property
    def has_own_signs(self) -> bool:
        """True if a projection has a sign of its own, so that each synapse's is stored."""
        return bool((self._declared_signs != INHERITED).any())

    def signs_of(
        self, projection: Tensor, col: Tensor, order: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Sign (int8) of synapses from units ``col`` in projections of these numbers; 0 for a free one.

        The numbers are those in ``projections``, or in another ``order`` of them (`order_of_state`).
        """
        inherited = self.sign.to(col.device).index_select(0, col)
        if not self.has_own_signs:
            return inherited
        order = self._order if order is None else order
        own_sign = torch.from_numpy(self._declared_signs[order]).to(col.device)[projection]
        return torch.where(own_sign == INHERITED, inherited, own_sign)

    def order_of_state(self, order: Tensor) -> NDArray[np.int64]:
        """Number, as declared, of each projection of a state, whose ``order`` has alphabetical ranks."""
        found: NDArray[np.int64] = self._names.alphabetical()[order.cpu().numpy()]
        return found

    def declared_name(self, number: int) -> ProjectionKey:
        """Name of a projection by its number as declared."""
        return self._names[number]

    @property
    def declared_extents(self) -> NDArray[np.int64]:
        """First row, rows, first column, columns of each projection as declared, shape (projections, 4)."""
        return self._extents

    @property
    def declared_gains(self) -> NDArray[np.int64]:
        """First gain of each projection as declared, and the one after its last; -1 if it shares none."""
        return self._gains_of

    def csr_values(self, *, effective_weights: bool = True) -> Tensor:
        """Values in CSR order: weights as the dynamics use them, or the parameters. Differentiable."""
        signed = effective_weights and self.constrained
        return effective(self.all_values(), self.perm, self.csr_signs() if signed else None)

    def matrix(self, *, effective_weights: bool = True) -> Tensor:
        """The weight matrix as a torch CSR tensor, differentiable; arguments as `csr_values`.

        Raises
        ------
        WeightError
            If there are low-rank projections, which have no sparse matrix.
        """
        self.check_sparse(self.low_rank)
        return self.pattern.matrix(self.csr_values(effective_weights=effective_weights))

    def dense(self, *, effective_weights: bool = True, force: bool = False) -> Tensor:
        """The weight matrix as a dense tensor, for small nets.

        Raises
        ------
        SizeError
            If it has more than `DENSE_LIMIT` entries, unless ``force``.
        """
        check_dense(self.shape, force)
        matrix = scatter_dense(self.pattern, self.csr_values(effective_weights=effective_weights))
        if self.low_rank is None:
            return matrix
        return matrix + self.low_rank.submatrix(*(torch.arange(n) for n in self.shape))

    def low_rank_among(self, targets: Sequence[str], sources: Sequence[str]) -> LowRankProjections | None:
        """The low-rank projections, if some are from one of these source to one of these target regions."""
        return None if self.low_rank is None else self.low_rank.among(targets, sources)

    @staticmethod
    def check_sparse(low_rank: LowRankProjections | None) -> None:
        """Raise a WeightError where a sparse matrix is asked for that these projections are part of."""
        if low_rank is not None:
            advice = "ask for the dense one, or for U and V: net.rec.low_rank.factors(source=, target=)"
            label = projection_label(*low_rank.names[0])
            raise WeightError(f"{label} has low rank, so the weights are not a sparse matrix; {advice}.")

    def projection_of_entry(self) -> Tensor:
        """Number of the projection that each synapse belongs to (int32), in CSR order."""
        lengths = torch.diff(self.ptr)
        number = torch.arange(len(lengths), dtype=torch.int32, device=lengths.device)
        projection = torch.repeat_interleave(number, lengths, output_size=self.nnz)
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
        return [Extent(*extent) for extent in self.extent_table().tolist()]

    def extent_table(self) -> NDArray[np.int64]:
        """`extents` as an array, shape (projections, 6)."""
        ptr = np.array(self.ptr.tolist())  # numpy() is not for the tensors of torch.func
        return np.column_stack([ptr[:-1], ptr[1:], self._extents[self._order]])

    def _dense_extents(self) -> list[Extent]:
        """Extents of the projections that "hybrid" multiplies densely."""
        extents = self.extent_table()
        return [Extent(*extent) for extent in extents[are_dense(extents)].tolist()]

    @property
    def dense_synapses(self) -> int:
        """Synapses in projections that "hybrid" multiplies densely; counted when first asked for."""
        if self._dense_synapses is None:
            self._dense_synapses = sum(e.stop - e.start for e in self._dense_extents())
        return self._dense_synapses

    def operand(self, backend: str) -> Operand:
        """The matrix prepared for "csr", "dense", "hybrid" or "torch_sparse", made when first asked for.

        Raises
        ------
        MissingExtraError
            If torch_sparse is not installed.
        """
        if backend not in self._operands:
            operand = self._prepare(backend)
            if self.low_rank is not None:
                stored = self.nnz if operand.index is None else len(operand.index)
                if operand.offset is not None:
                    stored = self.shape[0] * self.shape[1]
                operand = replace(
                    operand, operator=LowRankSum(operand.operator, stored, self.low_rank.blocks)
                )
            self._operands[backend] = operand
        return self._operands[backend]

    @ordinary_tensors()
    def _prepare(self, backend: str) -> Operand:
        if backend == "hybrid":
            dense, n = self._dense_extents(), self.values.numel() + self._trained_shared()
            operator = HybridOperator(self.pattern, self.perm, dense, self.nnz, n)
            sign = self.csr_signs()
            by_synapse = sign.new_zeros(self.nnz + 1)
            if self.perm is None:
                by_synapse[: self.nnz] = sign
            else:
                by_synapse.scatter_(0, self.perm.long(), sign)
            sign = by_synapse.index_select(0, operator.index)
            return Operand(operator, operator.index, sign, padded=operator.padded)
        if backend == "dense":
            offset = self.pattern.row.long() * self.shape[1] + self.col
            return Operand(DenseOperator(self.shape), self.perm, None, offset)
        kind = TorchSparseOperator if backend == "torch_sparse" else CsrOperator
        return Operand(kind(self.pattern, self.trained_entries()), self.perm)

    def trained_entries(self, among: Tensor | None = None) -> Tensor | None:
        """Number the synapses that are trained, themselves or by a gain; None if all are.

        Parameters
        ----------
        among : Tensor of int, optional
            Numbers of some synapses in CSR order. The result counts within them. Default: all.
        """
        n = self.values.numel() + self._trained_shared()
        if n == self.nnz:
            return None
        entry = torch.arange(self.nnz, device=self.col.device) if among is None else among
        synapse = entry if self.perm is None else self.perm[entry]
        return torch.nonzero(synapse < n)[:, 0].to(self.col.dtype)

    def _trained_shared(self) -> int:
        """Synapses whose gains are trained; they come first among the shared ones."""
        if self.gains is None:
            return 0
        first = self.trainable_projections
        trained = int(self.are_trained[first : first + self.shared_projections].sum())
        return int(self.ptr[first + trained] - self.ptr[first])

    def stored_values(self, operand: Operand, *, gain: Tensor | None = None) -> Tensor:
        """Weights as the backend stores them, with Dale's law where it applies. Differentiable.

        Parameters
        ----------
        operand : Operand
        gain : Tensor, shape (all projections,), optional
            At least 0; multiplies the weights of each projection, those of low rank last.
        """
        values = self._with_gain(gain)
        if operand.padded:
            values = torch.cat([values, values.new_zeros(1)])
        sign = None
        if self.constrained and self._has_signs:
            sign = self.csr_signs() if operand.sign is None else operand.sign
        stored = effective(values, operand.index, sign)
        if operand.offset is not None:
            stored = stored.new_zeros(self.shape[0] * self.shape[1]).index_add(0, operand.offset, stored)
        if self.low_rank is not None:
            own = None if gain is None else gain[len(self._names) :]
            return torch.cat([stored, self.low_rank.stored_values(own)])
        return stored if operand.offset is None else stored.view(self.shape)

    def signed_values(
        self, *, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Parts of `stored_values` of the CSR backend, without a copy of the values if there is no gain.

        Returns
        -------
        values : Tensor, shape (synapses,)
            In projection order.
        perm : Tensor of int, shape (synapses,), or None
            Entry e of the matrix has value ``perm[e]``.
        sign : Tensor of int8, shape (sources,), or None
        synapse_sign : Tensor of int8, shape (synapses,), or None
            In CSR order; it goes over ``sign``.
        """
        signed = self.constrained and self._has_signs
        values = self._with_gain(gain).detach()
        return values, self.perm, self.sign if signed else None, self.synapse_sign if signed else None

    def _with_gain(self, gain: Tensor | None) -> Tensor:
        """Values of all synapses, multiplied by the gain of their projection."""
        values = self.all_values()
        if gain is None:
            return values
        lengths, of_projections = torch.diff(self.ptr), gain[: len(self._names)]
        return values * torch.repeat_interleave(of_projections, lengths, output_size=self.nnz)

    @property
    def _has_signs(self) -> bool:
        """True if Dale's law changes anything; read from the device once."""
        if ("has signs",) not in self.derived:
            self.derived[("has signs",)] = self.synapse_sign is not None or bool((self.sign != 0).any())
        return bool(self.derived[("has signs",)])

    def _reset_caches(self) -> None:
        """Forget what is derived from the pattern."""
        self.__dict__.update(_pattern=None, _operands={}, _dense_synapses=None, derived={})

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles make anew what is derived: torch cannot copy the sparse matrices in it
        return {**self.__dict__, "_pattern": None, "_operands": {}, "_dense_synapses": None, "derived": {}}

    def __delattr__(self, name: str) -> None:
        if name == "values" and name in self._parameters:  # the first thing that torch's parametrize does
            raise WeightError(
                "torch.nn.utils.parametrize cannot replace a parameter called 'values' (its ModuleDict has a "
                "method of that name). Run the net with weights of yours: torch.func.functional_call(net, "
                "{'rec.values': f(net.rec.values)}, inp), or mask them with torch.nn.utils.prune."
            )
        super().__delattr__(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseWeights:
        self._reset_caches()
        super()._apply(fn, recurse)
        self.bind_views()
        return self

    # ---------------------------------------------------------------- saving and loading

    def _alphabetical_rank(self) -> Tensor:
        """Rank of each projection in alphabetical order: how ``state_dict`` says which block is whose."""
        rank = np.empty(len(self._order), dtype=np.int64)
        rank[self._names.alphabetical()] = np.arange(len(rank))
        return torch.from_numpy(rank[self._order])

    def expected_entries(self, saved: Mapping[str, Tensor]) -> dict[str, tuple[int, torch.dtype]]:
        """Length and type of each entry of a state, whose synapses may be others than those here."""

        def count(name: str) -> int:
            given = saved.get(name, getattr(self, name))
            return 0 if given is None else int(given.numel())

        (rows, columns), dtype = self.shape, self.values.dtype
        nnz, blocks, gains = count("values") + count("frozen"), len(self._names), len(self.gain_names)
        index = index_dtype(nnz)
        return {
            "values": (count("values"), dtype),
            "frozen": (count("frozen"), dtype),
            "ptr": (blocks + 1, torch.int64),
            "order": (blocks, torch.int64),
            "crow": (rows + 1, index),
            "col": (nnz, index),
            "perm": (nnz, index),
            "sign": (columns, torch.int8),
            "synapse_sign": (nnz, torch.int8),
            "group": (count("group"), torch.int32),
            "gains": (count("gains"), dtype),
            "frozen_gains": (gains - count("gains"), dtype),
            "gain_index": (gains, torch.int64),
            "gain_low": (gains, dtype),
            "gain_high": (gains, dtype),
        }

    def misfits(self, saved: Mapping[str, Tensor], prefix: str) -> list[str]:
        """Say, in torch's words, why some entries of a state dict cannot be loaded, before any is."""
        found = []
        pruned = {name: entry for name, entry in saved.items() if name.endswith("_orig")}
        for name, entry in pruned.items():  # of torch.nn.utils.prune: what it was made of has the same size
            here = self._parameters.get(name)
            if here is not None and entry.shape != here.shape:
                shapes = f"copying a param with shape {entry.shape} from checkpoint"
                found.append(f"size mismatch for {prefix}{name}: {shapes}, the shape here is {here.shape}.")
        saved = {**saved, **{name.removesuffix("_orig"): entry for name, entry in pruned.items()}}
        for name, (length, kind) in self.expected_entries(saved).items():
            if name in saved and saved[name].is_floating_point() != kind.is_floating_point:
                found.append(computed(f"{prefix}{name}", saved[name], kind))
            elif name in saved and saved[name].shape != (length,):
                shapes = f"copying a param with shape {saved[name].shape} from checkpoint"
                found.append(f"size mismatch for {prefix}{name}: {shapes}, the shape here is ({length},).")
        pattern = (*PATTERN, "perm")
        for parts, own in (((*SYNAPSES, *PATTERN), pattern), (GAINS, GAINS[1:])):
            there = [name for name in own if name in saved]
            missing = [name for name in parts if name not in saved and getattr(self, name) is not None]
            if there and missing:
                what = f"{prefix}{there[0]} comes without {prefix}{missing[0]}"
                found.append(f"{what}; these belong together: {', '.join(parts)}.")
        order = saved.get("order", self.order).sort().values.cpu()
        if not found and not torch.equal(order, torch.arange(len(self.order))):
            found.append(f"{prefix}order does not number the {len(self.order)} projections.")
        return found

    @ordinary_tensors()
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over the saved pattern, whose synapses may be others than the ones drawn here."""
        saved = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        saved = {name: entry for name, entry in saved.items() if isinstance(entry, Tensor)}
        if misfits := self.misfits(saved, prefix):
            args[-1].extend(misfits)  # torch raises them; nothing of this matrix is loaded
            return
        if "col" in saved:
            self._order = self.order_of_state(saved["order"])
        for name, parameter in (("values", self.values), ("gains", self.gains)):
            if parameter is not None and name in saved and saved[name].shape != parameter.shape:
                _resize(parameter, parameter.detach().new_empty(saved[name].shape), None)
        self.orientation = None
        self._reset_caches()
        optional = OPTIONAL if "col" in saved else ()
        self._load_fixed(state_dict, prefix, *args, free=saved, optional=optional)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._reset_caches()
        if self.has_own_signs:
            self.synapse_sign = self.signs_of(self.projection_of_entry(), self.col)
        if self.views is None or self.views.are_neighbours(self.projections[: self.trainable_projections]):
            self.bind_views()
        else:
            self.set_table(self.in_declared_order(self.table(), self.is_trainable))

    # ---------------------------------------------------------------- changing which synapses there are

    def table(self) -> SynapseTable:
        """Every synapse in projection order, detached. O(synapses)."""
        row, col = self.pattern.row.long(), self.col.long()
        if self.perm is not None:
            row, col = (torch.empty_like(t).scatter_(0, self.perm.long(), t) for t in (row, col))
        n, group = self.values.numel(), self.group.new_full((self.nnz,), -1)
        group[n : n + self.group.numel()] = self.group
        return SynapseTable(
            projections=self.projections,
            lengths=torch.diff(self.ptr).cpu(),
            trainable_synapses=n,
            row=row,
            col=col,
            values=torch.cat([self.values.detach(), self.frozen]),
            group=group,
            origin=torch.arange(self.nnz, device=self.col.device),
        )

    def in_declared_order(
        self, table: SynapseTable, trainable: Callable[[ProjectionKey], bool]
    ) -> SynapseTable:
        """Trainable projections view by view, shared ones (those with trained gains first), then the others.

        Else the order is as declared.
        """
        rank = {} if self.views is None else self.views.rank

        def sort_key(k: int) -> tuple[int, int, int]:
            name = table.projections[k]
            if self.is_shared(name):
                return (1 if trainable(name) else 2), 0, self._number[name]
            first, view = (0, rank.get(name, 0)) if trainable(name) else (3, 0)
            return first, view, self._number[name]

        order = sorted(range(len(table.projections)), key=sort_key)
        return table.reordered(order, sum(sort_key(k)[0] == 0 for k in order))

    def set_table(self, table: SynapseTable, trained_gains: Tensor | None = None) -> None:
        """Take other synapses: the one function that changes the pattern. O(n) for n synapses.

        The parameter stays the same object; its gradient follows the synapses, 0 for new ones.

        Parameters
        ----------
        table : SynapseTable
            Made from `table`, so that its ``origin`` says which synapse was which.
        trained_gains : Tensor of bool, shape (gains,), optional
            Which gains are trained from now on. Default: as before.
        """
        if trained_gains is not None:
            self._train_gains(trained_gains)
        if "values" not in self._parameters:
            part = "rec" if self.kind == "recurrent" else "inp"
            raise WeightError(
                f"{part}.values is pruned by torch.nn.utils.prune; make that permanent before synapses "
                f"change: prune.remove(net.{part}, 'values')."
            )
        n, device = table.trainable_synapses, self.values.device
        pattern, perm = Pattern.from_coo(table.row, table.col, self.shape)
        gradient, origin = self.values.grad, table.origin[:n]
        if gradient is not None:  # what was frozen has none
            gradient = follow(gradient, torch.where(origin < gradient.numel(), origin, -1))
        if self.orientation is not None:
            self.orientation = follow(self.orientation, table.origin)
        _resize(self.values, table.values[:n].clone(), gradient)
        self.frozen = table.values[n:].clone()
        self.group = table.group[table.group >= 0]
        self.crow, self.col, self.perm = pattern.crow, pattern.col, perm
        if table.projections is not self.projections:
            self._order = np.array([self._number[name] for name in table.projections], dtype=np.int64)
        ends = torch.cumsum(table.lengths, 0).tolist()
        self.ptr = torch.tensor([0, *ends], dtype=torch.int64, device=device)
        self.order = self._alphabetical_rank().to(device)
        self._reset_caches()
        if self.has_own_signs:
            self.synapse_sign = self.signs_of(self.projection_of_entry(), self.col)
        self.bind_views()

    @property
    def trained_gains(self) -> Tensor:
        """A mask of the gains that are trained (bool), in the order of ``gain_names``."""
        if self.gains is None:
            return self.col.new_empty(0, dtype=torch.bool)
        return self.gain_index < self.gains.numel()

    def gain_range(self, name: ProjectionKey) -> slice:
        """Range of a projection's gains in ``gain_names``; empty if it shares none."""
        first, stop = self._gains_of[self._number[name]].tolist() if self.is_shared(name) else (0, 0)
        return slice(first, stop)

    def _train_gains(self, trained: Tensor) -> None:
        """Move gains between the parameter and the buffer of those that are not trained."""
        if self.gains is None:
            return
        old = self.gains.numel()
        stored = torch.cat([self.gains.detach(), self.frozen_gains])[self.gain_index]
        gradient = self.gains.grad
        if gradient is not None:
            slot = self.gain_index[trained]
            gradient = follow(gradient, torch.where(slot < old, slot, -1))
        _resize(self.gains, stored[trained], gradient)
        self.frozen_gains = stored[~trained]
        self.gain_index = torch.argsort(torch.argsort(~trained, stable=True))

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
        self.bind_views()
        return self.views.parameters

    def split_gains(self, runs: Sequence[Sequence[int]]) -> list[nn.Parameter]:
        """Split ``gains`` as `split` does: every gain once, by number, in the order of ``gain_names``."""
        if self.gains is None:
            return []
        if self.gain_views is not None:
            self.gain_views.remove()
        self.gain_views = ParameterViews(self.gains, runs)
        self.bind_views()
        return self.gain_views.parameters

    def bind_views(self) -> None:
        """Let the views share the parameters' storage."""
        if self.views is not None:
            lengths = torch.diff(self.ptr).tolist()[: self.trainable_projections]
            self.views.bind(self.values, dict(zip(self.projections, lengths, strict=False)))
        if self.gain_views is not None and self.gains is not None:
            trained = torch.nonzero(self.trained_gains)[:, 0].tolist()
            self.gain_views.bind(self.gains, dict.fromkeys(trained, 1))


def _parameter(values: Tensor) -> nn.Parameter:
    """A parameter; one without entries asks for no gradient: DistributedDataParallel would wait for it."""
    return nn.Parameter(values, requires_grad=values.numel() > 0)


def _resize(parameter: nn.Parameter, values: Tensor, gradient: Tensor | None) -> None:
    """Give a parameter other values without making another object, which optimisers would not know."""
    parameter.grad = None
    if not parameter.numel() or not values.numel():
        parameter.requires_grad_(values.numel() > 0)
    # A graph that is still alive keeps the node that accumulates gradients of the old shape; torch makes a
    # new one only when the dtype changes.
    other = torch.float16 if values.dtype != torch.float16 else torch.float32
    parameter.data = values.new_empty(0, dtype=other)
    parameter.data = values
    parameter.grad = gradient


def check_dense(shape: tuple[int, int], force: bool = False) -> None:
    """Refuse a dense matrix too large to be made by accident."""
    if shape[0] * shape[1] > DENSE_LIMIT and not force:
        gib = shape[0] * shape[1] * 4 / 2**30
        advice = "use the sparse one (W_rec, sparse=True), or dense(force=True)"
        raise SizeError(f"a dense {shape[0]} x {shape[1]} matrix takes {gib:.1f} GiB; {advice}.")
