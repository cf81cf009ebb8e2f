"""The compiled SDDMM and torch's give the dense gradient, parallel entries included."""

import pytest
import torch

from sparse_mrnn.ops.backends import csr as products
from sparse_mrnn.ops.backends.csr import CsrOperator
from sparse_mrnn.ops.pattern import Pattern


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 5, 128])
def test_sddmm(monkeypatch, compiled, dtype, width):
    if compiled:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
    rows = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 3])  # row 1 is empty; a row of six, parallel entries, a self-loop
    col = torch.tensor([0, 1, 1, 1, 2, 4, 3, 3, 3], dtype=torch.int32)
    crow = torch.tensor([0, 6, 6, 8, 9], dtype=torch.int32)
    g, h = torch.randn(4, width, dtype=dtype), torch.randn(5, width, dtype=dtype)
    product = CsrOperator(Pattern(crow, col, (4, 5))).bind(torch.ones(9, dtype=dtype))
    assert (product.kernel is not None) == compiled
    product.sddmm(g, h)
    product.sddmm(2 * g, h)
    torch.testing.assert_close(product.grad(), 3 * (g @ h.T)[rows, col.long()])


@pytest.mark.parametrize("sort", [True, False])
def test_sddmm_in_bands(monkeypatch, sort):
    pytest.importorskip("numba")
    monkeypatch.setattr(products, "BAND_BYTES", 7 * 3 * 4)  # seven rows of three columns
    g, h = torch.randn(9, 3), torch.randn(30, 3)
    counts = torch.randint(0, 30, (9,))
    rows = torch.repeat_interleave(torch.arange(9), counts)
    col = torch.cat([torch.randint(30, (int(n),), dtype=torch.int32).sort().values for n in counts])
    if not sort:
        col = col.flip(0)
    crow = torch.cat([torch.zeros(1), counts.cumsum(0)]).int()
    product = CsrOperator(Pattern(crow, col, (9, 30))).bind(torch.ones(len(col)))
    product.sddmm(g, h)
    bands = product.operator.bands(12)
    assert bands.shape == (6 if sort else 2, 9)
    torch.testing.assert_close(product.grad(), (g @ h.T)[rows, col.long()])
