"""Settings of a network that are set after it was built, and names that are misspelt."""

import copy

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.errors import ActivationError, ConfigError, SettingError


def graph(**region):
    g = sm.RegionGraph()
    g.add_region("a", 4)
    g.add_region("b", 3, sign="neg", **region)
    g.add_input("u", 2)
    for source in "ab":
        for target in "ab":
            g.add_projection(source, target, density=0.6, delay=20.0 if source == "a" else None)
    g.add_projection("u", "a")
    return g


@pytest.mark.parametrize("changes", [{"dt": 5}, {"tau": 50}, {"integrator": "exponential_euler"}, {"dt": 4, "tau": 30}])
def test_times_set_later_are_those_of_a_new_network(changes):
    net, new = sm.mRNN(graph(tau=40.0), device="cpu", seed=0), sm.mRNN(graph(tau=40.0), device="cpu", seed=0, **changes)
    inp = torch.rand(2, 6, 2)
    net(inp)
    for name, value in changes.items():
        setattr(net, name, value)
    assert torch.equal(net(inp)[0], new(inp)[0])
    assert net.settings() == new.settings()
    assert net.noise_levels()[0] == new.noise_levels()[0]
    assert net.time_constants == new.time_constants


def test_dt_of_an_elman_network_changes_its_delays():
    net, new = (sm.ElmanmRNN(graph(), device="cpu", seed=0, dt=dt) for dt in (10, 20))
    net.dt = 20
    inp = torch.rand(2, 6, 2)
    assert torch.equal(net(inp), new(inp))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("dt", 0, "positive"), ("dt", 30, "delay 20 ms is shorter"), ("tau", -1, "positive"),
     ("tau", 4, "2 tau"), ("integrator", "rk4", "euler"), ("backend", "cssr", "csr"), ("noise_level_inp", -1, "negative"),
     ("batch_first", "no", "True or False"), ("rec_constrained", 1, "True or False"), ("inp_constrained", "x", "True or False")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_changes(name, value, message):
    net = sm.mRNN(graph(), device="cpu", seed=0)
    before, alpha = net.settings(), net.alpha.clone()
    with pytest.raises(ConfigError, match=message):
        setattr(net, name, value)
    assert net.settings() == before
    assert torch.equal(net.alpha, alpha)


@pytest.mark.parametrize("name", ["batch_first", "rec_constrained", "inp_constrained"])
def test_flags_of_a_new_network_are_true_or_false(name):
    with pytest.raises(ConfigError, match=f"{name} is 'False'; use True or False"):
        sm.mRNN(graph(), device="cpu", seed=0, **{name: "False"})


def test_times_set_in_inference_mode_can_be_trained_later():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    with torch.inference_mode(), torch.device("meta"):
        net.dt = 5
    net(torch.rand(2, 6, 2), net.batched_initial_condition(2)[0])[1].square().mean().backward()
    assert not net.base_alpha.is_inference()


def test_times_while_time_constants_are_learnt():
    net = sm.mRNN(graph(learnable_tau=True), device="cpu", seed=0)
    for name, value in (("dt", 5), ("tau", 50), ("integrator", "exponential_euler")):
        with pytest.raises(ConfigError, match="learnt; make a network of net.to_graph"):
            setattr(net, name, value)
    assert (net.dt, net.tau, net.integrator) == (10, 100, "euler")


def test_backend_and_activation():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    new = sm.mRNN(graph(), activation="tanh", backend="csr", device="cpu", seed=0)
    net.activation, net.backend = "Tanh", "CSR"
    assert net.settings() == new.settings()
    inp = torch.rand(2, 6, 2)
    assert torch.equal(net(inp)[0], new(inp)[0])
    with pytest.raises(ActivationError, match="relu"):
        net.activation = "rellu"


