"""Training resumed from a checkpoint is the run that never stopped, bit for bit; another run is refused."""

import json
import random
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import lr_scheduler

import sparse_mrnn as sm
from helpers.networks import sharing, small
from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.tensors import KEY, digest_of
from sparse_mrnn.training import freeze, parameter_groups, prune, rewire, unfreeze


def graph():
    g = sm.RegionGraph()
    g.add_region("exc", 20, learnable_bias=True)
    g.add_region("inh", 8, sign="neg", learnable_tau=True)
    g.add_input("cue", 3)
    g.add_projection("cue", "exc", density=0.6)
    for source in ("exc", "inh"):
        for target in ("exc", "inh"):
            g.add_projection(source, target, density=0.4, delay=20 if source == target else None)
    g.add_projection("exc", "exc", density=0.2, key="slow", trainable=False)
    return g


class Readout(nn.Module):
    """What a user trains: a network and a readout."""

    def __init__(self, seed):
        super().__init__()
        self.rnn = sm.mRNN(graph(), activation="tanh", device="cpu", seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.out = nn.Linear(20, 2)

    def forward(self, inp):
        x0, h0 = self.rnn.batched_initial_condition(len(inp))
        return self.out(self.rnn.get_region_activity(self.rnn(inp, x0, h0, noise=True)[1], "exc"))


GROUPS = {("exc", "exc"): {"lr": 0.003}, ("inh", "exc"): {"lr": 0.02}, "bias": {"lr": 0.05}}
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, centered=True),
}
SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "multi": lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 5, 8]),
    "cosine": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=40),
    "sequence": lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [4]),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "none": lambda o: None,
}


class Run:
    """A run of a training script from its beginning; ``go`` makes steps, ``change`` is done before the fifth."""

    def __init__(self, optimizer="adam", scheduler="step", groups=True, change=lambda run: None, seed=0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module = Readout(seed)
            parameters = [*self.module.out.parameters()]
            first = parameter_groups(self.module.rnn, GROUPS, lr=0.01) if groups else [{"params": list(self.module.rnn.parameters())}]
            self.optimizer = OPTIMIZERS[optimizer]([*first, {"params": parameters}])
            self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.batches, self.wiring, self.dice = np.random.default_rng(seed), torch.Generator().manual_seed(seed), random.Random(seed)
        self.change, self.step, self.losses = change, 0, []

    @property
    def generators(self):
        return {"batches": self.batches, "wiring": self.wiring, "dice": self.dice}

    def go(self, until):
        while self.step < until:
            if self.step == 5:
                self.change(self)
            inp = torch.from_numpy(self.batches.random((4, 6, 3), dtype=np.float32)) + torch.rand(4, 1, 1)
            goal = torch.rand(4, 6, 2, generator=self.wiring) + self.dice.random() + float(np.random.rand()) + random.random()  # noqa: NPY002
            self.optimizer.zero_grad()
            loss = (self.module(inp) - goal).square().mean()
            loss.backward()
            self.optimizer.step()
            if self.scheduler is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.scheduler.step()
            self.losses.append(loss.item())
            self.step += 1
        return self

    def save(self, path):
        sm.save_checkpoint(path, self.module, self.optimizer, self.scheduler, step=self.step, generators=self.generators)

    def load(self, path):
        self.step = sm.load_checkpoint(path, self.module, self.optimizer, self.scheduler, generators=self.generators)
        return self

    def state(self):
        moments = [self.optimizer.state[p] for group in self.optimizer.param_groups for p in group["params"] if p in self.optimizer.state]
        return self.module.state_dict(), moments, [group["lr"] for group in self.optimizer.param_groups]


def assert_same(a, b):
    (state, moments, rates), (other, others, other_rates) = a.state(), b.state()
    assert state.keys() == other.keys()
    for name in state:
        assert torch.equal(state[name], other[name]), name
    assert rates == other_rates
    assert len(moments) == len(others)
    for own, theirs in zip(moments, others, strict=True):
        assert own.keys() == theirs.keys()
        for name, value in own.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[name])), name


