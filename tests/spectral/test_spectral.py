"""Spectral tools against dense eigenvalues and closed forms; what is uncertain is an error with bounds."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparse_mrnn as sm
from helpers.spectral_families import (
    FAMILIES,
    FLYVIS,
    exact_radius,
    feedback_radius,
    ring,
    sparse,
    weak_feedback,
)
from sparse_mrnn.errors import SpectralConvergenceError, SpectralError, SpectralInputError, UnknownNameError
from sparse_mrnn.spectral import disc_radius


def dense(w):
    return np.asarray(w) if isinstance(w, np.ndarray) else w.toarray()


def close(result, exact, scale, rtol=1e-4):
    assert abs(result.value - exact) <= rtol * scale
    slack = 1e-9 * scale
    assert result.lower is None or result.lower <= exact + slack
    assert result.upper is None or result.upper >= exact - slack


@pytest.mark.parametrize("family", FAMILIES)
def test_against_dense_eigenvalues(family):
    if family == "flyvis" and not FLYVIS.exists():
        pytest.skip("the flyvis connectome is not here; FLYVIS_CONNECTOME names it")
    w = FAMILIES[family](450)
    eigenvalues = np.linalg.eigvals(dense(w))
    scale = exact_radius(family, 450, eigenvalues)
    close(sm.spectral_search(w), scale, scale)
    positive = family in ("cycle, unequal weights", "signed chain, weak feedback")
    close(sm.spectral_search(w, "LR"), scale if positive else eigenvalues.real.max(), scale)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1000, 3000])
@pytest.mark.parametrize("family", FAMILIES)
def test_large_against_dense_eigenvalues(family, n):
    if family == "flyvis" and not FLYVIS.exists():
        pytest.skip("the flyvis connectome is not here; FLYVIS_CONNECTOME names it")
    w = FAMILIES[family](n)
    scale = exact_radius(family, n, np.linalg.eigvals(dense(w)))
    close(sm.spectral_search(w), scale, scale)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.02, 1), st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 1.0]))
def test_small_random_matrices(n, density, seed, lean):
    rng, draw = np.random.default_rng(seed), np.random.default_rng(seed).standard_normal
    w = sp.random_array((n, n), density=density, random_state=rng, data_sampler=draw)
    w = sp.csr_array(w + lean * abs(w))
    eigenvalues = np.linalg.eigvals(w.toarray())
    scale = np.abs(eigenvalues).max()
    upper, result = np.inf, None
    try:
        result = sm.spectral_search(w)
    except SpectralConvergenceError as error:
        upper = error.upper
    assert upper >= scale * (1 - 1e-6)  # nothing was claimed that is not so
    if result is not None:
        close(result, scale, scale + 1e-6 * np.abs(w.toarray()).sum())


@pytest.mark.parametrize("kind", range(6))
def test_searches_alone(kind, monkeypatch):
    """Small matrices of odd kinds, hardly a block made dense: the searches have to find what LAPACK finds."""
    for module in ("matrix_search", "component"):
        monkeypatch.setattr(f"sparse_mrnn.spectral.{module}.DENSE_COMPONENT", 3)
    for seed in range(12):
        rng = np.random.default_rng([kind, seed])
        n = int(rng.integers(4, 120))
        w = rng.standard_normal((n, n)) * (rng.random((n, n)) < rng.uniform(1.2 / n, 1))
        scales = np.exp(3 * rng.standard_normal(n))
        w = [
            lambda w=w: w,
            lambda w=w, rng=rng, n=n: np.abs(w) * np.where(rng.random(n) < 0.7, 1, -1),
            lambda w=w: w + w.T,
            lambda w=w, scales=scales: w * scales[:, None] / scales,  # badly scaled
            lambda w=w: np.sign(w),  # many ties
            lambda w=w: np.triu(w) + 1e-3 * w,  # nearly acyclic
        ][kind]()
        eigenvalues = np.linalg.eigvals(w)
        scale = np.abs(eigenvalues).max()
        floor = 1e-5 * np.linalg.norm(w)
        close(sm.spectral_search(w), scale, scale + floor)
        close(sm.spectral_search(w, "LR"), eigenvalues.real.max(), scale + floor)


@pytest.mark.slow
def test_weak_feedback_where_lapack_is_wrong():
    w, exact = weak_feedback(700), feedback_radius(700)
    result = sm.spectral_search(w)
    assert result.lower * (1 - 1e-12) <= exact <= result.upper * (1 + 1e-12)
    assert result.upper - result.lower <= 1e-4 * exact
    assert np.abs(np.linalg.eigvals(w.toarray())).max() > 1.02 * exact


def test_chains_and_empty_patterns_are_exactly_zero():
    assert sm.spectral_radius(sp.diags_array(np.full(999, 1e6), offsets=1)) == 0
    result = sm.spectral_search(sp.csr_array((7, 7), dtype=float))
    assert (result.value, result.lower, result.upper, result.method) == (0, 0, 0, "acyclic")


def test_long_signed_cycle_and_huge_numbers():
    weights = np.where(np.arange(3000) % 7, 1e200, -1e-200)
    exact = np.exp(np.log(np.abs(weights)).mean())
    assert sm.spectral_radius(ring(3000) @ sp.diags_array(weights)) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("n", [450, 1200])
def test_grcar_is_an_error_or_right(n):
    """Toeplitz, highly non-normal: from some hundred units on LAPACK computes pseudo-eigenvalues."""
    upper = [np.full(n - k, 1.0) for k in range(4)]
    w = sp.diags_array([np.full(n - 1, -1.0), *upper], offsets=[-1, 0, 1, 2, 3])
    with pytest.raises(SpectralConvergenceError, match="ill-conditioned|reached|certified") as caught:
        sm.spectral_radius(w, max_products=20_000)
    assert caught.value.lower < 2.26 < caught.value.upper


def test_defective():
    jordan = np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert sm.spectral_radius(basis @ jordan @ basis.T) == pytest.approx(2, rel=1e-4)
    high = np.diag(np.full(39, 1.0), 1) + np.diag(np.full(40, 2.0))
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    with pytest.raises(SpectralConvergenceError, match="ill-conditioned") as caught:
        sm.spectral_radius(basis @ high @ basis.T)
    assert caught.value.lower <= 2 <= caught.value.upper


def test_a_nilpotent_component_is_no_number():
    with pytest.raises(SpectralConvergenceError, match="nilpotent") as caught:
        sm.spectral_radius(np.array([[1.0, -1.0], [1.0, -1.0]]))
    assert caught.value.upper < 1e-6
    beside = sp.block_diag([sp.csr_array([[1.0, -1.0], [1.0, -1.0]]), [[0.5]]])
    assert sm.spectral_radius(beside) == 0.5  # it cannot matter there


def test_same_seed_same_digits():
    w = sparse(900, 0.05)
    first, second = (sm.spectral_search(w, seed=3) for _ in range(2))
    assert (first.value, first.matvecs, first.upper) == (second.value, second.matvecs, second.upper)


@pytest.mark.parametrize("which", ["LM", "LR", "SR", "LI"])
@pytest.mark.parametrize("kind", ["one component", pytest.param("several", marks=pytest.mark.slow), "cycle"])
def test_eigenpairs(which, kind):
    blocks = [[sparse(450, 0.03), None], [sparse(450, 0.01), 0.5 * sparse(450, 0.03, seed=9)]]
    w = {
        "one component": lambda: sparse(500, 0.05),
        "several": lambda: sp.csr_array(sp.block_array(blocks)),
        "cycle": lambda: ring(60, 1.5),
    }[kind]()
    k = 6
    values, vectors = sm.leading_eigenpairs(w, k, which)
    score = {"LM": np.abs, "LR": np.real, "SR": lambda v: -v.real, "LI": lambda v: np.abs(v.imag)}[which]
    exact = np.linalg.eigvals(w.toarray())
    scale = np.abs(exact).max()
    assert np.sort(score(exact))[-k:][::-1] == pytest.approx(score(values), abs=1e-4 * scale)
    assert np.abs(values[:, None] - exact).min(axis=1).max() < 1e-4 * scale
    assert np.linalg.norm(w @ vectors - vectors * values, axis=0).max() < 1e-4 * scale
    assert np.linalg.norm(vectors, axis=0) == pytest.approx(1)


@pytest.mark.slow
def test_outlier_and_bulk_together():
    """The filter would leave only the outlier in the vector; it is set aside, and the disc is searched on."""
    rng = np.random.default_rng(1)
    w = sparse(600, 0.05).toarray() + 30 * np.outer(rng.standard_normal(600), rng.standard_normal(600)) / 600
    exact = np.sort(np.abs(np.linalg.eigvals(w)))[::-1]
    assert np.abs(sm.leading_eigenpairs(w, 12, vectors=False)[0]) == pytest.approx(exact[:12], rel=1e-4)


def test_every_kind_of_input():
    w = sparse(50, 0.2)
    t = torch.from_numpy(w.toarray())
    kinds = (w, w.tocoo(), w.toarray(), t, t.to_sparse(), t.to_sparse_csr(), w.toarray().tolist())
    values = [sm.spectral_radius(kind) for kind in kinds]
    assert np.ptp(values) < 1e-10
    g = sm.RegionGraph()
    g.add_region("e", 40, parent_region="all")
    g.add_region("i", 10, sign="neg", parent_region="all")
    for s in "ei":
        for t in "ei":
            g.add_projection(s, t, density=0.5)
    net = sm.mRNN(g, seed=5, device="cpu")
    assert sm.spectral_radius(g, seed=5) == pytest.approx(sm.spectral_radius(net), rel=1e-6)
    exact = np.abs(np.linalg.eigvals(net.effective_W_rec.detach().to_dense().numpy())).max()
    assert sm.spectral_radius(net) == pytest.approx(exact, rel=1e-4)
    inhibitory = np.abs(np.linalg.eigvals(net.get_weight_subset("i").detach().numpy())).max()
    for source in (net, g):
        assert sm.spectral_radius(source, regions="i", seed=5) == pytest.approx(inhibitory, rel=1e-4)
        assert sm.spectral_radius(source, regions=["all"], seed=5) == pytest.approx(exact, rel=1e-4)
        with pytest.raises(UnknownNameError, match="unknown region 'x'"):
            sm.spectral_radius(source, regions="x")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "square matrix; this one is 2 x 3"),
        (np.ones(3), "square"),
        (np.array([[1.0, np.nan], [0, 1]]), "first at row 0, column 1: nan"),
        (np.array([[np.inf]]), "infinite"),
        (np.eye(2, dtype=int), "dtype int64"),
        (torch.eye(2, dtype=torch.int32), "torch.float64"),
        (np.eye(2, dtype=complex), "complex"),
        (np.zeros((0, 0)), "empty"),
    ],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(SpectralInputError, match=message) as caught:
        sm.spectral_radius(matrix)
    assert isinstance(caught.value, ValueError)


def test_bad_options():
    w = np.eye(3)
    wrong = [({name: 0}, name) for name in ("rtol", "max_seconds", "max_products")]
    for options, message in [*wrong, ({"regions": "a"}, "has no regions")]:
        with pytest.raises(SpectralInputError, match=message):
            sm.spectral_radius(w, **options)
    for k, message in ((0, "at least 1"), (4, "only 3 eigenvalues")):
        with pytest.raises(SpectralInputError, match=message):
            sm.leading_eigenpairs(w, k)
    with pytest.raises(SpectralInputError, match="one of LM, LR, SR, LI"):
        sm.leading_eigenpairs(w, 1, "SM")


@pytest.mark.slow
def test_a_spent_budget_tells_the_bounds():
    w = sparse(900, 0.05)
    seen = []
    with pytest.raises(SpectralConvergenceError, match="max_products=300 was.*lies between") as caught:
        sm.spectral_radius(w, max_products=300, progress=lambda *args: seen.append(args))
    exact = np.abs(np.linalg.eigvals(w.toarray())).max()
    assert caught.value.lower <= exact <= caught.value.upper
    for matrix in (w, ring(60)):  # a cyclic matrix spends its budget elsewhere
        with pytest.raises(SpectralConvergenceError, match="max_seconds"):
            sm.spectral_radius(matrix, max_seconds=1e-9)


# ---------------------------------------------------------------- models


def ei_graph(n=100, **options):
    g = sm.RegionGraph()
    g.add_region("e", 4 * n // 5)
    g.add_region("i", n // 5, sign="neg")
    for s in "ei":
        for t in "ei":
            g.add_projection(s, t, density=0.5, **options)
    return g


def test_radius_per_region():
    net = sm.mRNN(ei_graph(), seed=0, device="cpu", spectral_radius={"e": 0.8, "i": 0.3})
    plain = sm.mRNN(ei_graph(), seed=0, device="cpu")
    assert sm.spectral_radius(net, regions="e") == pytest.approx(0.8, rel=1e-4)
    assert sm.spectral_radius(net, regions="i") == pytest.approx(0.3, rel=1e-4)
    for to, source in (("e", "i"), ("i", "e")):
        assert torch.equal(net.get_projection(to, source), plain.get_projection(to, source))
    for w in (2 * net.effective_W_rec, 2 * net.effective_W_rec.to_dense()):
        again = net.set_spectral_radius(w)
        within = net.get_weight_subset("e", W=again)
        assert net.compute_spectral_radius(within) == pytest.approx(0.8, rel=1e-4)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ({"e": 0.5, "x": 1.0}, UnknownNameError, "unknown region 'x'"),
        ({"cue": 1.0}, UnknownNameError, "unknown region 'cue'"),
        ({"e": 0.0}, SpectralError, "positive"),
        (-1.0, SpectralError, "positive"),
        ({"e": 0.5, "p": 0.5}, SpectralError, "share units"),
        ({"c": 0.5}, SpectralError, "within 'c' have spectral radius 0"),
    ],
)
def test_bad_targets(target, error, message):
    g = sm.RegionGraph()
    g.add_region("e", 5, parent_region="p")
    g.add_region("c", 5)
    g.add_input("cue", 2)
    g.add_projection("e", "e")
    g.add_projection("e", "c")
    with pytest.raises(error, match=message):
        sm.mRNN(g, device="cpu", seed=0, spectral_radius=target)


def test_balance_removes_the_outlier():
    """Rajan & Abbott 2006: with rows that sum to zero, a Dale net has radius g."""
    balanced = sm.spectral_radius(ei_graph(1000, initializer=sm.BalancedEI(1.2)))
    assert balanced == pytest.approx(1.2, rel=0.08)
    assert disc_radius(ei_graph(1000, initializer=sm.BalancedEI(1.2))) == pytest.approx(1.2, rel=0.03)
    loose = ei_graph(1000, initializer=sm.Gamma(0.05))
    assert sm.spectral_radius(loose) > 3 * disc_radius(loose)


def test_disc_of_many_regions():
    """The blocks' variances by hand, by region and sign of the source, in an array."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 40)
    n, region = int(sizes.sum()), np.repeat(np.arange(40), sizes)
    w = np.where(rng.random((n, n)) < 0.3, rng.gamma(2, 1, (n, n)), 0) * rng.choice([-1, 1, 1], n)
    kind = np.unique(np.stack([region, np.sign(w.sum(axis=0))]), axis=1, return_inverse=True)[1].reshape(-1)
    of_kind = [kind == k for k in range(kind.max() + 1)]
    summed = np.array([[w[np.ix_(to, of)].var() * of.sum() for of in of_kind] for to in of_kind])
    expected = np.sqrt(np.abs(np.linalg.eigvals(summed)).max())
    assert disc_radius(w, np.append(0, np.cumsum(sizes))) == pytest.approx(expected, rel=1e-8)
    assert disc_radius(np.zeros((3, 3))) == 0


