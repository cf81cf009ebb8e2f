"""Lowering and initial values."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import UnknownNameError, WeightError
from sparse_mrnn.lowering.lower import lower


def chain(n_regions=4, n=5, **projection):
    g = sm.RegionGraph()
    for k in range(n_regions):
        g.add_region(f"r{k}", n, sign="pos" if k % 2 else "neg")
    for k in range(n_regions):
        for j in (j for j in (3, 0, 2, 1) if j < n_regions):
            g.add_projection(f"r{k}", f"r{j}", **projection)
    return g


def test_projections_are_contiguous_views_of_one_parameter():
    net = sm.mRNN(chain(density=0.5), device="cpu", seed=0)
    assert [name for name, _ in net.named_parameters()] == ["rec.values", "inp.values"]
    view = net.rec.projection_values(source="r1", target="r2")
    assert view.data_ptr() >= net.rec.values.data_ptr()
    with torch.no_grad():
        net.rec.values.fill_(1.0)
        view.fill_(5.0)
    block = net.get_projection("r2", "r1")
    assert set(block.flatten().tolist()) == {0.0, 5.0}
    assert not set(net.get_projection("r1", "r1").flatten().tolist()) & {5.0, -5.0}
    with pytest.raises(UnknownNameError, match="no projection 'r1' -> 'x'"):
        net.rec.projection_values(source="r1", target="x")


def test_pattern_is_int32_sorted_and_row_major_within_a_projection():
    block = lower(chain(density=0.7), seed=1)
    assert block.crow.dtype == block.col.dtype == np.int32
    for row in range(block.shape[0]):
        assert (np.diff(block.col[block.crow[row] : block.crow[row + 1]]) > 0).all()
    assert block.perm is not None
    assert sorted(block.perm) == list(range(len(block.values)))


def test_identity_permutation_is_not_stored():
    g = sm.RegionGraph()
    g.add_region("a", 6)
    g.add_projection("a", "a", density=0.5)
    assert lower(g, seed=0).perm is None


def test_one_seed_makes_the_network_in_either_precision():
    a, b = (sm.mRNN(chain(density=0.5), device="cpu", seed=7, dtype=t) for t in (torch.float32, torch.float64))
    assert torch.equal(a.rec.values, b.rec.values.float())
    c = sm.mRNN(chain(density=0.5), device="cpu", seed=8)
    assert a.rec.values.shape != c.rec.values.shape or not torch.equal(a.rec.values, c.rec.values)
    torch.manual_seed(5)
    d = sm.mRNN(chain(density=0.5), device="cpu")
    torch.manual_seed(5)
    assert torch.equal(d.rec.values, sm.mRNN(chain(density=0.5), device="cpu").rec.values)


def test_many_small_projections_lower_together():
    g = chain(4, 5)
    big = sm.RegionGraph()
    for k in range(100):
        big.add_region(f"r{k}", 2)
    for k in range(100):
        for j in range(100):
            big.add_projection(f"r{k}", f"r{j}", density=0.5)
    block = lower(big, seed=0)
    assert len(block.blocks) == 10_000
    assert len(block.values) == pytest.approx(20_000, rel=0.05)
    assert len(lower(g).values) == 400


def test_state_dict_carries_the_pattern_to_a_net_of_another_seed():
    a, b = (sm.mRNN(chain(density=0.5), device="cpu", seed=s) for s in (1, 2))
    parameter = b.rec.values
    b.load_state_dict(a.state_dict())
    assert b.rec.values is parameter
    inp, x0 = torch.zeros(1, 3, 0), torch.ones(1, 20)
    torch.testing.assert_close(a(inp, x0), b(inp, x0))
    b(inp, x0)[1].sum().backward()
    other = sm.mRNN(chain(3, density=0.5), device="cpu")
    with pytest.raises(RuntimeError, match="order of regions: .* then"):
        other.load_state_dict(a.state_dict())


def test_moving_dtype():
    net = sm.mRNN(chain(density=0.5), device="cpu", seed=1).double()
    x, _ = net(torch.zeros(1, 3, 0, dtype=torch.float64), torch.ones(1, 20, dtype=torch.float64))
    assert x.dtype == net.dtype == torch.float64


def values(init, *, signs=("pos",), n=60, rec_constrained=True, **projection):
    g = sm.RegionGraph()
    for k, sign in enumerate(signs):
        g.add_region(f"r{k}", n, sign=sign)
    for k in range(len(signs)):
        for j in range(len(signs)):
            g.add_projection(f"r{k}", f"r{j}", initializer=init, **projection)
    return lower(g, seed=0, constrained=rec_constrained)


def test_default_initialisation_is_the_seeds():
    v = values(None).values
    top = np.sqrt(1 / 120)
    assert v.min() >= 0
    assert 0.98 * top < v.max() <= top
    free = values(None, signs=(None,)).values
    assert free.std() == pytest.approx(np.sqrt(2 / 120), rel=0.05)
    assert values(None, rec_constrained=False).values.std() == pytest.approx(np.sqrt(2 / 120), rel=0.05)
    g = sm.RegionGraph()
    g.add_region("a", 30)
    g.add_input("i", 10)
    g.add_projection("i", "a")
    v = lower(g, "input", seed=0).values
    assert 0.95 * np.sqrt(1 / 40) < v.max() <= np.sqrt(1 / 40)


def test_the_fields_initialisers():
    assert values(sm.Normal(1.5), fan_in=20).values.std() == pytest.approx(1.5 / np.sqrt(20), rel=0.05)
    assert values(sm.LogNormal(0.2, 0.5)).values.mean() == pytest.approx(0.2, rel=0.05)
    assert values(sm.Gamma(0.3, 2.0)).values.mean() == pytest.approx(0.3, rel=0.05)
    assert set(values(sm.Constant(0.25)).values) == {0.25}
    v = values(sm.Uniform(1, 3)).values
    assert 1 <= v.min() < 1.1 < 2.9 < v.max() <= 3
    assert values(sm.XavierNormal(2.0)).values.std() == pytest.approx(2 * np.sqrt(2 / 120), rel=0.05)


def test_balanced_weights_sum_to_zero_at_every_unit():
    net_graph = sm.RegionGraph()
    for name, n, sign in (("e", 80, "pos"), ("i", 20, "neg")):
        net_graph.add_region(name, n, sign=sign)
    for s in "ei":
        for t in "ei":
            net_graph.add_projection(s, t, density=0.5, initializer=sm.BalancedEI(1.0))
    w = sm.mRNN(net_graph, device="cpu", seed=0).effective_W_rec.detach().to_dense()
    torch.testing.assert_close(w.sum(1), torch.zeros(100), atol=1e-5, rtol=0)
    assert (w[:, :80] >= 0).all()
    assert (w[:, 80:] <= 0).all()


@pytest.mark.parametrize("make", [lambda: sm.Gamma(mean=-1), lambda: sm.LogNormal(sigma=0), lambda: sm.Uniform(2, 1)])
def test_initialisers_refuse(make):
    with pytest.raises(WeightError):
        make()
