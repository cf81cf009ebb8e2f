"""Numbered words are those of Philox4x32-10, and counts have their distributions."""

import numpy as np
import pytest
from scipy import stats

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.philox import Levels, words

KNOWN = {  # Random123's kat_vectors: counter and key of equal words, and the four words
    0: (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    0xFFFFFFFF: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
}


def test_known_answers():
    zero = words(np.arange(4), 0, 0, np.zeros(2, np.uint32))
    assert tuple(zero.tolist()) == KNOWN[0]
    ones = np.full(2, 0xFFFFFFFF, np.uint32)
    unit = 4 * 0xFFFFFFFF + np.arange(4)
    assert tuple(words(unit, 2**64 - 1, 0xFFFFFFFF, ones).tolist()) == KNOWN[0xFFFFFFFF]


def test_a_word_depends_on_its_numbers_alone():
    key = np.array([5, 9], np.uint32)
    whole = words(np.arange(40)[:, None], 7, np.arange(3)[None], key)
    for unit, trial in ((0, 0), (13, 2), (39, 1)):
        assert words(unit, 7, trial, key) == whole[unit, trial]
    assert len(np.unique(whole)) == whole.size


def test_compiled_words_are_the_same():
    compiled = kernels.load("lif")
    if compiled is None:
        pytest.skip("without numba")
    key, found = np.array([5, 9], np.uint32), np.empty(16, np.uint32)
    compiled.words_of(8, 12345678901, 3, key, found)
    np.testing.assert_array_equal(found, words(np.arange(8, 24), 12345678901, 3, key))
    levels, units = Levels.poisson(0.7), np.array([0, 3, 4, 5, 17])
    counts = np.empty((5, 3))
    compiled.count_events(units, 6, key, levels.levels, levels.least, counts)
    np.testing.assert_array_equal(counts, levels.counts(words(units[:, None], 6, np.arange(3)[None], key)))


@pytest.mark.parametrize("mean", [0.0, 1e-4, 0.015, 1.6, 40.0])
def test_poisson_counts(mean):
    levels = Levels.poisson(mean)
    edges = np.concatenate([[0], levels.levels.astype(float), [2.0**32]]) / 2**32
    expected = stats.poisson.pmf(levels.least + np.arange(len(edges) - 1), mean)
    np.testing.assert_allclose(np.diff(edges), expected, atol=2**-32)
    drawn = levels.counts(words(np.arange(50_000), 3, 0, np.array([1, 2], np.uint32)))
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 50_000) + 1e-12)


def test_normal_counts_are_rounded_and_at_least_one():
    drawn = Levels.normal(2.0, 1.5).counts(words(np.arange(50_000), 0, 0, np.array([3, 4], np.uint32)))
    normal = np.rint(np.random.default_rng(0).normal(2.0, 1.5, 10**6))
    normal = normal[normal >= 1]
    assert drawn.min() == 1
    for k in range(1, 7):
        assert np.mean(drawn == k) == pytest.approx(np.mean(normal == k), abs=0.01)