@pytest.mark.parametrize(
    ("name", "advice"),
    [("seed", "reset_noise"), ("device", r"net\.to\("), ("dtype", r"net\.to\("), ("graph", "mRNN"), ("alpha", r"net\.dt"),
     ("W_rec", r"net\.rec\.values"), ("W_inp", r"net\.inp\.values"), ("tonic_inp", "base_firing"), ("rec_finalized", "computed"),
     ("equation", "computed"), ("model", "ElmanmRNN"), ("bias", "learnable_bias"), ("init", "learnable_init"),
     ("tau_logit", "learnable_tau"), ("base_firing", r"shape \(7,\)"), ("initial_x", r"shape \(7,\)")],
)  # fmt: skip
@pytest.mark.parametrize("value", [1, torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Identity()])
def test_what_cannot_be_set_says_what_to_do(name, advice, value):
    net = sm.mRNN(graph(), device="cpu", seed=0)
    before = list(net.state_dict())
    with pytest.raises(SettingError, match=advice):
        setattr(net, name, value)
    assert list(net.state_dict()) == before


@pytest.mark.parametrize(
    ("name", "right"),
    [("spectral_raduis", "spectral_radius"), ("Tau", "tau"), ("sigma_rec", "sigma_recur"), ("intergrator", "integrator"),
     ("batchfirst", "batch_first"), ("noise_level_activity", "noise_level_act")],
)  # fmt: skip
def test_misspelt_settings(name, right):
    net = sm.mRNN(graph(), device="cpu", seed=0)
    with pytest.raises(SettingError, match=f"Did you mean {right!r}"):
        setattr(net, name, 1)
    assert not hasattr(net, name)


@pytest.mark.parametrize("name", ["bias", "init", "tau_logit"])
def test_what_is_learnt_keeps_its_size(name):
    net = sm.mRNN(graph(learnable_bias=True, learnable_init=True, learnable_tau="unit"), device="cpu", seed=0)
    inp = torch.rand(2, 6, 2)
    with pytest.raises(SettingError, match=rf"{name} of this network is a tensor of shape \(3,\)"):
        setattr(net, name, torch.nn.Parameter(torch.zeros(4)))
    before = net(inp)[0]
    setattr(net, name, torch.nn.Parameter(getattr(net, name) + 0.1))
    assert not torch.equal(net(inp)[0], before)


def test_a_method_is_not_a_setting():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    with pytest.raises(SettingError, match="weights is a method"):
        net.weights = 3
    net.forward = net.forward  # as tools that wrap it do


def test_a_property_that_fails_says_why():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    del net.dt
    with pytest.raises(AttributeError, match="attribute 'dt'"):
        net.step_parameters(), net.alpha, net.time_constants


def test_settings_of_another_model():
    for name in ("tau", "integrator"):
        with pytest.raises(SettingError, match=f"ElmanmRNN has no setting {name!r}"):
            setattr(sm.ElmanmRNN(graph(), device="cpu"), name, 1)


def test_reading_a_misspelt_name():
    net = sm.mRNN(graph(), device="cpu")
    with pytest.raises(AttributeError, match="Did you mean 'spectral_radius'"):
        net.spectral_raduis  # noqa: B018
    assert not hasattr(net, "_tau")
    assert not hasattr(net, "nothing_like_it")


def test_any_other_name_is_set_as_of_every_module():
    net = sm.mRNN(graph(), device="cpu", seed=0)
    net.readout, net.scale, net._note, net.label = torch.nn.Linear(7, 1), torch.nn.Parameter(torch.ones(1)), 1, "x"
    net.register_buffer("mean", torch.zeros(1))
    net.mean = torch.ones(1)
    handle = net.register_forward_hook(lambda module, args, out: out)
    net(torch.rand(1, 2, 2))
    handle.remove()
    assert {"scale", "readout.weight", "mean"} <= set(net.state_dict())
    again = copy.deepcopy(net)
    assert (again.label, again._note, again.mean.item()) == ("x", 1, 1)
    net.double()
    assert (net.dtype, net.device.type) == (torch.float64, "cpu")


def test_a_class_of_ones_own_has_any_attribute():
    class Own(sm.mRNN):
        def __init__(self):
            super().__init__(graph(), device="cpu")
            self.activations, self.taus = [], (1, 2)

    assert Own().taus == (1, 2)
