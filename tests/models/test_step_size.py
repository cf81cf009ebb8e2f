"""Time steps: what is refused, what is warned of, and the exponential integrator."""

import math

import pytest

import sparse_mrnn as sm
from sparse_mrnn.errors import ConfigError, StepSizeWarning


def graph():
    g = sm.RegionGraph()
    g.add_region("slow", 2)
    g.add_region("fast", 2, tau=20)
    g.add_projection("slow", "fast")
    return g


def test_steps_that_are_too_long():
    with pytest.raises(ConfigError, match=r"region 'fast': dt = 50 ms is above 2 tau = 40 ms.*exponential_euler"):
        sm.mRNN(graph(), dt=50, device="cpu")
    with pytest.warns(StepSizeWarning, match=r"'fast'.*dt = 30 ms is above tau = 20 ms"):
        sm.mRNN(graph(), dt=30, device="cpu")
    sm.mRNN(graph(), dt=20, device="cpu")


def test_exponential_euler():
    net = sm.mRNN(graph(), dt=50, integrator="exponential_euler", device="cpu")
    assert net.alpha[[0, -1], 0].tolist() == pytest.approx([-math.expm1(-0.5), -math.expm1(-2.5)])
    assert net.inp_noise_const == pytest.approx(math.sqrt(2 / -math.expm1(-0.5)) * 0.01)
    with pytest.raises(ConfigError, match="Did you mean 'euler'"):
        sm.mRNN(graph(), integrator="eulr", device="cpu")


def test_elman_dt():
    assert sm.ElmanmRNN(graph(), device="cpu", dt=5).dt == 5
    with pytest.raises(ConfigError, match="dt is 0"):
        sm.ElmanmRNN(graph(), device="cpu", dt=0)
