"""One step a call: values and gradients of forward, whatever has changed since the last call."""

import copy
import gc
import pickle
import threading
import weakref

import pytest
import torch
from torch.nn.utils.prune import random_unstructured
from torch.utils.checkpoint import checkpoint

import sparse_mrnn as sm
from helpers.networks import sharing, small, under_way
from sparse_mrnn.errors import ConfigError, ConversionError, FinalizeError, ShapeError
from sparse_mrnn.models.one_step import KEY
from sparse_mrnn.training import freeze, parameter_groups, prune

F64 = {"dtype": torch.float64}
NETS = {
    "delays": under_way,
    "elman, delays": lambda: under_way(sm.ElmanmRNN),
    "shared": lambda: sharing(**F64),
    "csr": lambda: small(sm.mRNN, backend="csr", **F64),
    "dense": lambda: small(sm.mRNN, backend="dense", activation="sigmoid", **F64),
    "hybrid": lambda: small(sm.ElmanmRNN, backend="hybrid", **F64),
    "own function": lambda: under_way(activation=lambda x: torch.sin(x)),
    "own module": lambda: under_way(activation=torch.nn.PReLU()),
    "dense blocks": lambda: hybrid().to(torch.float64),
    "without law": lambda: small(sm.mRNN, rec_constrained=False, inp_constrained=False, **F64),
}


def arguments(net, batch=3, steps=9):
    generator = torch.Generator().manual_seed(5)
    n, inputs = net.layout().n, net.layout("input").n
    shapes = (batch, steps, inputs), (batch, steps, n), (batch, n)
    return [torch.randn(shape, generator=generator, dtype=net.dtype) for shape in shapes]


def activity(out):
    return out[-1] if isinstance(out, tuple) else out


def stepped(net, u, start, stim=None, noise=False):
    state, found = start, []
    for t in range(u.shape[1]):
        state = net.step(u[:, t], state, None if stim is None else stim[:, t], noise)
        found.append(state.h)
    return torch.stack(found, 1), state


