"""Fixtures of every test and of every example of a docstring."""

import importlib.util
import sys

import pytest

# Files of which nothing can be imported without an optional package
collect_ignore = [] if importlib.util.find_spec("triton") else ["sparse_mrnn/ops/triton_kernels.py"]


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures of a test: pyplot warns once 20 are open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