def scramble():
    """Global random states of another process."""
    torch.manual_seed(999)
    np.random.seed(999)  # noqa: NPY002
    random.seed(999)


def seeded():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)


def freeze_rewire(run):
    net = run.module.rnn
    freeze(net, "exc", "inh", optimizer=run.optimizer)
    rewire(net, 0.3, "exc", "exc", "default", optimizer=run.optimizer, seed=run.batches)
    unfreeze(net, "exc", "exc", "slow", optimizer=run.optimizer)


def prune_some(run):
    prune(run.module.rnn, 0.3, "inh", None, optimizer=run.optimizer)
    run.module.out.bias.requires_grad_(False)


CHANGES = {"nothing": lambda run: None, "freeze, rewire, unfreeze": freeze_rewire, "prune, by hand": prune_some}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("groups", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_is_uninterrupted(tmp_path, optimizer, groups, change):
    seeded()
    whole = Run(optimizer, "step", groups, CHANGES[change]).go(8)
    whole.save(tmp_path / "run")
    whole.go(13)
    scramble()
    resumed = Run(optimizer, "step", groups, CHANGES[change], seed=7)
    resumed.load(tmp_path / "run")
    assert resumed.step == 8
    resumed.go(13)
    assert resumed.losses == whole.losses[8:]
    assert_same(whole, resumed)


@pytest.mark.parametrize("at", [0, 3, 5, 6])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_resumed_at_any_step_with_any_scheduler(tmp_path, scheduler, at):
    seeded()
    whole = Run("adam", scheduler, change=freeze_rewire).go(at)
    whole.save(tmp_path / "run")
    whole.go(9)
    scramble()
    resumed = Run("adam", scheduler, change=freeze_rewire, seed=3).load(tmp_path / "run").go(9)
    assert resumed.losses == whole.losses[at:]
    assert_same(whole, resumed)


def test_shared_gains_go_on(tmp_path):
    """Also of parameter groups over gains, frozen halfway."""

    def fresh(seed):
        net = sharing(seed=seed)
        return net, torch.optim.Adam(parameter_groups(net, {("exc", "inh"): {"lr": 0.02}}, lr=0.01))

    def go(net, optimizer, steps):
        for step in range(steps):
            optimizer.zero_grad()
            out = net(torch.ones(2, 6, 2), net.batched_initial_condition(2)[0], noise=True)[1]
            (out - 0.3).square().sum().backward()
            optimizer.step()
            if step == 1:
                freeze(net, "inh", "exc", optimizer=optimizer)

    net, optimizer = fresh(0)
    go(net, optimizer, 3)
    sm.save_checkpoint(tmp_path / "run", net, optimizer)
    go(net, optimizer, 2)
    other, again = fresh(4)
    sm.load_checkpoint(tmp_path / "run", other, again)
    go(other, again, 2)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_deep_r_goes_on(tmp_path):
    """Its signs at the start are no part of a state dict, but of training."""

    def go(net, optimizer, rng, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            h = net(torch.ones(2, 5, 3), net.batched_initial_condition(2)[0])[1]
            (h.square().mean() + 0.05 * net.rec.values.sum()).backward()
            optimizer.step()
            rewire(net, None, None, None, method="deepr", optimizer=optimizer, seed=rng)

    def fresh(seed):
        net = sm.mRNN(graph(), device="cpu", seed=seed)
        return net, torch.optim.SGD(net.parameters(), lr=0.5), np.random.default_rng(seed)

    net, optimizer, rng = fresh(0)
    go(net, optimizer, rng, 4)
    sm.save_checkpoint(tmp_path / "run", net, optimizer, generators={"rng": rng})
    before = net.rec.nnz, net.rec.col.clone()
    go(net, optimizer, rng, 6)
    assert not torch.equal(before[1], net.rec.col)  # something moved
    other, optimizer, rng = fresh(5)
    sm.load_checkpoint(tmp_path / "run", other, optimizer, generators={"rng": rng})
    go(other, optimizer, rng, 6)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(net.rec.orientation, other.rec.orientation)


def test_second_order_and_several_optimisers(tmp_path):
    def fresh(seed):
        net = small(sm.mRNN, activation="tanh")
        readout = nn.Linear(9, 1)
        pair = [torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3), torch.optim.Adagrad(readout.parameters(), lr=0.1)]
        return net, readout, pair, [lr_scheduler.ReduceLROnPlateau(pair[1], patience=0)]

    def go(net, readout, pair, plateau, steps):
        for _ in range(steps):

            def closure():
                for one in pair:
                    one.zero_grad()
                loss = readout(net(torch.ones(2, 4, 3), net.batched_initial_condition(2)[0])[1]).square().mean()
                loss.backward()
                return loss

            pair[0].step(closure)
            loss = closure()
            pair[1].step()
            plateau[0].step(loss.item())

    net, readout, pair, plateau = fresh(0)
    go(net, readout, pair, plateau, 3)
    modules = {"net": net, "readout": readout}
    sm.save_checkpoint(tmp_path / "run", modules, pair, plateau, step=3)
    go(net, readout, pair, plateau, 3)
    other, second, two, flat = fresh(1)
    assert sm.load_checkpoint(tmp_path / "run", {"net": other, "readout": second}, two, flat) == 3
    go(other, second, two, flat, 3)
    for a, b in ((net, other), (readout, second)):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert two[1].param_groups[0]["lr"] == pair[1].param_groups[0]["lr"]


def test_groups_made_after_loading(tmp_path):
    """Projections frozen before the groups were made: load the network first, then make them."""
    net = sm.mRNN(graph(), device="cpu", seed=0)
    freeze(net, "exc", "inh")
    unfreeze(net, "exc", "inh")
    freeze(net, "inh", "exc")
    optimizer = torch.optim.Adam(parameter_groups(net, GROUPS, lr=0.01))
    inp, x0 = torch.ones(2, 5, 3), net.batched_initial_condition(2)[0]

    def go(net, optimizer):
        optimizer.zero_grad()
        net(inp, x0)[1].square().sum().backward()
        optimizer.step()

    go(net, optimizer)
    sm.save_checkpoint(tmp_path / "run", net, optimizer)
    other = sm.mRNN(graph(), device="cpu", seed=1)
    wrong = torch.optim.Adam(parameter_groups(other, GROUPS, lr=0.01))
    with pytest.raises(SavedFileError, match="another optimiser|another network|parameter groups"):
        sm.load_checkpoint(tmp_path / "run", other, wrong)
    other = sm.mRNN(graph(), device="cpu", seed=1)
    sm.load_checkpoint(tmp_path / "run", other)
    again = torch.optim.Adam(parameter_groups(other, GROUPS, lr=0.01))
    sm.load_checkpoint(tmp_path / "run", other, again)
    go(net, optimizer)
    go(other, again)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_a_bare_network_with_its_noise(tmp_path):
    net = small(sm.ElmanmRNN)
    inp, h0 = torch.zeros(1, 5, 3), net.batched_initial_condition(1)
    net.reset_noise(4)
    net(inp, h0, noise=True)
    sm.save_checkpoint(tmp_path / "run", net, step=1)
    other = small(sm.ElmanmRNN)
    sm.load_checkpoint(tmp_path / "run", other, rng=False)
    assert torch.equal(net(inp, h0, noise=True), other(inp, h0, noise=True))
    net.reset_noise()
    other.reset_noise()
    assert torch.equal(net(inp, h0, noise=True), other(inp, h0, noise=True))


def test_random_states_may_be_left_alone(tmp_path):
    net = small(sm.mRNN)
    torch.manual_seed(3)
    sm.save_checkpoint(tmp_path / "with", net)
    sm.save_checkpoint(tmp_path / "without", net, rng=False)
    torch.manual_seed(4)
    expected = torch.rand(3)
    for path, rng in (("with", False), ("without", True)):
        torch.manual_seed(4)
        sm.load_checkpoint(tmp_path / path, net, rng=rng)
        assert torch.equal(torch.rand(3), expected)


def test_the_files_tensors_are_copies(tmp_path):
    """Moments are changed in place; the file they came from is not."""
    run = Run().go(2)
    run.save(tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    Run(seed=1).load(tmp_path / "run").go(6)
    assert (tmp_path / "run").read_bytes() == before


# ---------------------------------------------------------------- what is refused, with nothing changed


def others():
    """(message, arguments of load_checkpoint) for runs that are not the one saved."""

    def net_of(change=lambda g: None, **options):
        g = graph()
        change(g)
        module = Readout(0)
        module.rnn = sm.mRNN(g, **{"activation": "tanh", "device": "cpu", "seed": 0, **options})
        return module

    def other_sign():
        g = sm.RegionGraph()
        g.add_region("exc", 20, learnable_bias=True, sign="neg")
        g.add_region("inh", 8, sign="neg", learnable_tau=True)
        return g

    run = Run()
    yield "dt: 10 then, 5 now", (net_of(dt=5),)
    yield r"activation: \"tanh\" then, \"relu\" now", (net_of(activation="relu"),)
    yield "tau: 100 then, 50.0 now", (net_of(tau=50.0),)
    yield r"rnn\.\w+ is float32 in the file, float64 in the network", (net_of(dtype=torch.float64),)
    yield "rec_constrained: true then, false now", (net_of(rec_constrained=False),)
    yield r"regions.new: null then", (net_of(lambda g: g.add_region("new", 2)),)
    yield r"projection 'exc' -> 'exc' \(key 'more'\): null then", (net_of(lambda g: g.add_projection("exc", "exc", key="more")),)
    yield r"delay: 20.0 then, 30.0 now", (net_of(lambda g: g.edges["exc", "exc", "default"].update(delay=30.0)),)
    yield "its networks are 'rnn', and here ''", (Readout(0).rnn,)
    yield "its networks are 'rnn', and here none", (nn.Linear(2, 2),)
    yield "its networks are 'rnn', and here 'net.rnn'", ({"net": Readout(0)},)
    wider = Readout(0)
    wider.out = nn.Linear(20, 3)
    yield r"out.weight has shape \(2, 20\) in the file, \(3, 20\) in the network", (wider,)
    more = Readout(0)
    more.more = nn.Linear(1, 1)
    yield r"the file lacks more.bias, more.weight", (more,)
    other = Run("momentum")
    yield 'class: "Adam" then, "SGD" now', (other.module, other.optimizer)
    yield r"another optimiser|is not in the module", (run.module, torch.optim.Adam(run.module.parameters()))
    yield "it has 1 optimizers, and 2 are given", (run.module, [run.optimizer, run.optimizer])
    yield "its scheduler is a StepLR, and a ExponentialLR", (run.module, run.optimizer, lr_scheduler.ExponentialLR(run.optimizer, 0.9))


@pytest.mark.parametrize("k", range(17))
def test_another_run_is_refused(tmp_path, k):
    Run().go(3).save(tmp_path / "run")
    message, arguments = list(others())[k]
    modules = arguments[0].values() if isinstance(arguments[0], dict) else [arguments[0]]
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    random_before = torch.get_rng_state()
    with pytest.raises(SavedFileError, match=message) as caught:
        sm.load_checkpoint(tmp_path / "run", *arguments)
    assert str(tmp_path / "run") in str(caught.value)
    assert "nothing has changed" in str(caught.value)
    for module, old in zip(modules, before, strict=True):
        assert module.state_dict().keys() == old.keys()
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_before)


def test_generators_that_differ(tmp_path):
    run = Run().go(2)
    run.save(tmp_path / "run")
    with pytest.raises(SavedFileError, match=r"no generator 'other' \(its generators: 'batches', 'wiring', 'dice'\)"):
        sm.load_checkpoint(tmp_path / "run", run.module, generators={"other": np.random.default_rng()})
    philox = np.random.Generator(np.random.Philox(1))
    state = philox.bit_generator.state
    with pytest.raises(SavedFileError, match="'batches' is PCG64, and here Philox"):
        sm.load_checkpoint(tmp_path / "run", run.module, generators={"batches": philox})
    assert str(philox.bit_generator.state) == str(state)
    with pytest.raises(SavedFileError, match="'x' is a int; use one of numpy"):
        sm.save_checkpoint(tmp_path / "run", run.module, generators={"x": 3})


def test_every_bit_generator(tmp_path):
    net = small(sm.mRNN)
    kinds = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM]
    saved = {kind.__name__: np.random.Generator(kind(0)) for kind in kinds}
    for generator in saved.values():
        generator.standard_normal(3, dtype=np.float32)
    sm.save_checkpoint(tmp_path / "run", net, generators=saved)
    fresh = {kind.__name__: np.random.Generator(kind(1)) for kind in kinds}
    sm.load_checkpoint(tmp_path / "run", net, generators=fresh)
    for name in saved:
        assert saved[name].integers(0, 2**60, 5).tolist() == fresh[name].integers(0, 2**60, 5).tolist()


