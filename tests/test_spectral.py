"""Spectral radius against dense eigenvalues and closed forms."""

import numpy as np
import pytest
import scipy.sparse as sp

import sparse_mrnn as sm
from sparse_mrnn.errors import SpectralError

RNG = np.random.default_rng(0)


def sparse(n, density, values):
    return sp.random_array((n, n), density=density, rng=np.random.default_rng(1), data_sampler=values)


def normal(size):
    return np.random.default_rng(2).standard_normal(size)


def dale(n):
    w = sparse(n, 0.05, lambda size: np.abs(normal(size))).tocsc()
    return w @ sp.diags_array(np.where(np.arange(n) % 5 == 4, -4.0, 1.0))


FAMILIES = {
    "iid": lambda: sparse(900, 0.05, normal),
    "dale": lambda: dale(900),
    "non-negative": lambda: sparse(900, 0.05, lambda size: np.abs(normal(size))),
    "non-positive": lambda: -sparse(900, 0.05, lambda size: np.abs(normal(size))),
    "symmetric": lambda: (w := sparse(900, 0.02, normal)) + w.T,
    "skew-symmetric": lambda: (w := sparse(900, 0.02, normal)) - w.T,
    "cycle": lambda: sp.csr_array((np.full(900, 1.5), (np.arange(900), np.roll(np.arange(900), 1)))),
    "signed cycle": lambda: sp.csr_array((np.where(np.arange(300) % 7, 1.5, -1.5), (np.arange(300), np.roll(np.arange(300), 1)))),
    "hidden in a tiny block": lambda: sp.block_diag([0.01 * sparse(900, 0.05, normal), np.array([[0, 9.0], [4.0, 0]])]),
    "rank one": lambda: sp.csr_array(np.outer(normal(450), np.arange(450) / 450)),
    "disconnected": lambda: sp.block_diag([sparse(500, 0.1, normal), 2 * sparse(500, 0.1, normal)]),
    "diagonal": lambda: sp.diags_array(normal(50)),
    "one unit": lambda: np.array([[-3.0]]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_against_dense_eigenvalues(family):
    w = FAMILIES[family]()
    dense = w if isinstance(w, np.ndarray) else w.toarray()
    exact = np.abs(np.linalg.eigvals(dense)).max()
    result = sm.spectral_radius(w)
    assert result.value == pytest.approx(exact, rel=1e-4)
    if result.lower is not None:
        assert result.lower * (1 - 1e-9) <= exact <= result.upper * (1 + 1e-9)


def test_chains_and_empty_matrices_are_exactly_zero():
    assert sm.spectral_radius(sp.diags_array(np.full(999, 1e6), offsets=1)).value == 0
    assert sm.spectral_radius(sp.csr_array((7, 7))).value == 0


@pytest.mark.parametrize(
    ("matrix", "message"), [(np.ones((2, 3)), "square"), (np.array([[np.nan]]), "NaN"), (np.array([[np.inf]]), "infinite")]
)
def test_bad_matrices(matrix, message):
    with pytest.raises(SpectralError, match=message):
        sm.spectral_radius(matrix)
