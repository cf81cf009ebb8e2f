"""What several tests use."""

from pathlib import Path

import pytest
import torch

from sparse_mrnn.errors import ConnectomeError


def values_of(weights, name):
    """A projection's values, by its (source, target, key)."""
    source, target, key = name
    return weights.projection_values(source=source, target=target, key=key)


def refused(message):
    """An import is refused with a message that matches a regular expression."""
    return pytest.raises(ConnectomeError, match=message)


needs_tracing = pytest.mark.skipif(torch.__version__.startswith("2.7."), reason="torch 2.7 cannot trace a network")


def resident(what, *, forget_peak=False):
    """Bytes of resident memory now ("VmRSS"), or its peak ("VmHWM"); getrusage's begins at the peak of the parent."""
    if forget_peak:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0]) << 10
