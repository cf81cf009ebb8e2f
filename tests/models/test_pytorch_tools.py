"""PyTorch's tools on a network: what runs with torch.nn.RNN runs, or is refused by one clear line.

Every test of a tool is a row of the table in docs/reliability.md.
"""

import copy
import pickle
import re
import tempfile

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import sparse_mrnn as sm
from helpers import ROOT
from helpers.networks import sharing, small
from sparse_mrnn.errors import ConfigError, ConversionError, SavedFileError, StateDictError, WeightError

INP = torch.linspace(-1, 1, 30).view(2, 5, 3)
TRANSFORM = "torch.func .*Use torch.autograd.grad"
STEP = r"export one step: sparse_mrnn.interop.step_module\(net\)"


def activity(net, inp=INP):
    found = net(inp)
    return found[-1] if isinstance(found, tuple) else found


def trains(net):
    net.zero_grad()
    activity(net).square().sum().backward()
    assert net.rec.values.grad.any()
    assert torch.isfinite(net.rec.values.grad).all()


def network(backend="csr"):
    """A network whose "hybrid" backend has dense blocks and a sparse rest."""
    g = sm.RegionGraph()
    g.add_region("a", 40, learnable_bias=True)
    g.add_region("b", 30, sign="neg")
    g.add_input("i", 3)
    g.add_projection("a", "a", density=0.1)
    g.add_projection("a", "b", delay=20.0 if backend == "delayed" else None)
    g.add_projection("b", "a", density=0.2)
    g.add_projection("i", "a")
    return sm.mRNN(g, "tanh", device="cpu", seed=0, backend="csr" if backend == "delayed" else backend)


def deepcopy_after_a_pass():
    for backend in ("csr", "dense", "hybrid", "delayed"):
        net = network(backend)
        trains(net)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            trains(other)
            assert torch.equal(activity(other), activity(net))


def inference_mode_and_then_training():
    for backend in ("csr", "dense", "hybrid", "delayed"):
        net = network(backend)
        with torch.inference_mode():
            activity(net)
            sm.simulate(net, steps=3)
        trains(net)


def built_in_inference_mode():
    with torch.inference_mode():
        net = network("hybrid")
        activity(net)
        net.double().float()
    trains(net)
    trains(copy.deepcopy(net))
    for model in (sm.mRNN, sm.ElmanmRNN):
        with torch.inference_mode():
            other = copy.deepcopy(small(model))
        out = other(torch.ones(2, 4, other.layout("input").n, dtype=other.dtype))
        (out if model is sm.ElmanmRNN else out[1]).square().sum().backward()
        assert other.rec.values.grad.abs().sum() > 0
    with torch.inference_mode():
        net.load_state_dict(network().state_dict())
    trains(net)


def loaded_in_inference_mode():
    with tempfile.TemporaryDirectory() as folder:
        network().save(f"{folder}/net")
        with torch.inference_mode():
            net = sm.load(f"{folder}/net", device="cpu")
        trains(net)


def default_device():
    expected = network()
    with torch.device("meta"):
        net = network()
        torch.testing.assert_close(activity(net), activity(expected))


def pruning():
    net = small(sm.ElmanmRNN)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    before = net.rec.values.detach().clone()
    prune.l1_unstructured(net.rec, "values", amount=0.5)
    mask = net.rec.values_mask.bool()
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(2):
        optimizer.zero_grad()
        activity(net).square().sum().backward()
        optimizer.step()
    assert (net.rec.all_values()[~mask] == 0).all()
    assert not torch.equal(net.rec.all_values()[mask], before[mask])
    expected = activity(net)
    prune.remove(net.rec, "values")
    assert torch.equal(activity(net), expected)


def functional_call():
    net = small(sm.mRNN)
    halves = {name: p * 0.5 for name, p in net.named_parameters()}
    found = torch.func.functional_call(net, halves, (INP,))[1]
    found.square().sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5)
    net.zero_grad()
    expected = activity(net)
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    torch.testing.assert_close(gradients, [p.grad * 0.5 for p in net.parameters()])


