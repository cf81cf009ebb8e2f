"""A network within torch.compile: a graph without breaks, the same values and gradients, and no graph that is kept."""

import copy
import gc

import pytest
import torch

import sparse_mrnn as sm
from helpers.common import needs_tracing
from helpers.networks import sharing, small, under_way
from sparse_mrnn.errors import ShapeError
from sparse_mrnn.models import compiled

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),  # torch.compile itself looks at it
    pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning"),  # torch's, of that Python
    pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning"),  # torch's own, of its own code
    needs_tracing,
]
NETS = {
    "leaky": lambda: small(sm.mRNN),
    "elman": lambda: small(sm.ElmanmRNN),
    "shared": sharing,
    "delayed": lambda: under_way(dtype=torch.float32),
    "time first": lambda: small(sm.mRNN, batch_first=False),
}
WAYS = {
    "start": lambda net, inp, x0: net(inp, x0),
    "no start": lambda net, inp, x0: net(inp),
    "pair": lambda net, inp, x0: net(inp, (x0, x0.relu())),
    "stim": lambda net, inp, x0: net(inp, x0, stim_input=torch.ones(*inp.shape[:2], x0.shape[1])),
    "noise": lambda net, inp, x0: net(inp, x0, noise=True),
    "checkpoints": lambda net, inp, x0: net(inp, x0, checkpoint_steps="auto"),
    "regions": lambda net, inp, x0: net(inp, x0, checkpoint_steps=2, regions=net.some_region),
}


@pytest.fixture(autouse=True)
def afresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def results(net, call, compiler):
    """Loss and gradients of some code around a network, compiled as one graph or not."""
    generator = torch.manual_seed(0)
    shape = (3, 4) if net.batch_first else (4, 3)
    inp, x0 = torch.rand(*shape, net.layout("input").n, generator=generator), torch.rand(3, net.layout().n, generator=generator)
    inp.requires_grad_()

    def loss():
        found = call(net, inp * 2, x0)
        return sum((t * 1.5).square().mean() for t in (found if isinstance(found, tuple) else (found,)))

    net.some_region = net.hid_regions[1:2]  # looked up before: compiled code cannot enter the lock of a cached property
    net.zero_grad()
    if net._noise_seeds is not None:
        net.reset_noise(5)
    value = (loss if compiler is None else torch.compile(loss, backend=compiler, fullgraph=True))()
    value.backward()
    return {"loss": value.detach(), "inp": inp.grad, **{name: p.grad for name, p in net.named_parameters()}}


def equal(net, way, compiler):
    found, expected = results(net, WAYS[way], compiler), results(net, WAYS[way], None)
    assert {name for name, t in found.items() if t is None} == {name for name, t in expected.items() if t is None}
    for name, t in expected.items():
        if t is not None:
            torch.testing.assert_close(found[name], t, msg=lambda text, name=name: f"{name}: {text}")
    assert not compiled._graphs


@pytest.mark.parametrize(("name", "way"), [("shared", "no start")])
def test_one_graph_with_the_same_gradients(name, way):
    equal(NETS[name](), way, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_it(compiler, name, way):
    equal(NETS[name](), way, compiler)


@pytest.mark.slow
def test_a_copy_is_a_network_of_its_own():
    net = NETS["leaky"]()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.rec.values.mul_(0.5)
    assert net._number != other._number
    equal(net, "start", "aot_eager")
    equal(other, "start", "aot_eager")


@pytest.mark.slow
def test_a_graph_is_forgotten_with_its_results():
    net, inp = NETS["leaky"](), torch.rand(2, 4, 3)

    run = torch.compile(lambda net: net(inp)[1].sum(), backend="aot_eager", fullgraph=True)
    found = run(net)
    assert len(compiled._graphs) == 1
    del found
    gc.collect()
    assert not compiled._graphs
    found = run(net)
    found.backward(retain_graph=True)
    once = net.rec.values.grad.clone()
    found.backward()
    torch.testing.assert_close(net.rec.values.grad, 2 * once)
    with torch.no_grad():
        run(net)
    assert not compiled._graphs
    number = net._number
    del net, run, found
    torch.compiler.reset()
    gc.collect()
    assert number not in compiled._networks


@pytest.mark.slow
def test_what_breaks_the_graph_still_runs():
    net, inp = NETS["leaky"](), torch.rand(2, 4, 3)
    run = torch.compile(lambda state: net(inp, state, return_state=True), backend="aot_eager")
    *expected, _ = net(inp, net.initial_state(2), return_state=True)
    *found, _ = run(net.initial_state(2))
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_errors_are_those_of_the_network():
    net = NETS["leaky"]()
    with pytest.raises(ShapeError, match="inp has shape"):
        torch.compile(net, backend="aot_eager")(torch.rand(2, 4, 7))
