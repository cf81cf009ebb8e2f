"""No N x N array on the sparse path: 200,000 units in limited memory, where one would take 160 GB."""

import textwrap

import pytest

from helpers.children import Child

LIMIT_GB = 3

SCRIPT = """
import torch
import resource
limit = {limit} * 2**30
import sparse_mrnn as sm
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))

g = sm.RegionGraph()
g.add_region("a", 150_000)
g.add_region("b", 50_000, sign="neg", learnable_bias=True)
g.add_input("i", 10)
for s in "ab":
    for t in "ab":
        g.add_projection(s, t, fan_in=3, self_connections=s != t)
g.add_projection("i", "a", density=0.1)
net = sm.mRNN(g, device="cpu", seed=0, spectral_radius={radius})
x0, _ = net.batched_initial_condition(2)
x, h = net(torch.ones(2, 3, 10), x0, noise=True)
h.sum().backward()
assert net.rec.values.grad.abs().sum() > 0
net.W_rec, net.W_rec_mask, net.W_rec_sign_matrix, net.apply_dales_law(net.W_rec, net.W_rec_mask, net.W_rec_sign_matrix)
net.gen_w(net.region_dict), net.get_weight_subset("b", sparse=True), net.memory_estimate(2, 3, True)
try:
    torch.empty(200_000, 200_000)
except RuntimeError:
    print("done")
"""


def run(radius):
    script = textwrap.dedent(SCRIPT.format(limit=LIMIT_GB, radius=radius))
    assert Child(script).rest() == "done\n"


def test_no_square_array_is_possible():
    run(None)


@pytest.mark.slow
def test_nor_for_the_spectral_radius():
    run(1.2)
