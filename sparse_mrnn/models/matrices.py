"""Weight matrices under mRNNTorch's names: parameters, masks, signs, Dale's law and spectral radius."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse_mrnn.errors import ConfigError, ShapeError, SpectralError
from sparse_mrnn.graph import Region
from sparse_mrnn.models.queries import RegionQueries
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.convert import split_sparse
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.spectral import spectral_radius as find_spectral_radius


class WeightMatrices(RegionQueries):
    """The weight matrices of a network as CSR tensors; mixed into `mRNNBase`."""

    dtype: torch.dtype
    spectral_radius: float | dict[str, float] | None

    @property
    def W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent parameters as a CSR tensor, shape (units, units), before Dale's law."""
        return self._weights("recurrent").matrix(constrained=False)

    @property
    def W_inp(self) -> Tensor:  # noqa: N802
        """Input parameters as a CSR tensor, shape (units, channels), before Dale's law."""
        return self._weights("input").matrix(constrained=False)

    @property
    def W_rec_mask(self) -> Tensor:  # noqa: N802
        """1 where a recurrent synapse exists; the pattern of ``W_rec``."""
        return _like(self._weights("recurrent"), None)

    @property
    def W_inp_mask(self) -> Tensor:  # noqa: N802
        """1 where an input synapse exists; the pattern of ``W_inp``."""
        return _like(self._weights("input"), None)

    @property
    def W_rec_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each recurrent synapse (0: free); the pattern of ``W_rec``."""
        return _like(self._weights("recurrent"), self._weights("recurrent").csr_signs())

    @property
    def W_inp_sign_matrix(self) -> Tensor:  # noqa: N802
        """Sign of each input synapse (0: free); the pattern of ``W_inp``."""
        return _like(self._weights("input"), self._weights("input").csr_signs())

    @property
    def effective_W_rec(self) -> Tensor:  # noqa: N802
        """Recurrent weights as the dynamics use them, a differentiable CSR tensor."""
        return self._weights("recurrent").matrix(constrained=self.rec_constrained)

    @property
    def effective_W_inp(self) -> Tensor:  # noqa: N802
        """Input weights as the dynamics use them, a differentiable CSR tensor."""
        return self._weights("input").matrix(constrained=self.inp_constrained)

    def gen_w(self, dict_: dict[str, Region]) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, mask and signs (CSR) of the projections from the regions of ``dict_``.

        ``net.gen_w(net.region_dict)`` is the recurrent, ``net.gen_w(net.inp_dict)`` the input matrix.

        Raises
        ------
        UnknownNameError
            If a key is no region.
        """
        kinds = {self._kind(name) for name in dict_}
        if len(kinds) != 1:
            raise ConfigError("gen_w takes a dict of recurrent or of input regions, and at least one; see region_dict and inp_dict.")
        kind = kinds.pop()
        weights = self._weights(kind)
        parts = weights.csr_values(constrained=False), torch.ones_like(weights.csr_values(constrained=False)), weights.csr_signs()
        pattern = weights.pattern
        inside = torch.zeros(weights.shape[1], dtype=torch.bool)
        inside[torch.from_numpy(self.layout(kind).indices(*dict_))] = True
        keep = inside.to(pattern.col.device)[pattern.col.long()]
        if not keep.all():
            crow = torch.zeros_like(pattern.crow)
            torch.cumsum(torch.bincount(pattern.row[keep].long(), minlength=weights.shape[0]), 0, dtype=crow.dtype, out=crow[1:])
            pattern, parts = Pattern(crow, pattern.col[keep], pattern.shape), tuple(p[keep] for p in parts)  # type: ignore[assignment]
        w, mask, sign = (pattern.matrix(p.to(self.dtype)) for p in parts)
        return w, mask, sign

    def apply_dales_law(self, W_rec: Tensor, W_rec_mask: Tensor, W_rec_sign_matrix: Tensor) -> Tensor:  # noqa: N803
        """``mask * |W| * sign``, and ``mask * W`` where the sign is 0. Dense tensors, or CSR ones of one pattern.

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

        Where ``self.spectral_radius`` is a dict, only the weights within each region are scaled, each to its own.

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

    def _scale(self, weight: Tensor, pattern: Pattern | None) -> Tensor:
        """The factor that gives ``weight`` the radius asked for; for a dict, one per entry of the pattern (None: dense)."""
        goal = self.spectral_radius
        if not isinstance(goal, dict):
            return torch.as_tensor(self._factor(goal, weight, "the recurrent weights have"), dtype=weight.dtype, device=weight.device)
        n = self.layout().n
        group = torch.full((n,), -1, dtype=torch.int64)
        factors: list[float] = []
        for name, target in goal.items():
            units = torch.from_numpy(self.layout().indices(name))
            if (taken := group[units]).max() >= 0:
                other = list(goal)[int(taken.max())]
                raise SpectralError(f"spectral_radius: {name!r} and {other!r} share units; name each region in one of them only.")
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

    def _factor(self, goal: float | None, weight: Tensor, what: str) -> float:
        if isinstance(goal, bool) or not isinstance(goal, int | float) or not (math.isfinite(goal) and goal > 0):
            raise SpectralError(f"spectral_radius is {goal!r}; set a positive number first.")
        radius = self.compute_spectral_radius(weight)
        if radius == 0:
            raise SpectralError(
                f"{what} spectral radius 0 (no loop of synapses), so no factor makes it {goal}; "
                "add a recurrent loop or leave spectral_radius out."
            )
        return goal / radius


def _like(weights: SparseWeights, values: Tensor | None) -> Tensor:
    kind = weights.values.dtype
    return weights.pattern.matrix(torch.ones_like(weights.col, dtype=kind) if values is None else values.to(kind))
