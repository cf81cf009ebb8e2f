"""A network on several processes has the values and gradients of one process."""

import pytest
from distributed_cases import on_ranks, random_cases

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("size", [2, 4])
def test_random_networks(size, tmp_path):
    on_ranks(size, tmp_path, random_cases, range(12))
