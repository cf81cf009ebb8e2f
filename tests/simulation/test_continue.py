"""A run that starts where another one has ended: with delays, inputs and interventions under way."""

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from helpers.networks import small, under_way
from sparse_mrnn.errors import ConfigError, RecordingError, ResumeError, ShapeError

ALL = sm.Record(variables=["h", "x"])


def run(net, steps, **options):
    return sm.simulate(net, steps=steps, record=ALL, progress=False, **options)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize("first", [1, 3, 12])
def test_two_runs_are_one(model, first):
    net = under_way(model)
    stimulus = [sm.Stimulus("i", 0.7), sm.Stimulus("j", 0.4), sm.Stimulus("b", 0.3)]
    whole, end = run(net, 25, stimulus=stimulus, return_state=True)
    one, state = run(net, first, stimulus=stimulus, return_state=True)
    two, found = run(net, 25 - first, stimulus=stimulus, x0=state, return_state=True)
    for name in ("h", "x"):
        joined = np.concatenate([one[name], two[name]], axis=1)
        np.testing.assert_allclose(joined, whole[name], rtol=1e-13, atol=1e-14)
    for name, tensor in found.tensors().items():
        torch.testing.assert_close(tensor, end.tensors()[name], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_forward_and_simulate_go_on_from_each_other(model):
    net = under_way(model)
    u = torch.zeros(2, 20, 3, dtype=torch.float64)
    u[:, :6] = torch.tensor([0.7, 0.7, 0.4], dtype=torch.float64)
    whole = net(u, return_state=True)[-2]
    _, state = run(net, 6, batch=2, stimulus=[sm.Stimulus("i", 0.7), sm.Stimulus("j", 0.4)], return_state=True)
    torch.testing.assert_close(net(u[:, 6:], state, return_state=True)[-2], whole[:, 6:])
    state = net(u[:, :6], return_state=True)[-1]
    found = run(net, 14, x0=state)  # inputs that are under way arrive, though none is given
    np.testing.assert_allclose(found.h, whole[:, 6:].detach(), rtol=1e-12, atol=1e-13)
    assert found.sizes["trial"] == 2


def test_a_start_given_as_forward_takes_it():
    net = small(sm.mRNN)
    x0, h0 = torch.randn(2, 9), torch.rand(2, 9)
    for start in (x0, (x0, h0)):
        wanted = net(torch.zeros(2, 5, 3), start)[1]
        np.testing.assert_allclose(run(net, 5, x0=start).h, wanted.detach(), rtol=1e-5, atol=1e-6)


def test_activity_that_was_held_is_what_the_next_run_starts_with():
    net = under_way()
    lesion = sm.Lesion("a", stop=110.0)  # what holds at the end of a step is of the next one
    whole = run(net, 20, interventions=lesion)
    one, state = run(net, 10, interventions=sm.Lesion("a"), return_state=True)
    two = run(net, 10, x0=state)
    assert float(np.abs(one.h[0, -1, :5]).max()) == 0
    np.testing.assert_allclose(np.concatenate([one.h, two.h], 1), whole.h, rtol=1e-13, atol=1e-14)
    clamped = run(net, 1, x0=state, interventions=sm.Clamp("c", 0.5))
    assert float(clamped.h[0, -1, 8:].std()) == 0


def test_a_run_from_a_state_is_resumed_only_from_that_state(tmp_path, monkeypatch):
    net = under_way()
    state = net(torch.ones(1, 8, 3, dtype=torch.float64), return_state=True)[-1]
    out = tmp_path / "run.zarr"
    stored, end = run(net, 12, x0=state, out=out, return_state=True)
    np.testing.assert_array_equal(stored.h, run(net, 12, x0=state).h)
    assert end.h.shape == (1, 12)
    with pytest.raises(ResumeError, match="start"):
        run(net, 12, out=out, mode="resume")
    np.testing.assert_array_equal(run(net, 12, x0=state, out=out, mode="resume").h, stored.h)
    with pytest.raises(RecordingError, match="does not keep the state"):
        run(net, 12, x0=state, out=out, mode="resume", return_state=True)


def test_what_a_start_refuses():
    net = under_way()
    state = net.initial_state(3)
    with pytest.raises(ShapeError, match="batch is 2, and x0 has 3"):
        run(net, 5, batch=2, x0=state)
    with pytest.raises(ShapeError, match=r"simulate: x0 has shape \(2, 5\)"):
        run(net, 5, x0=torch.zeros(2, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match="simulate: x0 is of type str"):
        run(net, 5, x0="rest")
    with pytest.raises(ConfigError, match="return_state"):
        run(net, 5, return_state="yes")
    assert run(net, 5, batch=3, x0=state).sizes["trial"] == 3
