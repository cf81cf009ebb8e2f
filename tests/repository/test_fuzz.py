"""A short run of the fuzzer; ``make fuzz`` makes a long one."""

from collections import Counter

import pytest

from fuzz.registry import in_turn
from fuzz.runner import GOOD, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 8])
def test_no_mutated_file_is_read_wrong_or_raises_what_it_should_not(rounds):
    turn = in_turn()
    report = fuzz(11, rounds * len(turn), children=1)
    assert not report.faults
    assert sum(report.total().values()) == rounds * len(turn)
    assert report.total()["read"] > 0 < report.total()["refused"]
    assert report.counts.keys() == set(turn)


@pytest.mark.slow
def test_each_way_to_end_badly_is_counted(monkeypatch):
    """The children are killed by what would kill a user's process, and the run goes on."""
    monkeypatch.setattr("fuzz.runner.SECONDS", 6)
    report = fuzz(0, 7, names=["faults"], children=1)
    outcomes = Counter(fault["outcome"] for fault in report.faults)
    assert outcomes == {"raw": 1, "died": 1, "hung": 1, "memory": 1, "silent": 2}
    assert report.total()["refused"] == 1
    assert not set(outcomes) & set(GOOD)