def test_what_a_file_cannot_hold(tmp_path):
    net = small(sm.mRNN)
    with pytest.raises(SavedFileError, match=r'parameter 0 in group 0 of SGD is not in the module.*"readout": readout'):
        sm.save_checkpoint(tmp_path / "run", net, torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.param_groups[0]["hook"] = lambda: None
    with pytest.raises(SavedFileError, match=r"optimizer.0.param_groups.0.hook is a function"):
        sm.save_checkpoint(tmp_path / "run", net, optimizer)
    assert not list(tmp_path.iterdir())


def test_arguments_that_are_something_else(tmp_path):
    net = small(sm.mRNN)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for arguments, message in (
        ((3,), "must be a module, or modules by names"),
        (({"a.b": net},), "names without dots"),
        (({"a": 3},), "must be a module"),
        ((net, lr_scheduler.StepLR(optimizer, 1)), "StepLR is not an optimizer"),
        ((net, optimizer, optimizer), "SGD is not a scheduler"),
    ):
        with pytest.raises(SavedFileError, match=message):
            sm.save_checkpoint(tmp_path / "run", *arguments)
    module = nn.Linear(1, 1)
    module.register_buffer("mask", torch.eye(3).to_sparse())
    with pytest.raises(SavedFileError, match="state.mask is sparse_coo, and a file holds dense tensors"):
        sm.save_checkpoint(tmp_path / "run", module)
    assert not list(tmp_path.iterdir())


def test_kinds_of_files_are_told_apart(tmp_path):
    net = small(sm.mRNN)
    net.save(tmp_path / "net")
    sm.save_checkpoint(tmp_path / "run", net)
    with pytest.raises(SavedFileError, match=r"is not a checkpoint: it is a saved network; read it with sparse_mrnn\.load\."):
        sm.load_checkpoint(tmp_path / "net", net)
    with pytest.raises(SavedFileError, match=r"is not a saved network: it is a checkpoint; read it with sparse_mrnn\.load_checkpoint"):
        sm.load(tmp_path / "run")
    torch.save(net.state_dict(), tmp_path / "pt")
    with pytest.raises(SavedFileError, match="torch.save"):
        sm.load_checkpoint(tmp_path / "pt", net)


def test_damaged_checkpoints(tmp_path):
    path = tmp_path / "run"
    run = Run().go(2)
    run.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    for at in rng.integers(0, len(whole), 60).tolist():
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        for content in (changed, whole[:at]):
            path.write_bytes(content)
            with pytest.raises(SavedFileError):
                run.load(path)
    assert all(torch.equal(value, before[name]) for name, value in run.module.state_dict().items())


def forged(path, change):
    """A file with another header, and a digest that agrees with it."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    header.pop("digest")
    change(header, tensors)
    save_file(tensors, path, {KEY: json.dumps({**header, "digest": digest_of(header, tensors)})})


@pytest.mark.parametrize(
    "change",
    [
        lambda h, t: h.update(step="3"),
        lambda h, t: h.pop("rng"),
        lambda h, t: h.update(optimizers={}),
        lambda h, t: h["optimizers"][0].update(state={"tensor": "nowhere"}),
        lambda h, t: h["optimizers"][0].update(state={"code": "import os"}),
        lambda h, t: h["optimizers"][0].pop("state"),
        lambda h, t: h["optimizers"][0].update(state={"dict": [["state", {"dict": []}]]}),
        lambda h, t: h["schedulers"][0].update(state=[1]),
        lambda h, t: h["noise"].clear(),
        lambda h, t: h["generators"]["batches"].update({"dict": [["kind", "PCG64"], ["state", 3]]}),
        lambda h, t: h.update(rng={"dict": [["torch", 1]]}),
        lambda h, t: h["networks"].append("another"),
        lambda h, t: h["extra"].update({"dict": 3}),
        lambda h, t: h.update(networks={}),
        lambda h, t: h["optimizers"][0]["state"]["dict"][0][1]["dict"][0][1]["dict"].pop(0),
        lambda h, t: h["optimizers"][0]["state"]["dict"][0][1]["dict"][0][1]["dict"][0].__setitem__(1, [1]),
        lambda h, t: h["noise"]["rnn"].update({"dict": [["device", "cpu"], ["seeds", ["a", 1]], ["inputs", 1], ["units", 2]]}),
        lambda h, t: t["state.rnn.rec.col"].fill_(99),
        lambda h, t: t["state.rnn._extra_state"].fill_(7),
        lambda h, t: t["state.rnn.rec.col"].__setitem__(0, 1 - t["state.rnn.rec.col"][0]) if t["state.rnn.rec.col"][0] < 2 else t["state.rnn.rec.col"].sub_(1),
        lambda h, t: t.pop("state.rnn.rec.col"),
    ],
)
def test_checkpoints_by_hand(tmp_path, change):
    run = Run().go(2)
    run.save(tmp_path / "run")
    forged(tmp_path / "run", change)
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    moments = [value.clone() for moment in run.optimizer.state.values() for value in moment.values()]
    with pytest.raises(SavedFileError):
        run.load(tmp_path / "run")
    assert all(torch.equal(value, before[name]) for name, value in run.module.state_dict().items())
    now = [value for moment in run.optimizer.state.values() for value in moment.values()]
    assert all(torch.equal(old, new) for old, new in zip(moments, now, strict=True))


def test_packing_keeps_types():
    from sparse_mrnn.files.nested import pack, unpack

    value = {"a": (1, 2.5, None, True), 3: [float("inf"), -0.0], "c": Counter({2: 1}), "t": torch.arange(3), "n": np.arange(3, dtype=np.uint64)}
    tensors = {}
    back = unpack(json.loads(json.dumps(pack(value, "x", tensors))), tensors)
    assert {k: v for k, v in back.items() if k not in ("t", "n")} == {k: v for k, v in value.items() if k not in ("t", "n")}
    assert isinstance(back["c"], Counter)
    assert torch.equal(back["t"], value["t"])
    assert (back["n"] == value["n"]).all()
    assert back["n"].dtype == np.uint64


@pytest.mark.parametrize("value", [{0: torch.zeros(1), "0": torch.ones(1)}, {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}])
def test_packing_keeps_tensors_of_like_names_apart(value):
    from sparse_mrnn.files.nested import pack, unpack

    tensors = {}
    back = unpack(json.loads(json.dumps(pack(value, "x", tensors))), tensors)
    assert len(tensors) == 2
    assert repr(back) == repr(value)
