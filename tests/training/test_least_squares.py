"""Batched least squares with signs, against scipy's solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, nnls

from sparse_mrnn.training.least_squares import dependent_regressor, signed_least_squares


def moments(problems, rows, k, seed, correlated=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(problems, rows, k)) + correlated * rng.normal(size=(problems, rows, 1))
    x *= 10.0 ** rng.uniform(-2, 2, k)  # of very different sizes
    y = rng.normal(size=(problems, rows)) + x[..., 0] * rng.normal(size=(problems, 1))
    return x, y, torch.from_numpy(x.transpose(0, 2, 1) @ x), torch.from_numpy((x * y[..., None]).sum(1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.0, 3.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_signs_as_scipy(seed, k, correlated):
    x, y, gram, moment = moments(3, 3 * k + 2, k, seed, correlated)
    sign = np.random.default_rng(seed + 1).integers(-1, 2, (3, k))
    found, solved = signed_least_squares(gram, moment, torch.from_numpy(sign))
    assert solved.all()
    assert (found.numpy() * sign >= 0).all()
    for a, b, s, w in zip(x, y, sign, found.numpy(), strict=True):
        bounds = np.where(s > 0, 0, -np.inf), np.where(s < 0, 0, np.inf)
        size = np.linalg.norm(a, axis=0)
        expected = lsq_linear(a / size, b, bounds, tol=1e-14, lsmr_tol=None, method="bvls").x
        np.testing.assert_allclose(w * size, expected, rtol=1e-6, atol=1e-6 * max(abs(expected).max(), 1e-9))


@pytest.mark.parametrize("k", [1, 40, 100])
def test_all_positive_as_nnls(k):
    x, y, gram, moment = moments(4, 2 * k + 5, k, seed=k, correlated=2.0)
    found, solved = signed_least_squares(gram, moment, torch.ones(4, k, dtype=torch.int8))
    assert solved.all()
    for a, b, w in zip(x, y, found.numpy(), strict=True):
        size = np.linalg.norm(a, axis=0)
        np.testing.assert_allclose(w * size, nnls(a / size, b)[0], rtol=1e-6, atol=1e-8)


def test_free_ones_are_the_solution_of_the_system():
    _, _, gram, moment = moments(5, 30, 6, seed=0)
    found, _ = signed_least_squares(gram, moment, torch.zeros(5, 6, dtype=torch.int8))
    torch.testing.assert_close((gram @ found[..., None])[..., 0], moment, rtol=1e-9, atol=1e-9)


def test_a_regressor_of_zeros_has_the_weight_zero():
    _, _, gram, moment = moments(2, 30, 4, seed=0)
    gram[0, 2], gram[0, :, 2], moment[0, 2] = 0, 0, 0
    found, solved = signed_least_squares(gram, moment, torch.ones(2, 4, dtype=torch.int8))
    assert solved.all()
    assert found[0, 2] == 0


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_dependent_regressors_are_found(order):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    x = np.c_[x, x @ [1.0, -2.0]][:, order] * [1e-3, 1.0, 1e3]
    gram = torch.from_numpy(np.stack([x.T @ x, np.diag([1.0, 0.0, 1.0]), np.eye(3)]))
    assert dependent_regressor(gram).tolist() == [2, 1, -1]


def test_what_has_no_solution_says_so():
    gram = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]).double()
    gram[0, 1, 1] -= 1e-15  # not positive definite
    _, solved = signed_least_squares(gram, torch.ones(2, 2).double(), torch.ones(2, 2, dtype=torch.int8))
    assert solved[1]
