"""Sparse networks against the dense float64 reference, over random graphs."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.dense_reference import FUNCTIONS, networks, run_dense
from sparse_mrnn.ops.products import hybrid


@pytest.fixture(autouse=True, scope="module")
def blocks_of_any_size():
    """Let "hybrid" have dense blocks in networks this small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybrid, "BLOCK_ENTRIES", 1)
        yield


MODELS = {"leaky": sm.mRNN, "elman": sm.ElmanmRNN}


def make(case, model, activation, **options):
    if model == "elman":  # it has no time constants
        for _, attributes in case.graph.nodes(data=True):
            attributes["learnable_tau"] = False
    net = MODELS[model](case.graph, activation, device="cpu", seed=0, **options)
    with torch.no_grad():
        for source, target, key, values in case.projections:
            weights = net.inp if source.startswith("i") else net.rec
            weights.projection_values(source=source, target=target, key=key).copy_(torch.from_numpy(values))
    return net


@given(
    networks(),
    st.sampled_from(list(MODELS)),
    st.sampled_from(list(FUNCTIONS)),
    st.booleans(),
    st.sampled_from(["csr", "dense", "hybrid"]),
    st.sampled_from([torch.float64, torch.float32]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_forward_equals_dense_reference(case, model, activation, batch_first, backend, dtype, batch, steps, contiguous):
    net = make(case, model, activation, batch_first=batch_first, backend=backend, dtype=dtype)
    rng = np.random.default_rng(1)
    n, inputs = case.w_rec.shape[0], case.w_inp.shape[1]
    u, stim = rng.normal(size=(batch, steps, inputs)), rng.normal(size=(batch, steps, n))
    x0, h0 = rng.normal(size=(2, batch, n))

    def tensor(a, swap=False):
        a = torch.from_numpy(a).to(dtype)
        a = a.transpose(0, 1) if swap and not batch_first else a
        return a.contiguous() if contiguous else a.transpose(0, -1).contiguous().transpose(0, -1)

    if model == "leaky":
        x, h = net(tensor(u, True), tensor(x0), tensor(h0), tensor(stim, True))
    else:
        x = None
        h = net(tensor(u, True), tensor(h0), tensor(stim, True))
    x_ref, h_ref = run_dense(case, activation, u, x0 if model == "leaky" else h0, h0, stim, elman=model == "elman")
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 2e-3, "atol": 2e-3}
    for got, expected in ((x, x_ref), (h, h_ref)):
        if got is not None:
            got = got if batch_first else got.transpose(0, 1)
            np.testing.assert_allclose(got.detach().numpy(), expected, **tolerance)


def gradients_are_differences(case, model, activation, backend):
    net = make(case, model, activation, backend=backend, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    n, inputs = case.w_rec.shape[0], case.w_inp.shape[1]
    names = [name for name, _ in net.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in net.parameters()]
    data = [leaf(2, 3, inputs), leaf(2, n), leaf(2, n), leaf(2, 3, n)]

    def run(u, x0, h0, stim, *values):
        inside = dict(zip(names, values, strict=True))
        args = (u, x0, h0, stim) if model == "leaky" else (u, h0, stim)
        return torch.func.functional_call(net, inside, args)

    if activation == "relu":  # differences across its kink are no derivatives
        u, x0, h0, stim = (t.detach().numpy() for t in data)
        x, _ = run_dense(case, activation, u, x0 if model == "leaky" else h0, h0, stim, elman=model == "elman")
        assume(np.abs(x - case.threshold).min() > 1e-4)
    assert torch.autograd.gradcheck(run, (*data, *parameters), atol=1e-6)


ANY_NETWORK = given(networks(), st.sampled_from(list(MODELS)), st.sampled_from(list(FUNCTIONS)), st.sampled_from(["csr", "dense", "hybrid"]))


@ANY_NETWORK
@settings(max_examples=15, deadline=None)
def test_gradients_by_gradcheck(case, model, activation, backend):
    gradients_are_differences(case, model, activation, backend)


@pytest.mark.slow
@ANY_NETWORK
@settings(max_examples=100, deadline=None)
def test_many_gradients_by_gradcheck(case, model, activation, backend):
    gradients_are_differences(case, model, activation, backend)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
def test_given_w_rec_and_its_gradient(model, layout):
    g = sm.RegionGraph()
    g.add_region("a", 5)
    net = MODELS[model](g, "tanh", device="cpu", dtype=torch.float64)
    w = torch.randn(5, 5, dtype=torch.float64) * (torch.rand(5, 5) < 0.6)
    u, start = torch.zeros(2, 4, 0, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def run(values):
        dense = torch.zeros(5, 5, dtype=torch.float64).index_put(tuple(w.nonzero().t()), values)
        given_w = {"dense": lambda: dense, "coo": dense.to_sparse, "csr": dense.to_sparse_csr}[layout]()
        out = net(u, start, W_rec=given_w)
        return out[1] if model == "leaky" else out

    values = w[w != 0].clone().requires_grad_()
    reference = net(u, start, W_rec=w)
    torch.testing.assert_close(run(values), reference[1] if model == "leaky" else reference)
    assert torch.autograd.gradcheck(run, (values,))


def test_gradient_through_a_parameter_at_zero_follows_the_sign():
    g = sm.RegionGraph()
    g.add_region("e", 1, sign="neg")
    g.add_projection("e", "e")
    net = sm.mRNN(g, "linear", device="cpu", dtype=torch.float64)
    with torch.no_grad():
        net.rec.values.zero_()
    x, _ = net(torch.zeros(1, 1, 0, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    x.sum().backward()
    assert net.rec.values.grad.item() == pytest.approx(-0.1)


def test_double_backward_is_refused():
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_projection("a", "a")
    net = sm.mRNN(g, device="cpu")
    x0 = torch.ones(1, 3, requires_grad=True)
    x, _ = net(torch.zeros(1, 2, 0), x0)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(x.sum(), x0, create_graph=True)
