"""Fixtures of every test and of every example of a docstring."""

import sys

import pytest


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures of a test: pyplot warns once 20 are open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
