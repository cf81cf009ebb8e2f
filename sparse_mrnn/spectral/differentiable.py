"""The spectral radius as a differentiable function of the weights, to be used as a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.ops.pattern import split_sparse
from sparse_mrnn.spectral.inputs import as_matrix
from sparse_mrnn.spectral.structure import rows_of
from sparse_mrnn.spectral.whole import locate_radius


class _Radius(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, row: Tensor, col: Tensor, n: int, rtol: float, seed: int) -> Tensor:
        data = values.detach().to("cpu", torch.float64).numpy()
        pair = (row.cpu().numpy(), col.cpu().numpy())
        matrix = as_matrix(sp.csr_array(sp.coo_array((data, pair), shape=(n, n))))
        radius, units, slope = locate_radius(matrix, rtol, seed, gradient=values.requires_grad)
        if slope is not None:  # derivative by each stored entry of one component: look every synapse up in it
            local = np.full(n, -1, dtype=np.int64)
            local[units] = np.arange(len(units))
            i, j = local[pair[0]], local[pair[1]]
            inside = (i >= 0) & (j >= 0)
            keys = rows_of(slope).astype(np.int64) * len(units) + slope.indices
            wanted = i[inside] * len(units) + j[inside]
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            grad = np.zeros(len(data))
            grad[inside] = np.where(keys[at] == wanted, slope.data[at], 0.0)
            ctx.save_for_backward(torch.from_numpy(grad).to(values.device, values.dtype))
        elif values.requires_grad:
            ctx.save_for_backward(torch.zeros_like(values))
        return values.new_tensor(radius)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        return grad * ctx.saved_tensors[0], None, None, None, None, None


def differentiable_spectral_radius(
    W: Any,  # noqa: N803
    rtol: float = 1e-4,
    *,
    regions: str | Sequence[str] | None = None,
    seed: int = 0,
) -> Tensor:
    """Spectral radius with a gradient: ``d rho = Re(conj(v) / |v| y^T dW x / (y^T x))`` of the leading eigenvalue v.

    Parameters
    ----------
    W : mRNN, ElmanmRNN or torch Tensor (dense, COO, CSR), shape (units, units)
        Of a network, its effective weights: the gradient goes through Dale's law to the parameters.
    rtol : float
        Relative error of the value. The eigenvectors are computed to 1e-10.
    regions : str or sequence of str, optional
        Only the sub-network of these regions or parents of a network.
    seed : int

    Returns
    -------
    Tensor, a scalar
        Of the dtype and on the device of the weights. A weight of 0 is no synapse: its gradient is 0, as is every
        gradient of a net without cycles. Where several eigenvalues attain the radius, the gradient is that of one.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError
        As for `spectral_radius`; also if the eigenvectors of the leading eigenvalue cannot be certified.

    References
    ----------
    Magnus 1985, On differentiating eigenvalues and eigenvectors.

    Examples
    --------
    >>> w = torch.tensor([[0.0, 4.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    >>> radius = differentiable_spectral_radius(w)
    >>> torch.relu(radius - 0.9).backward()
    >>> w.grad
    tensor([[0.0000, 0.2500],
            [1.0000, 0.0000]], dtype=torch.float64)
    """
    if hasattr(W, "get_weight_subset"):
        names = () if regions is None else (regions,) if isinstance(regions, str) else tuple(regions)
        W = W.get_weight_subset(*names, sparse=True) if names else W.effective_W_rec  # noqa: N806
    elif regions is not None:
        raise SpectralInputError("regions needs a network; index the tensor instead.")
    if not isinstance(W, Tensor):
        raise SpectralInputError(f"a differentiable radius needs a torch Tensor or a network, not {type(W).__name__}; use spectral_radius.")
    if W.dim() != 2 or W.shape[0] != W.shape[1] or not W.dtype.is_floating_point:
        raise SpectralInputError(f"a differentiable radius needs a square matrix of floats; this one is {tuple(W.shape)} of {W.dtype}.")
    pattern, values = split_sparse(W)
    if pattern is None:
        row, col = torch.nonzero(W.detach(), as_tuple=True)
        values = W[row, col]
    else:
        row, col = pattern.row, pattern.col
    result: Tensor = _Radius.apply(values, row, col, W.shape[0], rtol, seed)  # type: ignore[no-untyped-call]
    return result
