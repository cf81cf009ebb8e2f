"""The spectral radius as a differentiable function of the weights, to be used as a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.errors import SpectralInputError
from sparse_mrnn.ops.pattern import split_sparse
from sparse_mrnn.spectral.component import solve_component
from sparse_mrnn.spectral.inputs import as_matrix, check_low_rank, refuse_electrical, region_names
from sparse_mrnn.spectral.matrix_search import MatrixSearch
from sparse_mrnn.spectral.result import UncertifiedError
from sparse_mrnn.spectral.settings import Budget, Complex, SearchSettings


def _eigenvectors(search: MatrixSearch) -> tuple[Complex, Complex]:
    """Right and left eigenvectors of the leading component, to double precision; 0 at other units."""
    first = search.leading[0]
    units = search.parts.units(first.component)
    x, y = np.zeros((2, search.w.shape[0]), dtype=complex)
    x[units] = y[units] = 1
    if len(units) > 1:
        try:
            settings = replace(search.settings, precise=True)
            found = solve_component(search.parts.block(first.component), settings)
        except UncertifiedError as error:
            search.fail(error, first.component)
        if found.right is not None and found.left is not None:  # a precise search finds both
            x[units], y[units] = found.right[:, 0], found.left[:, 0]
    return x, y


def differentiable_spectral_radius(
    W: Any, rtol: float = 1e-4, *, regions: str | Sequence[str] | None = None, seed: int = 0  # noqa: N803
) -> Tensor:
    """Spectral radius with a gradient, ``d rho = Re(conj(v) / |v| y^T dW x / (y^T x))``.

    v is the leading eigenvalue, x and y are its right and left eigenvectors.

    Parameters
    ----------
    W : mRNN, ElmanmRNN or torch Tensor (dense, COO, CSR), shape (units, units)
        A network has its effective weights: the gradient goes through Dale's law to the parameters.
    rtol : float
        Relative error of the value. The eigenvectors are computed to 1e-10.
    regions : str or sequence of str, optional
        Only the sub-network of these regions or parents of a network.
    seed : int

    Returns
    -------
    Tensor, a scalar
        It has the dtype and the device of the weights. A weight of 0 is not a synapse: its gradient is 0, as
        is every gradient of a net without cycles. If several eigenvalues tie, one of them gives the gradient.

    Raises
    ------
    SpectralInputError, SpectralConvergenceError
        See `spectral_radius`; also if the eigenvectors of the leading eigenvalue cannot be certified.

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
    settings = SearchSettings("LM", 1, rtol, seed, Budget())
    values, pairs, n = _entries(W, region_names(regions))
    data, (i, j) = values.detach().double().cpu().numpy(), pairs.cpu().numpy()
    search = MatrixSearch(as_matrix(sp.csr_array(sp.coo_array((data, (i, j)), shape=(n, n)))), settings)
    radius = search.result().value
    grad = np.zeros(len(data))
    if radius > 0 and values.requires_grad:
        x, y = _eigenvectors(search)
        value = search.leading[0].value
        slope = np.conj(value) / np.abs(value) / (y @ x) * y[i] * x[j]
        grad = np.where(data == 0, 0.0, np.real(slope))
    change = values - values.detach()  # 0, but with a gradient
    return values.new_tensor(radius) + change @ torch.from_numpy(grad).to(values)


def _entries(w: Any, names: tuple[str, ...]) -> tuple[Tensor, Tensor, int]:
    """Stored values, differentiable, their rows and columns, and the number of units."""
    refuse_electrical(w, "the eigenvalues of the weights")
    if hasattr(w, "get_weight_subset"):  # a network; torch cannot differentiate a matrix of repeated entries
        weights, units = w.weights("recurrent"), torch.from_numpy(w.layout().indices(*names or w.hid_regions))
        if weights.low_rank is not None:
            check_low_rank(len(units))
            return _entries(w.get_weight_subset(*names), ())
        pattern, entries = weights.pattern.submatrix(units, units)
        return weights.csr_values()[entries], torch.stack([pattern.row, pattern.col]), len(units)
    if names:
        raise SpectralInputError("regions needs a network; index the tensor instead.")
    needs = "a differentiable radius needs a"
    if not isinstance(w, Tensor):
        raise SpectralInputError(f"{needs} Tensor or a network, not {type(w).__name__}; use spectral_radius.")
    if w.dim() != 2 or w.shape[0] != w.shape[1] or not w.dtype.is_floating_point:
        raise SpectralInputError(f"{needs} square matrix of floats, not {tuple(w.shape)} of {w.dtype}.")
    pattern, values = split_sparse(w)
    if pattern is None:
        pairs = torch.nonzero(w.detach()).t()
        return w[pairs[0], pairs[1]], pairs, len(w)
    return values, torch.stack([pattern.row, pattern.col]), len(w)
