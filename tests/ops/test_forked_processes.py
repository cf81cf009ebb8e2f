"""Networks run in processes forked after a run: workers of a DataLoader, a Pool. Threads do not survive a fork."""

import subprocess
import sys

import pytest

pytest.importorskip("numba")
CODE = """
import multiprocessing, sys, warnings
import torch, sparse_mrnn as sm

warnings.simplefilter("ignore")
torch.set_num_threads(2)
units, how = int(sys.argv[1]), sys.argv[2]
g = sm.RegionGraph()
g.add_region("a", units)
g.add_projection("a", "a", fan_in=20)
net = sm.mRNN(g, activation="tanh", spectral_radius=2.0, seed=0, device="cpu")

def gradient(k):
    net.zero_grad()
    net(torch.zeros(8, 20, 0), 0.1 * (k + 1) * torch.ones(8, units))[1].square().mean().backward()
    return float(net.rec.values.grad.norm())

class Gradients(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return gradient(k)

here = [gradient(k) for k in range(4)]
if how == "pool":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map_async(gradient, range(4)).get(timeout=60)
else:
    there = [float(v) for v in torch.utils.data.DataLoader(Gradients(), num_workers=2, multiprocessing_context="fork")]
assert max(abs(a - b) / a for a, b in zip(here, there)) < 1e-4, (here, there)
assert gradient(0) == here[0]
print("same")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the threads of GNU's OpenMP")
@pytest.mark.parametrize(("units", "how"), [(40, "pool"), pytest.param(3000, "pool", marks=pytest.mark.slow), pytest.param(3000, "loader", marks=pytest.mark.slow)])
def test_gradients_in_a_forked_process(units, how):
    command = [sys.executable, "-c", CODE, str(units), how]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "same\n", run.stderr
