"""The column's numbers, from the published tables."""

import numpy as np
import pytest

from sparse_mrnn.errors import ConfigError
from sparse_mrnn.presets import potjans_diesmann_2014
from sparse_mrnn.presets.potjans_diesmann import EXTERNAL, POPULATIONS, SIZES


def mean_input(graph, rates):
    """Mean of g of every population at these rates, mV: from synapses, background and constant drive."""
    found = {}
    for region in graph.regions():
        found[region.name] = region.base_firing + region.background_rate * region.background_weight * 0.0005
    for p in graph.projections():
        weight = p.initializer.mean * (1 if p.source[-1] == "E" else -1)
        found[p.target] += weight * p.rule.number / graph.region(p.target).n * rates[p.source] * 0.0005
    return found


def test_numbers_of_the_full_model():
    # Built at a scale whose numbers of synapses are those of the full model times its square.
    net = potjans_diesmann_2014(0.1, device="cpu")
    assert [r.n for r in net.graph.regions()] == [round(n / 10) for n in SIZES]
    assert sum(p.rule.number for p in net.graph.projections()) == pytest.approx(2.9888e6, rel=1e-3)
    by_name = {(p.source, p.target): p for p in net.graph.projections()}
    root = np.sqrt(0.1)
    assert by_name["L23E", "L23E"].initializer.mean * root == pytest.approx(87.8 * 0.04)
    assert by_name["L4E", "L23E"].initializer.mean == pytest.approx(2 * by_name["L23E", "L4E"].initializer.mean)
    assert by_name["L6I", "L6E"].initializer.mean * root == pytest.approx(4 * 87.8 * 0.04)
    assert (by_name["L5I", "L5E"].delay, by_name["L5E", "L5I"].delay_std) == (0.75, 0.75)
    assert ("L5I", "L23E") not in by_name


@pytest.mark.parametrize("drive", ["poisson", "dc"])
def test_the_mean_input_does_not_depend_on_the_scale(drive):
    from sparse_mrnn.presets import potjans_diesmann

    own = potjans_diesmann.RATES if drive == "dc" else potjans_diesmann.RATES_POISSON
    rates = dict(zip(POPULATIONS, own, strict=True))
    small, large = (mean_input(potjans_diesmann_2014(s, drive=drive, device="cpu").graph, rates) for s in (0.02, 0.1))
    for name in POPULATIONS:
        assert small[name] == pytest.approx(large[name], rel=0.02, abs=0.1)
    external = dict(zip(POPULATIONS, 8.0 * EXTERNAL * 3.512 * 0.0005, strict=True))
    assert all(large[name] < external[name] for name in POPULATIONS)  # inhibition prevails


def test_scales_that_are_no_fractions_are_refused():
    for scale, message in ((0.0, "above 0"), (1.5, "at most 1"), (1e-5, "without units")):
        with pytest.raises(ConfigError, match=message):
            potjans_diesmann_2014(scale)
    with pytest.raises(ConfigError, match="drive"):
        potjans_diesmann_2014(0.1, drive="gauss")
