"""The compiled weights of values, and their gradients, are those of torch, on one thread and on several."""

import pytest
import torch

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.weights import effective


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("entries", [1, 50, 70_000])
def test_effective_weights(monkeypatch, entries, ordered):
    pytest.importorskip("numba")
    index = None if ordered else torch.randperm(entries, dtype=torch.int32)
    sign = torch.randint(-1, 2, (entries,), dtype=torch.int8)
    values, given = torch.randn(entries), torch.randn(entries)
    values[0] = -0.0
    found = []
    forms = [form for form in ("serial", "threaded") if kernels.may_use_threads()]
    for form in (*forms, None):
        for name in ("gather", "scatter"):
            kernel = getattr(kernels.load("weights"), name)
            monkeypatch.setattr(kernel, "of", lambda work, kernel=kernel, form=form: getattr(kernel, form))
        if form is None:
            monkeypatch.setattr("sparse_mrnn.ops.kernels.load", lambda name: None)
        learnt = values.clone().requires_grad_()
        weights = effective(learnt, index, sign)
        weights.backward(given)
        found.append((weights.detach(), learnt.grad))
    for other in found[:-1]:
        for a, b in zip(other, found[-1], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