# ---------------------------------------------------------------- gradient


def test_gradient_of_the_radius():
    w = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 6))).requires_grad_()
    assert torch.autograd.gradcheck(sm.differentiable_spectral_radius, (w,))
    block = sp.block_array([[sparse(5, 0.9, seed=2), None], [np.ones((5, 5)), 0.1 * sparse(5, 0.9, seed=3)]])
    csr = torch.from_numpy(block.toarray()).to_sparse_csr()
    values = csr.values().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: radius_of(csr, v), (values,))


def radius_of(csr, values):
    index = csr.crow_indices(), csr.col_indices()
    w = torch.sparse_csr_tensor(*index, values, csr.shape, check_invariants=True)
    return sm.differentiable_spectral_radius(w)


def test_gradient_of_a_lone_unit():
    lone = torch.tensor([[-3.0, 1.0], [0.0, 1.0]], requires_grad=True)
    sm.differentiable_spectral_radius(lone).backward()
    assert lone.grad.tolist() == [[-1, 0], [0, 0]]


@pytest.mark.parametrize("regions", [None, "e", ["i", "e"]])
def test_gradient_of_a_net_with_parallel_projections(regions):
    g = ei_graph(20)
    g.add_projection("e", "e", key="second")
    net = sm.mRNN(g, seed=0, device="cpu", dtype=torch.float64)
    radius = sm.differentiable_spectral_radius(net, regions=regions)
    radius.backward()
    for k in (0, 50, len(net.rec.values) - 1):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                net.rec.values[k] += step
                values.append(float(sm.differentiable_spectral_radius(net, 1e-9, regions=regions)))
                net.rec.values[k] -= step
        slope = (values[0] - values[1]) / 2e-6
        assert float(net.rec.values.grad[k]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.slow
def test_gradient_through_arnoldi():
    w = sparse(500, 0.05).toarray()
    t = torch.from_numpy(w).to_sparse_csr()
    values = t.values().clone().requires_grad_()
    radius_of(t, values).backward()
    for entry in (0, 1234, 9000):
        row, col = sp.csr_array(w).tocoo().coords
        step = np.zeros_like(w)
        step[row[entry], col[entry]] = 1e-5
        up, down = (np.abs(np.linalg.eigvals(w + s * step)).max() for s in (1, -1))
        assert float(values.grad[entry]) == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_penalty_shrinks_the_radius_of_a_dale_net():
    net = sm.mRNN(ei_graph(), seed=0, device="cpu", spectral_radius=1.5)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        torch.relu(sm.differentiable_spectral_radius(net) - 1).square().backward()
        optimiser.step()
    assert sm.spectral_radius(net) < 1.2
    chain = torch.diag(torch.ones(3), 1).requires_grad_()
    sm.differentiable_spectral_radius(chain).backward()
    assert not chain.grad.any()
    with pytest.raises(SpectralInputError, match="needs a Tensor or a network"):
        sm.differentiable_spectral_radius(np.eye(2))
    with pytest.raises(SpectralInputError, match="regions is empty"):
        sm.differentiable_spectral_radius(net, regions=[])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LR", "SR", "LM"])
@pytest.mark.parametrize("middle", [0.0, -1.0, 0.9])
def test_leading_ten_of_a_disc_away_from_zero(which, middle):
    """As of the Jacobian of a leaky net: powers of such a matrix hardly tell its leading eigenvalues apart."""
    w = sp.csr_array(0.1 * sparse(900, 0.05) + middle * sp.identity(900))
    exact = np.linalg.eigvals(w.toarray())
    score = {"LM": np.abs, "LR": np.real, "SR": lambda v: -v.real}[which]
    result = sm.spectral_search(w, which, 10, max_products=12_000)
    assert score(result.eigenvalues) == pytest.approx(np.sort(score(exact))[::-1][:10], abs=1e-4)


def low_rank_graph():
    graph = sm.RegionGraph()
    graph.add_region("a", 40)
    graph.add_region("b", 30, sign="neg")
    for source in "ab":
        for target in "ab":
            graph.add_projection(source, target, density=0.2)
    graph.add_projection("a", "b", rank=2, sign="free", key="low rank")
    graph.add_projection("b", "b", rank=1, sign="free", key="low rank")
    return graph


@pytest.mark.parametrize("regions", [None, "b"])
def test_low_rank_projections_count(regions):
    graph = low_rank_graph()
    net = sm.mRNN(graph, device="cpu", seed=3).double()
    dense = net.rec.dense().detach()
    dense = dense if regions is None else dense[40:, 40:]
    values = np.linalg.eigvals(dense.numpy())
    for source, rtol in ((net, 1e-7), (graph, 1e-5)):  # a graph's weights are of float32
        options = {"regions": regions, "seed": 3}
        assert sm.spectral_radius(source, **options) == pytest.approx(np.abs(values).max(), rel=rtol)
        assert sm.spectral.spectral_abscissa(source, **options) == pytest.approx(values.real.max(), rel=rtol)
    radius = sm.differentiable_spectral_radius(net, regions=regions)
    assert radius.item() == pytest.approx(np.abs(values).max(), rel=1e-6)
    radius.backward()
    u = net.rec.low_rank.factors(source="b", target="b", key="low rank")[0]
    slope, before = u.grad[0, 0].item(), u[0, 0].item()
    with torch.no_grad():
        found = []
        for step in (1e-5, -1e-5):
            u[0, 0] = before + step
            found.append(sm.spectral_radius(net, regions=regions))
    assert slope == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-3, abs=1e-6)