def gradient_of_a_gradient_of_the_weights():
    for net in (small(sm.mRNN, dtype=torch.float64), sharing(dtype=torch.float64)):
        parameters = [p for p in (net.rec.values, net.rec.gains) if p is not None]
        names = [name for name in ("values", "gains") if getattr(net.rec, name) is not None]

        def weights(*given, net=net, names=names):
            return torch.func.functional_call(Weights(net.rec), {f"of.{n}": p for n, p in zip(names, given, strict=True)})

        assert torch.autograd.gradgradcheck(lambda *p, weights=weights: weights(*p).pow(3), parameters)


class Weights(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self):
        return self.of.csr_values()


def weights_averaged():
    net = small(sm.mRNN)
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    for _ in range(3):
        average.update_parameters(net)
    torch.testing.assert_close(activity(average.module), activity(net))


def recomputed_by_torch_checkpoint():
    for use_reentrant in (True, False):
        net = small(sm.mRNN)
        trains(net)
        expected = net.rec.values.grad.clone()
        net.zero_grad()
        checkpoint(activity, net, INP.clone().requires_grad_(), use_reentrant=use_reentrant).square().sum().backward()
        torch.testing.assert_close(net.rec.values.grad, expected)


def jacobian_of_autograd():
    net = small(sm.mRNN)
    assert torch.autograd.functional.jacobian(lambda u: activity(net, u), INP).shape == (2, 5, 9, 2, 5, 3)


WORKS = {
    "`copy.deepcopy`, pickle": deepcopy_after_a_pass,
    "`inference_mode`, then training": inference_mode_and_then_training,
    "built, moved, copied or given a state dict in `inference_mode`": built_in_inference_mode,
    "`sparse_mrnn.load` in `inference_mode`": loaded_in_inference_mode,
    '`with torch.device("meta")` around, `device="cpu"` given': default_device,
    '`nn.utils.prune` on `net.rec`, "values"': pruning,
    "`torch.func.functional_call`": functional_call,
    "gradient of a gradient of the weights": gradient_of_a_gradient_of_the_weights,
    "`AveragedModel`, also with `use_buffers=True`": weights_averaged,
    "`torch.utils.checkpoint`": recomputed_by_torch_checkpoint,
    "`torch.autograd.functional.jacobian`": jacobian_of_autograd,
}


@pytest.mark.parametrize("name", WORKS)
def test_works(name):
    WORKS[name]()


def under_meta():
    with torch.device("meta"):
        sm.mRNN()


def values_of(net):
    return {name: p.detach() for name, p in net.named_parameters()}


def called(net, parameters):
    return torch.func.functional_call(net, parameters, (INP,))[1].sum()


def batched_gradients(net):
    out = activity(net)
    torch.autograd.grad(out, list(net.parameters()), torch.ones(3, *out.shape), is_grads_batched=True)


def vectorized_jacobian(net):
    torch.autograd.functional.jacobian(lambda u: activity(net, u), INP, vectorize=True)


def forward_mode(net):
    with torch.autograd.forward_ad.dual_level():
        activity(net, torch.autograd.forward_ad.make_dual(INP, torch.ones_like(INP)))


def second_derivative(net):
    gradient = torch.autograd.grad(activity(net).square().sum(), net.rec.values, create_graph=True)[0]
    gradient.sum().backward()


def mean_of_state_dicts(net):
    states = [net.state_dict(), small(sm.mRNN).state_dict()]
    net.load_state_dict({name: sum(s[name].float() for s in states) / 2 for name in states[0]})


def checkpoint_with_a_seed(net):
    run = lambda u: net(u, noise=True)[1]  # noqa: E731
    checkpoint(run, INP.clone().requires_grad_(), use_reentrant=False).sum().backward()


def transformed(how):
    """Apply a transform of torch.func to the activity as a function of the input."""
    return lambda net: how(lambda u: activity(net, u))(INP)