def learnt(net):
    return [p for name, p in net.named_parameters() if p.requires_grad and name != "init"]


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_steps_are_forward(kind, noise, batch):
    net = NETS[kind]()
    given = [t.requires_grad_() for t in arguments(net, batch)]
    u, stim, x0 = given
    net.reset_noise(1)
    whole = activity(net(u, x0, stim_input=stim, noise=noise))
    net.reset_noise(1)
    found, _ = stepped(net, u, x0, stim, noise)
    torch.testing.assert_close(found, whole, rtol=1e-13, atol=1e-13)
    to = torch.randn_like(whole)
    tensors = [*given, *learnt(net)]
    results = [torch.autograd.grad((h * to).sum(), tensors, materialize_grads=True) for h in (found, whole)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    net.reset_noise(1)
    with torch.no_grad():
        again, last = stepped(net, u, x0, stim, noise)
    assert torch.equal(again, found)
    assert not again.requires_grad
    net.reset_noise(1)
    end = net(u, x0, stim_input=stim, noise=noise, return_state=True)[-1]
    for name, tensor in end.tensors().items():
        torch.testing.assert_close(last.tensors()[name], tensor, rtol=1e-13, atol=1e-13)


def test_a_learnt_initial_condition_is_reached():
    net = under_way()
    u = arguments(net)[0]
    grads = [torch.autograd.grad(h.sum(), net.init)[0] for h in (stepped(net, u, None)[0], net(u)[1])]
    torch.testing.assert_close(*grads)


def test_noise_is_torchs_without_a_seed():
    net = small(sm.mRNN, seed=None, noise_level_act=0.3)
    u = torch.zeros(2, 3)
    found = [(torch.manual_seed(4), net.step(u, noise=True).h)[1] for _ in range(2)]
    assert torch.equal(*found)
    torch.manual_seed(4)
    assert torch.equal(found[0], net(u[:, None], noise=True)[1][:, 0])
    assert not torch.equal(found[0], net.step(u, noise=True).h)


# ---------------------------------------------------------------- what is kept, and when it is not


def optimise(net):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    activity(net(torch.ones(1, 4, 3, dtype=net.dtype))).sum().backward()
    optimizer.step()


GROUPS = {("a", "b"): {"lr": 0.1}, ("c", "c"): {"lr": 0.2}}


def optimise_groups(net):
    optimizer = torch.optim.SGD(parameter_groups(net, GROUPS, lr=0.3))
    net.step(torch.ones(1, 3, dtype=net.dtype))
    activity(net(torch.ones(1, 4, 3, dtype=net.dtype))).sum().backward()
    optimizer.step()


def in_place(change):
    @torch.no_grad()
    def run(net):
        for p in net.parameters():
            change(p)

    return run


def other(net):
    made = under_way(seed=9)
    in_place(lambda p: p.mul_(1.3))(made)
    return made.state_dict()


def setting(name, value):
    return lambda net: setattr(net, name, value)


def double(net):
    net.to(torch.float32)


def numpy_write(net):
    net.rec.values.detach().numpy()[0] += 1.0


CHANGES = {
    "optimiser": optimise,
    "groups": optimise_groups,
    "in place": in_place(lambda p: p.mul_(0.5)),
    "inference mode": torch.inference_mode()(lambda net: net.rec.values.mul_(0.5)),
    "data in place": in_place(lambda p: p.data.mul_(0.5)),
    "data replaced": in_place(lambda p: setattr(p, "data", p.data * 0.5)),
    "polyak": lambda net: [p.data.copy_(0.9 * p.data + 0.1) for p in net.parameters()],
    "one weight of data": lambda net: net.rec.values.data.__setitem__(3, 2.0),
    "numpy": numpy_write,
    "tonic input": lambda net: net.base_firing.data.add_(0.3),
    "vector": lambda net: torch.nn.utils.vector_to_parameters(0.7 * torch.nn.utils.parameters_to_vector(net.parameters()), net.parameters()),
    "load": lambda net: net.load_state_dict(other(net)),
    "assign": lambda net: net.load_state_dict(other(net), assign=True),
    "parameter": lambda net: setattr(net.rec, "values", torch.nn.Parameter(net.rec.values.detach() * 0.5)),
    "activation": setting("activation", "relu"),
    "dt": setting("dt", 5.0),
    "backend": setting("backend", "csr"),
    "freeze": lambda net: freeze(net, "a", "a"),
    "prune": lambda net: prune(net, 0.4, "a", "a"),
    "torch prune": lambda net: random_unstructured(net.rec, "values", 0.5),
    "precision": double,
    "scale": lambda net: net.rec.scale_(torch.tensor(0.5, dtype=torch.float64)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("gradients", [False, True])
def test_no_change_is_missed(change, gradients):
    net = small(sm.mRNN, **F64) if change == "dt" else under_way()
    with torch.set_grad_enabled(gradients):
        net.step(arguments(net)[0][:, 0])
    CHANGES[change](net)
    u, stim, x0 = arguments(net)
    with torch.set_grad_enabled(gradients):
        found = stepped(net, u, x0, stim)[0]
    whole = net(u, x0, stim_input=stim)[1]
    torch.testing.assert_close(found, whole)
    if gradients and change != "torch prune":
        grads = [torch.autograd.grad(h.sum(), learnt(net), materialize_grads=True) for h in (found, whole)]
        for one, wanted in zip(*grads, strict=True):
            torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("change", [lambda v: v[12_345:12_346].mul_(-2), lambda v: v[::7].zero_(), lambda v: v[-1:].add_(1e-2)])
def test_no_change_of_a_few_among_many_weights_is_missed(change, monkeypatch):
    monkeypatch.setattr("sparse_mrnn.models.one_step.COMPARED", 1000)
    g = sm.RegionGraph()
    g.add_region("a", 151, sign=None)
    g.add_projection("a", "a", initializer=sm.Constant(0.01))
    net = sm.mRNN(g, "tanh", device="cpu", seed=0)
    u, start = torch.zeros(1, 0), (torch.ones(1, 151), torch.ones(1, 151))
    before = net.step(u, start).h
    change(net.rec.values.data)
    found = net.step(u, start).h
    assert not torch.equal(found, before)
    torch.testing.assert_close(found, net(u[:, None], *start)[1][:, 0])


def test_noise_levels_are_those_that_are_set():
    net = small(sm.mRNN, noise_level_act=0.1, **F64)
    u = torch.zeros(2, 3, **F64)
    for level in (0.1, 0.5):
        net.noise_level_act = level
        net.reset_noise(1)
        found = net.step(u, noise=True).h
        net.reset_noise(1)
        assert torch.equal(found, net(u[:, None], noise=True)[1][:, 0])


def test_what_is_kept_is_kept_and_then_released():
    net = under_way()
    u = arguments(net)[0][:, 0]
    state = net.step(u)
    kept = weakref.ref(net.rec.derived[KEY].one)
    for _ in range(3):
        state = net.step(u, state)
    same = net.rec.derived[KEY].one is kept()
    assert same
    state.h.sum().backward()
    with torch.no_grad():
        net.rec.values.mul_(0.9)
    net.step(u)
    del state
    gc.collect()
    assert kept() is None


def test_gradients_that_are_switched_on_and_off():
    net = under_way()
    u, _, x0 = arguments(net)
    net.step(u[:, 0])
    net.rec.values.requires_grad_(False)
    stepped(net, u, x0)[0].sum().backward()
    assert net.rec.values.grad is None
    assert net.inp.values.grad is not None
    net.rec.values.requires_grad_(True)
    stepped(net, u, x0)[0].sum().backward()
    assert net.rec.values.grad is not None
    for p in net.parameters():
        p.requires_grad_(False)
    assert not net.step(u[:, 0], net.initial_state(3).detach()).h.requires_grad
    x0.requires_grad_()
    found = [torch.autograd.grad(h.sum(), x0)[0] for h in (stepped(net, u, x0)[0], net(u, x0)[1])]
    torch.testing.assert_close(*found)


# ---------------------------------------------------------------- autograd


def test_losses_of_two_runs_and_of_parts_of_them():
    net = under_way()
    u, _, x0 = arguments(net)
    u.requires_grad_()
    wanted = torch.autograd.grad(net(u, x0)[1].sum() + net(u, 2 * x0)[1].square().sum(), learnt(net), materialize_grads=True)
    one, two = stepped(net, u, x0)[0].sum(), stepped(net, u, 2 * x0)[0].square().sum()
    torch.autograd.grad(one, u, retain_graph=True)  # does not reach the parameters
    one.backward(retain_graph=True)
    for p in net.parameters():
        p.grad = None
    one.backward()
    two.backward()
    for p, grad in zip(learnt(net), wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(p) if p.grad is None else p.grad, grad)
    node = net.rec.derived[KEY].one
    assert not node.tasks


def test_hooks_of_parameters_act_once():
    net = under_way()
    u, _, x0 = arguments(net)
    wanted = torch.autograd.grad(net(u, x0)[1].sum(), net.rec.values)[0]
    net.rec.values.register_hook(lambda g: 2 * g)
    stepped(net, u, x0)[0].sum().backward()
    torch.testing.assert_close(net.rec.values.grad, 2 * wanted)


def test_parameter_groups_get_their_gradients():
    net = under_way()
    groups = parameter_groups(net, GROUPS, lr=0.3)
    u, _, x0 = arguments(net)
    net(u, x0)[1].sum().backward()
    parameters = [p for group in groups for p in group["params"]]
    wanted = [None if p.grad is None else p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    stepped(net, u, x0)[0].sum().backward()
    for p, grad in zip(parameters, wanted, strict=True):
        if grad is not None and p is not net.init:
            torch.testing.assert_close(p.grad, grad)


def test_weights_that_change_before_the_backward_pass():
    net = small(sm.mRNN, **F64)
    u, _, x0 = arguments(net)
    for loss in (stepped(net, u, x0)[0].sum(), net(u, x0)[1].sum()):
        with torch.no_grad():
            net.rec.values.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        net.zero_grad()
    fresh = [torch.autograd.grad(h.sum(), learnt(net), materialize_grads=True) for h in (stepped(net, u, x0)[0], net(u, x0)[1])]
    for one, wanted in zip(*fresh, strict=True):
        torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    net = under_way()
    u, _, x0 = arguments(net)
    u.requires_grad_()
    before = net.step(u[:, 0], x0)
    found = checkpoint(lambda v: stepped(net, v, x0)[0], u, use_reentrant=reentrant).sum() + before.h.sum()
    found.backward()
    grads = [p.grad.clone() for p in (u, net.rec.values, net.bias)]
    for p in (u, *net.parameters()):
        p.grad = None
    h = net(u, x0)[1]
    (h.sum() + h[:, 0].sum()).backward()
    for grad, p in zip(grads, (u, net.rec.values, net.bias), strict=True):
        torch.testing.assert_close(grad, p.grad)


def test_trials_that_leave_on_the_way():
    net = under_way()
    u, _, x0 = arguments(net)
    first, state = stepped(net, u[:, :4], x0)
    second, _ = stepped(net, u[1:, 4:], state[1:])
    whole = net(u, x0)[1]
    torch.testing.assert_close(second, whole[1:, 4:])
    grads = [
        torch.autograd.grad(loss, learnt(net), materialize_grads=True)
        for loss in (first.sum() + second.sum(), whole[:, :4].sum() + whole[1:, 4:].sum())
    ]
    for one, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(one, wanted)
    many = [net.step(u[:1, 0].expand(k, 3)).h for k in range(1, 25)]  # more sizes than are kept
    assert all(torch.equal(h[-1], many[0][0]) or torch.allclose(h[-1], many[0][0]) for h in many)


def test_a_long_run_is_put_together_in_parts():
    net = under_way()
    u, stim, x0 = arguments(net, batch=7, steps=90)  # 630 columns
    grads = [
        torch.autograd.grad(h.sum(), learnt(net), materialize_grads=True)
        for h in (stepped(net, u, x0, stim)[0], net(u, x0, stim_input=stim)[1])
    ]
    for one, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-10, atol=1e-11)


def test_a_function_with_a_tensor_of_ones_own():
    gain = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    net = under_way(activation=lambda x: torch.tanh(gain * x))
    u, _, x0 = arguments(net)
    grads = [torch.autograd.grad(h.sum(), [gain, *learnt(net)], materialize_grads=True) for h in (stepped(net, u, x0)[0], net(u, x0)[1])]
    for one, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(one, wanted)
    with torch.no_grad():
        gain.mul_(2)
    torch.testing.assert_close(stepped(net, u, x0)[0], net(u, x0)[1])


def test_what_autograd_cannot_do():
    net = under_way()
    u = arguments(net)[0][:, 0]
    loss = net.step(u).h.sum()
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(loss, net.rec.values, create_graph=True)
    with pytest.raises(ConversionError, match=r"torch\.func"):
        torch.func.jacrev(lambda v: net.step(v).h)(u)


# ---------------------------------------------------------------- around


def hybrid():
    g = sm.RegionGraph()
    g.add_region("a", 70)
    g.add_region("b", 70, sign="neg")
    g.add_input("i", 3)
    for source, target in (("a", "b"), ("b", "a"), ("i", "a")):
        g.add_projection(source, target)
    g.add_projection("a", "a", fan_in=3)
    return sm.mRNN(g, "tanh", device="cpu", seed=0, backend="hybrid")


@pytest.mark.parametrize("backend", ["auto", "hybrid"])
def test_modes_around_a_step(backend):
    net = under_way(dtype=torch.float32) if backend == "auto" else hybrid()
    u = arguments(net)[0][:, 0]
    wanted = net(u[:, None])[1][:, 0]
    with torch.inference_mode():
        found = net.step(u).h
    torch.testing.assert_close(found, wanted.detach())
    net.step(u).h.sum().backward()  # what inference mode has prepared can be trained
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(net.step(u.bfloat16()).h, wanted, rtol=2e-2, atol=2e-2)
        assert net.step(u).h.dtype == torch.float32
    with torch.device("meta"):
        assert net.step(u).h.device.type == "cpu"


def test_copies_and_pickles_after_a_step():
    net = under_way()
    u = arguments(net)[0][:, 0]
    wanted = net.step(u).h
    for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(made.step(u).h, wanted)
        with torch.no_grad():
            made.rec.values.mul_(0.5)
        assert not torch.equal(made.step(u).h, wanted)
        assert torch.equal(net.step(u).h, wanted)


def test_threads_step_the_same_network():
    net = under_way()
    u, _, x0 = arguments(net, batch=4, steps=30)
    wanted = [net(k * u, x0)[1].detach() for k in range(4)]
    found = [None] * 4

    def run(k):
        with torch.no_grad():
            found[k] = [stepped(net, k * u, x0)[0] for _ in range(5)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for runs, one in zip(found, wanted, strict=True):
        for each in runs:
            torch.testing.assert_close(each, one)


def test_without_inputs_or_trials():
    g = sm.RegionGraph()
    g.add_region("a", 3, init=0.5)
    g.add_projection("a", "a", delay=30.0)
    net = sm.mRNN(g, "tanh", device="cpu", seed=0)
    u, x0 = torch.zeros(2, 6, 0), torch.rand(2, 3)
    torch.testing.assert_close(stepped(net, u, x0)[0], net(u, x0)[1])
    state = net.step(torch.zeros(0, 0))
    assert state.h.shape == (0, 3)
    assert net.step(torch.zeros(0, 0), state).x.shape == (0, 3)


def test_what_a_step_refuses():
    net = under_way()
    u, stim, _ = (t[:, 0] for t in arguments(net))
    state = net.step(u)
    for given, message in (
        ((u[:, :2],), r"step: u has shape \(3, 2\); expected \(batch, 3\): i 2, j 1"),
        ((u[0],), r"step: u has shape \(3,\)"),
        ((u.float(),), r"step: u is torch\.float32"),
        (("u",), "step: u is of type str"),
        ((u[:2], state), r"step: x0 has shape \(3, 12\); expected \(batch, units\) = \(2, 12\)"),
        ((u, state.to(torch.float32)), r"step: x0 is torch\.float32"),
        ((u, state, stim[:, :4]), r"step: stim_input has shape \(3, 4\)"),
        ((u, small(sm.mRNN, **F64).initial_state(3)), r"step: x0 has shape \(3, 9\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            net.step(*given)
    with pytest.raises(ConfigError, match="noise"):
        net.step(u, noise=1)
    with pytest.raises(FinalizeError):
        sm.mRNN(device="cpu").step(u)
    base = sm.mRNNBase({"recurrent_regions": [{"name": "a", "num_units": 3}]}, device="cpu")
    with pytest.raises(TypeError, match="has no dynamics"):
        base.step(torch.zeros(1, 0))
