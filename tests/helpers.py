"""What several tests use."""

import pytest

from sparse_mrnn.errors import ConnectomeError


def values_of(weights, name):
    """A projection's values, by its (source, target, key)."""
    source, target, key = name
    return weights.projection_values(source=source, target=target, key=key)


def refused(message):
    """An import is refused with a message that matches a regular expression."""
    return pytest.raises(ConnectomeError, match=message)