REFUSED = {
    '`with torch.device("meta")` around, no `device=`': ([lambda net: under_meta()], ConfigError, "give device='cpu'"),
    '`parametrize`, `weight_norm` on `net.rec`, "values"': ([lambda net: parametrize.register_parametrization(net.rec, "values", nn.Tanh()), lambda net: parametrizations.weight_norm(net.rec, "values")], WeightError, "functional_call"),
    "`torch.func.grad`": ([lambda net: torch.func.grad(lambda p: called(net, p))(values_of(net))], ConversionError, TRANSFORM),
    "`torch.func.jacrev`, `hessian`": ([transformed(torch.func.jacrev), transformed(torch.func.hessian)], ConversionError, TRANSFORM),
    "`torch.func.jvp`, `jacfwd`, forward mode": ([lambda net: torch.func.jvp(lambda u: activity(net, u), (INP,), (INP,)), transformed(torch.func.jacfwd), forward_mode], ConversionError, TRANSFORM),
    "`torch.vmap`": ([lambda net: torch.vmap(lambda u: activity(net, u[None]))(INP)], ConversionError, TRANSFORM),
    "`is_grads_batched`, `jacobian(vectorize=True)`": ([batched_gradients, vectorized_jacobian], ConversionError, TRANSFORM),
    "`create_graph=True` through `forward`": ([second_derivative], RuntimeError, "leave out create_graph=True"),
    "`torch.jit.trace`, `torch.export`": ([lambda net: torch.jit.trace(net, (INP,)), lambda net: torch.export.export(net, (INP,))], ConversionError, STEP),
    "`torch.jit.script`": ([torch.jit.script], ConversionError, STEP),
    "loading the mean of state dicts": ([mean_of_state_dicts], StateDictError, "AveragedModel"),
    "`torch.utils.checkpoint`, `noise=True`, `seed=` given": ([checkpoint_with_a_seed], ConfigError, "without seed="),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "k"), [(name, k) for name, (runs, _, _) in REFUSED.items() for k in range(len(runs))])
def test_is_refused_with_advice_and_leaves_the_network_whole(name, k):
    net = small(sm.mRNN)
    runs, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        runs[k](net)
    trains(net)


def test_the_table_of_the_documentation_has_a_row_for_each_tool():
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (works|refused) \| ", text.partition("## PyTorch's tools")[2], re.MULTILINE)
    assert dict(rows) == {**dict.fromkeys(WORKS, "works"), **dict.fromkeys(REFUSED, "refused")}


def test_pruned_weights_are_made_permanent_before_synapses_change_or_are_saved(tmp_path):
    net = small(sm.mRNN)
    prune.l1_unstructured(net.rec, "values", amount=0.5)
    with pytest.raises(WeightError, match=r"make that permanent .*prune.remove"):
        sm.training.freeze(net, "ctx", "ctx")
    with pytest.raises(SavedFileError, match=r"rec.values_orig is not part .*prune.remove"):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()
    prune.remove(net.rec, "values")
    net.save(tmp_path / "net")
    assert torch.equal(activity(sm.load(tmp_path / "net", device="cpu")), activity(net))


@pytest.mark.parametrize(("module", "name"), [("", "bias"), ("", "tau_logit"), ("rec", "gains"), ("rec.low_rank.left", "0")])
def test_other_parameters_can_be_pruned(module, name):
    net = sharing()
    part = net.get_submodule(module)
    prune.random_unstructured(part, name, amount=1)
    mask = getattr(part, f"{name}_mask").bool()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        activity(net, torch.ones(2, 5, 2)).square().sum().backward()
        optimizer.step()
    prune.remove(part, name)
    assert (getattr(part, name)[~mask] == 0).all()
    assert not mask.all()


def test_parts_of_ones_own_are_not_saved_with_a_network(tmp_path):
    net = small(sm.mRNN)
    net.readout = nn.Linear(9, 1)
    with pytest.raises(SavedFileError, match="readout.weight is not part of .*save_checkpoint"):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()