def test_disc_and_refusals_of_low_rank_projections():
    net = sm.mRNN(low_rank_graph(), device="cpu", seed=3)
    dense = net.rec.dense().detach().double().numpy()
    for source in (net, low_rank_graph()):
        assert sm.spectral.disc_radius(source, seed=3) == pytest.approx(sm.spectral.disc_radius(dense), rel=1e-5)
    with pytest.raises(sm.errors.WeightError, match="low rank"):
        net.gen_w(net.region_dict)
    large = sm.RegionGraph()
    large.add_region("a", 5000, sign=None)
    large.add_projection("a", "a", rank=1)
    for source in (large, sm.mRNN(large, device="cpu", seed=0)):
        with pytest.raises(SpectralInputError, match="multiplied out"):
            sm.spectral.disc_radius(source)
    with pytest.raises(SpectralInputError, match="multiplied out"):
        sm.differentiable_spectral_radius(source)


@pytest.mark.parametrize("which", ["LM", "LR", "SR", "LI"])
@pytest.mark.parametrize("gain", [0.3, 3.0])
def test_low_rank_projections_of_many_units_are_not_multiplied_out(monkeypatch, which, gain):
    graph = sm.RegionGraph()
    graph.add_region("a", 500, sign=None)
    graph.add_region("b", 400, sign=None)
    for source in "ab":
        for target in "ab":
            graph.add_projection(source, target, density=0.05)
    graph.add_projection("a", "a", rank=2, key="low rank")
    graph.add_projection("a", "b", rank=1, key="low rank")
    net = sm.mRNN(graph, device="cpu", seed=0).double()
    with torch.no_grad():
        for factor in net.rec.low_rank.left:
            factor.mul_(gain / net.rec.low_rank.right[0].norm() / net.rec.low_rank.left[0].norm())
        net.rec.low_rank.left[0].add_(gain * net.rec.low_rank.right[0] / net.rec.low_rank.right[0].norm() ** 2)
    exact = sm.spectral.spectral_search(net, which)
    monkeypatch.setattr("sparse_mrnn.spectral.inputs.LOW_RANK_UNITS", 0)
    monkeypatch.setattr("sparse_mrnn.spectral.api.LOW_RANK_UNITS", 0)
    found = sm.spectral.spectral_search(net, which, vectors=True)
    assert found.value == pytest.approx(exact.value, rel=1e-3)
    assert found.upper is None or found.upper >= exact.value * (1 - 1e-6)
    vector = torch.from_numpy(found.vectors[:, 0])
    product = net.rec.dense(force=True).detach().to(vector.dtype) @ vector
    torch.testing.assert_close(product, found.eigenvalues[0] * vector, rtol=1e-3, atol=1e-3 * found.value)


