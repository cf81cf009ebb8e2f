"""Matrices whose spectra are hard, each with what makes it so. Shared with benchmarks/spectral.py."""

import json
import os
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.optimize import brentq

import sparse_mrnn as sm
from helpers import ROOT
from sparse_mrnn.data import example_path

SHARED = ROOT.parent / "shared/data/flyvis/fib25-fib19_v2.2.json"
FLYVIS = Path(os.environ.get("FLYVIS_CONNECTOME", SHARED))


def sparse(n, density=0.02, seed=0, positive=False):
    rng = np.random.default_rng(seed)

    def draw(size):
        values = rng.standard_normal(size) / np.sqrt(density * n)
        return np.abs(values) if positive else values

    pattern = np.random.default_rng(seed + 1)
    return sp.random_array((n, n), density=density, random_state=pattern, data_sampler=draw, format="csr")


def dale(n):
    w = sparse(n, 0.05, positive=True)
    return sp.csr_array(w @ sp.diags_array(np.where(np.arange(n) % 5 == 4, -4.0, 1.0)))


def hidden(n):
    """Block triangular: the radius is that of a block of 3, behind couplings a thousand times stronger."""
    small = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -2.0], [2.0, 0.5, 0.0]])
    coupling = 1000 * sp.csr_array(np.ones((n - 3, 3)))
    blocks = [[0.5 * sparse(n - 3, 0.02), coupling], [None, sp.csr_array(small)]]
    return sp.csr_array(sp.block_array(blocks))


def ring(n, value=1.0):
    return sp.csr_array((np.full(n, value), (np.arange(n), np.roll(np.arange(n), 1))), shape=(n, n))


def classes(n, h=10):
    """Imprimitive with signs: h groups that feed each other in a ring, as in a synfire chain that closes."""
    m = n // h
    grid = [[None] * h for _ in range(h)]
    for s in range(h):
        grid[s][(s + 1) % h] = sparse(m, 0.1, seed=s)
    return sp.csr_array(sp.block_array(grid))


def tied(n):
    """Two complex pairs on one component whose moduli differ by 0.1 %, above a bulk."""
    rng = np.random.default_rng(3)
    v = np.linalg.qr(rng.standard_normal((n, 4)))[0]
    core = np.zeros((4, 4))
    for at, (size, angle) in enumerate([(2.0, 0.5), (1.998, 1.1)]):
        c, s = size * np.cos(angle), size * np.sin(angle)
        core[2 * at : 2 * at + 2, 2 * at : 2 * at + 2] = [[c, -s], [s, c]]
    return sp.csr_array(v @ core @ v.T + sparse(n, 0.02).toarray() * 0.5)


def weak_feedback(n):
    """A signed chain that closes through weak synapses, both loops positive: dense LAPACK is wrong on it."""
    sign = np.random.default_rng(4).choice([-1.0, 1.0], n - 1)
    w = sp.lil_array(sp.diags_array(10 * sign, offsets=-1))
    w[0, n - 1], w[0, n // 2] = 1e-30 * sign.prod(), 1e-20 * sign[: n // 2].prod()
    return sp.csr_array(w)


def feedback_radius(n):
    """The root of 10^(n-1) 1e-30 rho^-n + 10^(n/2) 1e-20 rho^-(n/2+1) = 1: the sum over both loops."""

    def excess(log_rho):
        loops = (n - 1 - 30 - n * log_rho, n // 2 - 20 - (n // 2 + 1) * log_rho)
        return np.logaddexp(*(np.log(10) * loop for loop in loops))

    return 10 ** brentq(excess, 0.8, 1.0, xtol=1e-13)


def unequal_cycle(n):
    return sp.csr_array(ring(n) @ sp.diags_array(np.random.default_rng(6).uniform(0.1, 3, n)))


def celegans():
    net = sm.mRNN(sm.read_config(example_path("celegans")), device="cpu", seed=0)
    return sp.csr_array(sm.ops.pattern.to_scipy(net.effective_W_rec)).astype(np.float64)


def flyvis():
    """Types of the fly's visual system: summed synapse counts over offsets, signed."""
    data = json.loads(FLYVIS.read_text())
    number = {node["name"]: i for i, node in enumerate(data["nodes"])}
    w = np.zeros((len(number), len(number)))
    for edge in data["edges"]:
        count = sum(count for _, count in edge["offsets"])
        w[number[edge["tar"]], number[edge["src"]]] += edge["alpha"] * count
    return w


def symmetric(n):
    w = sparse(n)
    return sp.csr_array(w + w.T)


def skew(n):
    w = sparse(n)
    return sp.csr_array(w - w.T)


def rank_one(n):
    rng = np.random.default_rng(5)
    return sp.csr_array(np.outer(rng.standard_normal(n), rng.standard_normal(n) + 0.2))


FAMILIES = {
    "i.i.d., clustered edge": lambda n: sparse(n),
    "Dale, 80 % excitatory": dale,
    "non-negative": lambda n: sparse(n, positive=True),
    "non-positive": lambda n: -sparse(n, positive=True),
    "symmetric": symmetric,
    "skew-symmetric": skew,
    "cycle": lambda n: ring(n, 1.5),
    "cycle, unequal weights": unequal_cycle,
    "signed cyclic classes": classes,
    "ring lattice": lambda n: sp.csr_array(
        ring(n) @ sp.diags_array(1 + 0.3 * np.sin(np.arange(n))) + ring(n).T
    ),
    "block-triangular, radius in 3 units": hidden,
    "chain of norm 1e6": lambda n: sp.csr_array(sp.diags_array(np.full(n - 1, 1e6), offsets=1)),
    "signed chain, weak feedback": weak_feedback,
    "rank one": rank_one,
    "disconnected": lambda n: sp.csr_array(
        sp.block_diag([sparse(n // 2, seed=1), 1.2 * sparse(n - n // 2, seed=2)])
    ),
    "all zero": lambda n: sp.csr_array((n, n), dtype=float),
    "complex pairs nearly tied": tied,
    "1 x 1": lambda n: np.array([[-3.0]]),
    "C. elegans": lambda n: celegans(),
    "flyvis": lambda n: flyvis(),
}

CLOSED_FORMS = {
    "cycle, unequal weights": lambda n: float(np.exp(np.log(unequal_cycle(n).data).mean())),
    "signed chain, weak feedback": feedback_radius,
}
"""Radii where dense LAPACK itself is off by more than 1e-4 for large n."""


def exact_radius(family, n, eigenvalues):
    """The closed form where there is one, else the largest of the dense eigenvalues."""
    return CLOSED_FORMS[family](n) if family in CLOSED_FORMS else float(np.abs(eigenvalues).max())
