"""Shared networks."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch and numba: idle threads of one process leave the cores to others

import pytest
import torch

import sparse_mrnn as sm

torch.set_num_threads(1)  # tests run in several processes


def pytest_collection_modifyitems(items):
    """Tests of a GPU are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def net():
    """Three regions (two under one parent, not neighbours), two inputs, leaky, finalised."""
    return small(sm.mRNN)


@pytest.fixture
def elman():
    return small(sm.ElmanmRNN)


def small(model, **options):
    net = model(device="cpu", seed=0, **options)
    net.add_recurrent_region("ctx", 4, base_firing=1.0, parent_region="brain")
    net.add_recurrent_region("spine", 2, sign="neg", init=0.5, learnable_bias=True)
    net.add_recurrent_region("thal", 3, parent_region="brain", init=-0.2)
    net.add_input_region("cue", 2)
    net.add_input_region("go", 1, sign="neg")
    for src, dst in [("ctx", "ctx"), ("ctx", "spine"), ("spine", "thal"), ("thal", "ctx")]:
        net.add_recurrent_connection(src, dst, sparsity=0.8)
    net.add_input_connection("cue", "ctx")
    net.add_input_connection("go", "thal")
    net.finalize_connectivity()
    return net