def test_zero_is_an_eigenvalue_of_a_cycle_of_unequal_classes():
    w = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    for which, expected in (("LR", [2**0.5, 0, -(2**0.5)]), ("SR", [-(2**0.5), 0, 2**0.5])):
        values, vectors = sm.leading_eigenpairs(w, 3, which)
        np.testing.assert_allclose(values, expected, atol=1e-12)
        np.testing.assert_allclose(w @ vectors, vectors * values, atol=1e-12)
    assert np.abs(sm.leading_eigenpairs(w, 3)[0]).round(9).tolist() == [1.414213562, 1.414213562, 0]


@pytest.mark.parametrize("which", ["LM", "LR", "SR", "LI"])
@pytest.mark.parametrize("fill", [0.4, 1.0])
def test_many_eigenvalues_of_cyclic_matrices(which, fill):
    score = {"LM": np.abs, "LR": np.real, "SR": lambda v: -v.real, "LI": lambda v: np.abs(v.imag)}[which]
    compared = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 9, rng.integers(2, 6))
        start = np.concatenate([[0], np.cumsum(sizes)])
        w = np.zeros((start[-1], start[-1]))
        for s, t in zip(range(len(sizes)), np.roll(range(len(sizes)), -1), strict=True):
            block = rng.standard_normal((sizes[s], sizes[t])) * (rng.random((sizes[s], sizes[t])) < fill)
            w[start[s] : start[s + 1], start[t] : start[t + 1]] = np.abs(block) if seed % 3 == 0 else block
        exact = np.linalg.eigvals(w)
        k = int(rng.integers(2, min(len(w), 6) + 1))
        try:
            found = sm.leading_eigenpairs(w, k, which, vectors=False)[0]
        except SpectralConvergenceError:  # 0 is defective
            assert seed % 3 or fill < 1
            continue
        expected = np.sort(score(exact))[::-1][:k]
        scale = np.abs(exact).max()
        np.testing.assert_allclose(np.sort(score(found))[::-1], expected, atol=1e-3 * scale + 1e-12)
        compared += 1
    assert compared > 50
