"""Connection rules: exact where the name says exact, no repeats, the right distribution."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import sparse_mrnn as sm
from sparse_mrnn.declaration.connectivity import RegionPair, sample_distinct, sample_many
from sparse_mrnn.errors import ConnectivityError
from sparse_mrnn.lowering.lower import lower

sizes = st.integers(1, 12)


def draw(rule, pair, seed=0):
    rows, cols = rule.sample(np.random.default_rng(seed), pair)
    pairs = list(zip(rows.tolist(), cols.tolist(), strict=True))
    assert pairs == sorted(set(pairs)), "sorted by row and column, no repeats"
    assert all(0 <= i < pair.n_target and 0 <= j < pair.n_source for i, j in pairs)
    if pair.exclude_self:
        assert all(i != j for i, j in pairs)
    return rows, cols


@given(sizes, sizes, st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_exact_rules(n, m, square, data):
    exclude = square and data.draw(st.booleans())
    pair = RegionPair("p", n, n if square else m, exclude)
    k = data.draw(st.integers(0, pair.columns))
    rows, _ = draw(sm.FixedFanIn(k), pair)
    assert np.bincount(rows, minlength=n).tolist() == [k] * n
    out = data.draw(st.integers(0, n - exclude))
    _, cols = draw(sm.FixedFanOut(out), pair)
    assert np.bincount(cols, minlength=pair.n_source).tolist() == [out] * pair.n_source
    number = data.draw(st.integers(0, n * pair.columns))
    assert len(draw(sm.FixedNumber(number), pair)[0]) == number
    assert len(draw(sm.AllToAll(), pair)[0]) == n * pair.columns
    if square and not exclude:
        rows, cols = draw(sm.OneToOne(), pair)
        assert rows.tolist() == cols.tolist() == list(range(n))
    for rule in (sm.FixedFanIn(k), sm.FixedFanOut(out), sm.FixedNumber(number), sm.AllToAll()):
        assert rule.expected(pair) == len(rule.sample(np.random.default_rng(1), pair)[0])


def test_bernoulli_count_and_uniformity():
    pair = RegionPair("p", 6, 5)
    counts = np.zeros((6, 5))
    for seed in range(2000):
        rows, cols = draw(sm.Bernoulli(0.3), pair, seed)
        counts[rows, cols] += 1
    assert counts.mean() / 2000 == pytest.approx(0.3, abs=0.01)
    assert chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 3, 5])
def test_sample_distinct_is_uniform_over_subsets(count):
    rng = np.random.default_rng(0)
    drawn = sample_distinct(rng, np.full(20_000, count), np.full(20_000, 6)).reshape(-1, count)
    code = (1 << drawn).sum(axis=1)
    assert chisquare(np.unique(code, return_counts=True)[1]).pvalue > 1e-3
    assert len(np.unique(code)) == {1: 6, 3: 20, 5: 6}[count]


def test_distance_rule_follows_its_profile_and_cutoff():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(300, 2)), rng.uniform(size=(400, 2))
    pair = RegionPair("p", 300, 400, False, a, b)
    rule = sm.DistanceDependent(scale=0.1, probability=0.8, cutoff=0.25)
    rows, cols = draw(rule, pair)
    d = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert d[rows, cols].max() <= 0.25
    p = np.where(d <= 0.25, 0.8 * np.exp(-0.5 * (d / 0.1) ** 2), 0)
    assert rule.expected(pair) == pytest.approx(p.sum())
    assert len(rows) == pytest.approx(p.sum(), rel=0.05)
    loop = RegionPair("p", 300, 300, True, a, a)
    draw(sm.DistanceDependent(0.1, profile="exponential"), loop)


def test_explicit_rule():
    pair = RegionPair("p", 3, 3)
    rows, cols = draw(sm.Explicit((2, 0), (1, 1)), pair)
    assert rows.tolist() == [0, 2]
    assert cols.tolist() == [1, 1]
    with pytest.raises(ConnectivityError, match="twice"):
        sm.Explicit((0, 0), (1, 1))
    with pytest.raises(ConnectivityError, match=r"outside 0\.\.2"):
        sm.Explicit((3,), (0,)).check(pair)
    with pytest.raises(ConnectivityError, match="2 rows but 1 cols"):
        sm.Explicit((3, 1), (0,))
    for rows in ((0.5,), (True,), ("0",), ((0, 1),), (None,)):
        with pytest.raises(ConnectivityError, match="rows are .* must be whole numbers"):
            sm.Explicit(rows, (0,))
    assert sm.Explicit(np.array([2, 0], dtype=np.uint8), [1, 1]) == sm.Explicit((2, 0), (1, 1))
    assert sm.Explicit((), ()).rows == ()


@pytest.mark.parametrize(
    "settings_", [{"scale": 0}, {"scale": 1, "probability": 2}, {"scale": 1, "cutoff": -1}, {"scale": 1, "profile": "box"}]
)
def test_distance_rule_refuses(settings_):
    with pytest.raises(ConnectivityError, match=list(settings_)[-1]):
        sm.DistanceDependent(**settings_)


def test_a_batch_of_rules_keeps_the_order_of_projections():
    pairs = [RegionPair(f"p{k}", 4, 3) for k in range(4)]
    rules = [sm.AllToAll(), sm.FixedFanIn(1), sm.AllToAll(), sm.FixedFanIn(2)]
    lengths, rows, _ = sample_many(np.random.default_rng(0), rules, pairs)
    assert lengths.tolist() == [12, 4, 12, 8]
    assert rows[12:16].tolist() == [0, 1, 2, 3]


def test_sampling_is_reproducible():
    pair = RegionPair("p", 50, 50)
    assert np.array_equal(draw(sm.Bernoulli(0.1), pair, 3)[1], draw(sm.Bernoulli(0.1), pair, 3)[1])
    assert not np.array_equal(draw(sm.FixedFanIn(5), pair, 3)[1], draw(sm.FixedFanIn(5), pair, 4)[1])


def test_numbers_of_rules():
    for make, bad in (
        (sm.FixedNumber, 2.5), (sm.FixedNumber, -1), (sm.FixedFanIn, 2.7), (sm.FixedFanIn, True),
        (sm.FixedFanOut, "3"), (sm.FixedFanOut, None),
    ):  # fmt: skip
        with pytest.raises(ConnectivityError, match=f"is {bad!r}; it must be a whole number of at least 0"):
            make(bad)
    for make, bad in ((sm.Bernoulli, True), (sm.Bernoulli, "0.5"), (sm.DistanceDependent, None), (sm.DistanceDependent, np.inf)):
        with pytest.raises(ConnectivityError, match=f"is {bad!r}; it must be a finite number"):
            make(bad)
    for options, message in (({"cutoff": 0}, "cutoff is 0; .*positive"), ({"probability": 1.5}, "probability is 1.5; .*0 and 1")):
        with pytest.raises(ConnectivityError, match=message):
            sm.DistanceDependent(1, **options)
    rules = sm.FixedFanIn(np.int64(3)), sm.Bernoulli(np.float32(0.5)), sm.DistanceDependent(np.float32(2), cutoff=np.int8(4))
    assert [type(value) for rule in rules for value in vars(rule).values()] == [int, float, float, float, float, str]
    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_projection("a", "a", density=np.float32(0.5))
    g.add_projection("a", "a", fan_in=np.int64(2), key="exact")
    assert json.dumps([attrs.get("density", attrs.get("fan_in")) for _, _, attrs in g.edges(data=True)]) == "[0.5, 2]"


def test_a_rule_of_ones_own():
    class Diagonal(sm.ConnectionRule):
        def expected(self, pair):
            return min(pair.n_target, pair.n_source)

        def sample(self, rng, pair):
            k = np.arange(min(pair.n_target, pair.n_source))
            return k, k

    g = sm.RegionGraph()
    g.add_region("a", 3)
    g.add_projection("a", "a", rule=Diagonal())
    assert lower(g).col.tolist() == [0, 1, 2]
    with pytest.raises(sm.errors.ConfigError, match="class of your own"):
        sm.to_config(g)
