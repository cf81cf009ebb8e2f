"""Delays drawn for each synapse: their distribution, forward over dense matrices, and saved networks."""

import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.models.delays import synaptic_delays


def network():
    g = sm.RegionGraph()
    g.add_region("a", 40, sign=None)
    g.add_projection("a", "a", density=0.5, delay=30.0, delay_std=15.0)
    g.add_projection("a", "a", density=0.5, delay=20.0, key="even")
    return sm.mRNN(g, "tanh", device="cpu", seed=0, dtype=torch.float64)


def drawn(net):
    rec = net.rec
    block, row, col = (t.numpy() for t in (rec.projection_of_entry(), rec.pattern.row, rec.col))
    return block, row, col, synaptic_delays(rec, net.dt).steps(block, row, col)


def test_forward_is_that_of_dense_matrices():
    net = network()
    block, row, col, late = drawn(net)
    of_drawn = late[[net.rec.projections[k][2] == "default" for k in block]]
    assert of_drawn.min() >= 1
    assert abs(of_drawn.mean() - 3.1) < 0.2  # normal, rounded, at least one step
    assert len(set(of_drawn.tolist())) > 4
    matrices = torch.zeros(late.max() + 1, 40, 40, dtype=torch.float64)
    matrices.index_put_(tuple(map(torch.from_numpy, (late, row, col))), net.rec.csr_values().detach(), accumulate=True)
    x0 = torch.randn(1, 40, dtype=torch.float64)
    x, past, alpha = x0[0], [torch.tanh(x0[0])] * len(matrices), net.dt / net.tau
    found, _ = net(torch.zeros(1, 12, 0, dtype=torch.float64), x0)
    for t in range(12):
        current = sum(matrices[d] @ past[-d] for d in range(1, len(matrices)))
        x = x + alpha * (current - x)
        past.append(torch.tanh(x))
        torch.testing.assert_close(found[0, t], x, rtol=1e-12, atol=1e-12)


def test_a_saved_network_has_the_same_delays(tmp_path):
    net = network()
    net.save(tmp_path / "net.safetensors")
    loaded = sm.load(tmp_path / "net.safetensors", device="cpu")
    np.testing.assert_array_equal(drawn(net)[3], drawn(loaded)[3])
