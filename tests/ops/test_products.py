"""Products, which a compiled loop computes, against the dense matrix in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products import CsrOperator
from sparse_mrnn.ops.products import csr as csr_products


@pytest.fixture
def used(monkeypatch):
    """The number of columns of each product that the compiled loop has computed."""
    kernel = kernels.load("products") or pytest.skip("the loop is numba's")
    found, of = [], kernel.multiply_rows.of
    monkeypatch.setattr(kernel.multiply_rows, "of", lambda work: lambda *a: (found.append(a[3].shape[1]), of(work)(*a)))
    return found


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), entries=st.integers(0, 60), batch=st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 33, 64, 127, 130]),
    dtype=st.sampled_from([torch.float32, torch.float64]), beta=st.sampled_from([0.0, 1.0, 0.7]), alpha=st.sampled_from([1.0, -0.3]),
    seed=st.integers(0, 1000), in_place=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_products(rows, columns, entries, batch, dtype, beta, alpha, seed, in_place):
    rng = np.random.default_rng(seed)
    row, col = rng.integers(0, rows, entries), rng.integers(0, columns, entries)
    pattern, order = Pattern.from_coo(torch.from_numpy(row), torch.from_numpy(col), (rows, columns))
    values = torch.from_numpy(rng.normal(size=entries)).to(dtype)
    dense = torch.zeros(rows, columns, dtype=torch.float64)
    place = torch.arange(entries) if order is None else order.long()
    dense.index_put_((torch.from_numpy(row)[place], torch.from_numpy(col)[place]), values.double(), accumulate=True)
    product = CsrOperator(pattern).bind(values)
    h, y, g = (torch.from_numpy(rng.normal(size=(n, batch))).to(dtype) for n in (columns, rows, rows))
    expected = beta * y.double() + alpha * dense @ h.double()
    out = y if in_place else torch.full_like(y, float("nan"))
    product.addmm(y, h, beta=beta, alpha=alpha, out=out)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(out.double(), expected, **close)
    torch.testing.assert_close(product.rmatmul(g).double(), dense.t() @ g.double(), **close)


def test_the_compiled_loop_spreads_what_is_not_finite(used):
    pattern = Pattern(torch.tensor([0, 9, 9, 10]), torch.tensor([*range(9), 0]), (3, 9))
    product = CsrOperator(pattern).bind(torch.ones(10))
    h = torch.ones(9, 64)
    h[8, 5], h[0, 7] = float("nan"), float("inf")
    out = torch.full((3, 64), float("nan"))
    product.addmm(out, h, beta=0.0, alpha=1.0, out=out)
    assert out[0, 5].isnan()
    assert out[[0, 2], 7].isinf().all()
    assert (out[1] == 0).all()
    assert out.isfinite().sum() == 3 * 64 - 3
    product.addmm(out, h.t().contiguous().t(), beta=0.0, alpha=1.0, out=out)  # not contiguous: torch's
    assert used == [64]


def test_a_vector_of_many_rows_is_multiplied_by_torch(used):
    rows = csr_products.VECTOR_ROWS
    for n in (rows - 1, rows):
        pattern = Pattern(torch.arange(n + 1), torch.arange(n), (n, n))
        product, out = CsrOperator(pattern).bind(torch.full((n,), 2.0)), torch.empty(n, 1)
        product.addmm(out, torch.ones(n, 1), beta=0.0, alpha=1.0, out=out)
        assert (out == 2).all()
    assert used == [1]


def test_results_do_not_depend_on_the_number_of_threads(used):
    kernel = kernels.load("products")
    rng = np.random.default_rng(0)
    crow, col = np.arange(0, 301 * 40, 40, dtype=np.int32), rng.integers(0, 300, 300 * 40, dtype=np.int32)
    arrays = crow, col, rng.normal(size=len(col)).astype(np.float32), rng.normal(size=(300, 70)).astype(np.float32)
    assert kernels.may_use_threads()  # before a loop over threads: it leaves torch's number as it is
    one, outs = np.float32(1), [np.zeros((300, 70), np.float32) for _ in range(2)]
    for out, form in zip(outs, (kernel.multiply_rows.serial, kernel.multiply_rows.threaded), strict=True):
        form(*arrays, out, one, one)
    assert np.array_equal(*outs)
