"""Shared networks."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch and numba: idle threads of one process leave the cores to others

import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import small

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


