"""net.save and sparse_mrnn.load: the same network on the other side, or a clear refusal."""

import json
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import sparse_mrnn as sm
from helpers import TESTS
from helpers.children import Child
from helpers.graphs import rich_graph
from helpers.networks import sharing, small
from sparse_mrnn.errors import ConfigError, FinalizeError, SavedFileError
from sparse_mrnn.files import tensors as tensor_file
from sparse_mrnn.files.tensors import KEY, digest_of
from sparse_mrnn.training import freeze, prune, rewire

DATA = TESTS / "data"


def everything(**options):
    """A network of every kind of region, projection and rule, drawn and explicit, with trained time constants."""
    g = rich_graph()
    g.edges["inh", "free", "gap"]["delay"] = 15.0
    g.add_projection("inh", "inh", density=0.7, initializer=sm.Normal(0.3), self_connections=False)
    g.add_projection("a b", "free", fan_in=2, delay=20.0)
    g.add_projection("free", "free", rule=sm.FixedNumber(2), trainable=False)
    return sm.mRNN(g, **{"device": "cpu", "seed": 3, "dt": 5, "tau": 60.0, **options})


def run(net, noise=False):
    """States, and gradients of every parameter, of one run."""
    torch.manual_seed(0)
    inp = torch.rand(2, 7, net.layout("input").n).to(net.device, net.dtype)
    start = net.batched_initial_condition(2)
    net.zero_grad()
    net.reset_noise()
    out = net(inp, start[0], noise=noise)
    h = out if isinstance(out, torch.Tensor) else out[1]
    if h.requires_grad:  # else there is nothing to train
        h.square().sum().backward()
    return h.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def assert_equal(a, b, noise=True):
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name
    assert a.state_dict().keys() == b.state_dict().keys()
    (h, grads), (again, same) = run(a, noise), run(b, noise)
    assert torch.equal(h, again)
    assert grads.keys() == same.keys()
    assert all(torch.equal(grads[name], same[name]) for name in grads)


def round_trip(net, tmp_path, **options):
    net.save(tmp_path / "net.safetensors")
    return sm.load(tmp_path / "net.safetensors", device="cpu", **options)


def header_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[KEY])


def rewritten(path, change=None, tensors=None):
    """The file with another header or other tensors, and a digest that agrees with them."""
    header = header_of(path)
    header.pop("digest")
    with safe_open(path, "pt") as file:
        content = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if change is not None:
        change(header)
    if tensors is not None:
        tensors(content)
    save_file(content, path, {KEY: json.dumps({**header, "digest": digest_of(header, content)})})


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "tanh", "noise_level_act": 0.3, "noise_level_inp": 0.2, "spectral_radius": 0.7, "batch_first": True},
        {"rec_constrained": False, "inp_constrained": False, "dtype": torch.float64, "backend": "csr"},
        {"spectral_radius": {"brain": 0.5}, "activation": "sigmoid"},
    ],
)
def test_the_same_network_comes_back(model, options, tmp_path):
    net = small(model, **options)
    with torch.no_grad():
        net.rec.values.sub_(0.3)  # of both signs
    back = round_trip(net, tmp_path)
    assert type(back) is model
    assert_equal(net, back)
    for name in ("dt", "noise_level_act", "noise_level_inp", "rec_constrained", "inp_constrained", "batch_first", "spectral_radius", "backend", "seed", "dtype"):
        assert getattr(back, name) == getattr(net, name), name
    assert back.activation.name == net.activation.name
    assert back.describe({}) == net.describe({})


def test_everything_a_graph_says_comes_back(tmp_path):
    net = everything(integrator="exponential_euler")
    back = round_trip(net, tmp_path)
    assert_equal(net, back)
    assert (back.tau, back.integrator, back.dt) == (60.0, "exponential_euler", 5)
    a, b = net.graph, back.graph
    assert list(a) == list(b)
    assert a.name == b.name
    assert list(a.edges(keys=True)) == list(b.edges(keys=True))
    for name in a:
        for field in sm.Region.__dataclass_fields__:
            x, y = getattr(a.region(name), field), getattr(b.region(name), field)
            assert type(x) is type(y), (name, field)
            assert np.array_equal(x, y), (name, field)
    for p, q in zip(a.projections(), b.projections(), strict=True):
        assert (p.rule, p.initializer, p.sign, p.trainable, p.delay) == (q.rule, q.initializer, q.sign, q.trainable, q.delay)
        assert p.pair.exclude_self == q.pair.exclude_self
        assert (p.weights is None) == (q.weights is None)
        if p.weights is not None:
            torch.testing.assert_close(torch.tensor(p.weights.toarray(), dtype=torch.float32), torch.tensor(q.weights.toarray()))
    assert nx_frozen(b)
    back.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


def nx_frozen(graph):
    import networkx as nx

    return nx.is_frozen(graph)


def test_shared_gains_low_rank_and_what_a_region_learns(tmp_path):
    net = sharing()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for step in range(4):
        run(net, noise=True)
        optimizer.step()
        if step == 1:
            freeze(net, "exc", "inh", optimizer=optimizer)
            prune(net, 0.3, "exc", "free", "own", optimizer=optimizer)
    back = round_trip(net, tmp_path)
    assert_equal(net, back)
    assert back.rec.gain_names == net.rec.gain_names
    assert torch.equal(back.rec.gain_values(), net.rec.gain_values())
    assert back.rec.trained_gains.tolist() == net.rec.trained_gains.tolist()
    assert [p.requires_grad for p in back.rec.low_rank.left] == [True, False]
    assert back.time_constants == net.time_constants
    for p, q in zip(net.graph.projections(), back.graph.projections(), strict=True):
        assert (p.rank, p.rule, p.trainable) == (q.rank, q.rule, q.trainable)
        if p.share is not None:
            assert (p.share.by, p.share.gain, p.share.bounds) == (q.share.by, q.share.gain, q.share.bounds)
        if p.share is not None and p.share.labels is not None:
            assert q.share.labels.names == p.share.labels.names
            assert np.array_equal(q.share.labels.codes, p.share.labels.codes)
    assert back.graph.region("exc").tau_bounds == (15.0, None)
    back.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    again = sm.mRNN(back.graph, device="cpu", seed=3, dt=5, tau=60.0)  # the declaration is one, too
    assert again.rec.gain_names == net.rec.gain_names
    double = round_trip(net, tmp_path, dtype=torch.float64)
    torch.testing.assert_close(run(double)[0].float(), run(net)[0])


SHARED = {
    "a gain of another projection": (lambda t: t["state.rec.group"].fill_(0), "that are not its own"),
    "a group too many": (lambda t: t.update({"state.rec.group": torch.zeros(99, dtype=torch.int32)}), "group is not of the synapses"),
    "other bounds": (lambda t: t["state.rec.gain_low"].fill_(-9), "gain_low differs from the bounds"),
    "a slot twice": (lambda t: t["state.rec.gain_index"].fill_(0), "gain_index is not a permutation"),
    "a part of the gains": (lambda t: t["state.rec.gain_index"].copy_(t["state.rec.gain_index"].flip(0)), "gain_index trains a part"),
    "gains are missing": (lambda t: t.pop("state.rec.gains"), "gains"),
    "gains are too many": (lambda t: t.update({"state.rec.gains": torch.zeros(99)}), "frozen_gains"),
    "U of another rank": (lambda t: t.update({"state.rec.low_rank.left.0": torch.zeros(5, 3)}), r"left.0 has shape \(5, 3\)"),
    "U is missing": (lambda t: t.pop("state.rec.low_rank.left.0"), "the file lacks rec.low_rank.left.0"),
    "order": (lambda t: t["state.rec.order"].copy_(t["state.rec.order"].flip(0)), "do not follow|does not lie|not its own"),
}


@pytest.mark.parametrize("what", SHARED)
def test_shared_tensors_by_hand(tmp_path, what):
    sharing().save(tmp_path / "net")
    change, message = SHARED[what]
    rewritten(tmp_path / "net", tensors=change)
    with pytest.raises(SavedFileError, match=message):
        sm.load(tmp_path / "net")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(share="labels"),
        lambda s: s.update(share=3),
        lambda s: s.update(gain="x"),
        lambda s: s.update(gain_low=5.0),
        lambda s: s.update(rank=99),
        lambda s: s.update(share_labels=7),
        lambda s: s.pop("share", None) or s.pop("rank", None),
    ],
)
def test_shared_headers_by_hand(tmp_path, change):
    sharing().save(tmp_path / "net")

    def all_settings(header):
        for entry in header["network"]["projections"]["settings"]:
            change(entry)

    rewritten(tmp_path / "net", all_settings)
    with pytest.raises(SavedFileError):
        sm.load(tmp_path / "net")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["pos", "neg", None])), min_size=1, max_size=4),
    st.lists(st.integers(1, 3), max_size=2),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_network_comes_back(tmp_path_factory, seed, regions, inputs, density):
    g = sm.RegionGraph()
    for k, (n, sign) in enumerate(regions):
        g.add_region(f"r{k}", n, sign=sign, learnable_bias=k % 2 == 1, init=0.1 * k)
    for k, n in enumerate(inputs):
        g.add_input(f"i{k}", n)
        g.add_projection(f"i{k}", "r0", density=density)
    for k in range(len(regions)):
        g.add_projection(f"r{k}", f"r{(3 * k + 1) % len(regions)}", density=density, trainable=k % 3 != 1)
        g.add_projection(f"r{k}", f"r{k}", density=density, key="second", sign="neg" if k == 0 else "inherit")
    net = sm.mRNN(g, device="cpu", seed=seed)
    assert_equal(net, round_trip(net, tmp_path_factory.mktemp("net")))


def test_trained_frozen_pruned_and_rewired(tmp_path):
    net = everything()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(4):
        run(net, noise=True)
        optimizer.step()
        if step == 1:
            freeze(net, "inh", "inh", optimizer=optimizer)
            rewire(net, 0.4, "a b", "a b", optimizer=optimizer, seed=0)
            prune(net, 0.2, "free", "inh", optimizer=optimizer)
    net.bias.requires_grad_(False)
    back = round_trip(net, tmp_path)
    assert back.rec.projections == net.rec.projections
    assert back.rec.trainable_projections == net.rec.trainable_projections
    assert not back.bias.requires_grad
    assert_equal(net, back)
    assert back.time_constants == net.time_constants


def test_noise_begins_at_the_seed(tmp_path):
    net = small(sm.mRNN)
    net.reset_noise(17)
    run(net, noise=True)
    other = small(sm.mRNN)
    other.reset_noise(17)
    inp, x0 = torch.zeros(1, 5, 3), other.batched_initial_condition(1)[0]
    assert torch.equal(round_trip(net, tmp_path)(inp, x0, noise=True)[1], other(inp, x0, noise=True)[1])


def test_an_explicit_graph_has_its_trained_weights(tmp_path):
    g = sm.RegionGraph()
    g.add_region("a", 2, sign="neg")
    g.add_projection("a", "a", weights=np.array([[0, -1.0], [-2.0, 0]]))
    net = sm.mRNN(g, device="cpu")
    with torch.no_grad():
        net.rec.values.mul_(3)
    back = round_trip(net, tmp_path)
    assert next(back.graph.projections()).weights.toarray().tolist() == [[0, -3], [-6, 0]]
    again = sm.mRNN(back.graph, device="cpu")
    assert torch.equal(again.effective_W_rec.to_dense(), net.effective_W_rec.to_dense())


def test_classes_of_the_users_own_become_their_synapses(tmp_path):
    class Ring(sm.ConnectionRule):
        def expected(self, pair):
            return pair.n_target

        def sample(self, rng, pair):
            rows = np.arange(pair.n_target, dtype=np.int32)
            return rows, (rows + 1) % pair.n_target

    class Ones(sm.Constant):  # under the name of another
        def __call__(self, rng, synapses):
            return np.ones(len(synapses), dtype=np.float32)

    g = sm.RegionGraph()
    g.add_region("a", 4)
    g.add_projection("a", "a", rule=Ring())
    g.add_projection("a", "a", key="ones", fan_in=2, initializer=Ones(3.0))
    g.add_projection("a", "a", key="pairs", rule=sm.Explicit((0, 1), (1, 2)))
    net = sm.mRNN(g, device="cpu", seed=0)
    back = round_trip(net, tmp_path)
    assert_equal(net, back)
    assert all(p.rule is None and p.initializer is None and p.weights is not None for p in back.graph.projections())


def test_another_dtype_and_device(tmp_path):
    net = everything()
    double = round_trip(net, tmp_path, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert double.device.type == "cpu"
    torch.testing.assert_close(run(double)[0].float(), run(net)[0])
    assert torch.equal(double.rec.values.float(), net.rec.values)
    with pytest.raises(ConfigError, match="dtype"):
        sm.load(tmp_path / "net.safetensors", dtype=torch.float16)
    with pytest.raises(ConfigError, match="not a torch device"):
        sm.load(tmp_path / "net.safetensors", device="tpu9")


@pytest.mark.gpu
def test_saved_on_a_gpu_and_loaded_anywhere(tmp_path):
    net = small(sm.mRNN).to("cuda")
    net.save(tmp_path / "net.safetensors")
    assert sm.load(tmp_path / "net.safetensors").device.type == "cuda"
    on_cpu = sm.load(tmp_path / "net.safetensors", device="cpu")
    torch.testing.assert_close(run(on_cpu)[0], run(net)[0].cpu())


def test_an_activation_of_the_users_own_is_given_again(tmp_path):
    net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, activation=torch.sin, device="cpu")
    net.save(tmp_path / "net")
    with pytest.raises(SavedFileError, match=r"is a function, 'sin'.*load\(path, activation=sin\)"):
        sm.load(tmp_path / "net")
    back = sm.load(tmp_path / "net", activation=torch.sin, device="cpu")
    assert torch.equal(run(net)[0], run(back)[0])
    small(sm.mRNN).save(tmp_path / "net")
    with pytest.raises(SavedFileError, match="leave activation= out"):
        sm.load(tmp_path / "net", activation=torch.sin)


def test_state_dict_is_a_plain_one(tmp_path):
    net = everything()
    state = net.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    torch.save(state, tmp_path / "net.pt")
    other = everything(seed=9)
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert_equal(net, other, noise=False)


def test_tonic_input_that_was_set_by_hand_comes_back(tmp_path):
    net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, device="cpu", seed=0)
    net.base_firing.fill_(2.0)
    net = round_trip(net, tmp_path)
    assert run(net)[0].any()


@pytest.mark.parametrize("change", [{"rank": 10**9}, {"rank": 2.5}, {"rank": -1}])
def test_a_rank_that_promises_too_much(tmp_path, change):
    sharing().save(tmp_path / "net")

    def promise(header):
        next(s for s in header["network"]["projections"]["settings"] if "rank" in s).update(change)

    rewritten(tmp_path / "net", promise)
    with pytest.raises(SavedFileError, match="low_rank.left.0 has shape"):
        sm.load(tmp_path / "net")


# ---------------------------------------------------------------- what cannot be saved


def test_an_unfinalised_network_is_not_saved(tmp_path):
    net = sm.mRNN(device="cpu")
    net.add_recurrent_region("a", 2)
    with pytest.raises(FinalizeError, match="not finalised"):
        net.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_network_class_of_the_users_own_is_not_saved(tmp_path):
    class Mine(sm.mRNN):
        pass

    with pytest.raises(SavedFileError, match=r"Mine is a class of your own.*save_checkpoint"):
        small(Mine).save(tmp_path / "net")


def test_attributes_that_are_not_json_are_not_saved(tmp_path):
    net = small(sm.mRNN)
    net.graph.edges["ctx", "ctx", "default"]["note"] = object()
    with pytest.raises(SavedFileError, match=r"'ctx' -> 'ctx'.*note is a object"):
        net.save(tmp_path / "net")
    net.graph.edges["ctx", "ctx", "default"]["note"] = "by hand"
    assert round_trip(net, tmp_path).graph.edges["ctx", "ctx", "default"]["note"] == "by hand"


# ---------------------------------------------------------------- whole or not at all


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    small(sm.mRNN).save(path)
    before = path.read_bytes()

    def interrupted(tensor):
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_file, "content_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        everything().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    code = """
import resource, signal, sys
from helpers.networks import small
import sparse_mrnn as sm
small(sm.mRNN).save(sys.argv[1])
net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 200}], "recurrent_connections": [{"src_region": "a", "dst_region": "a"}]}, device="cpu")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the system refuses to write more, as a full disk does
try:
    net.save(sys.argv[1])
except sm.errors.SavedFileError as error:
    print(error)
print(sm.load(sys.argv[1], device="cpu").hid_regions)
"""
    said = Child(code, tmp_path / "net").rest()
    assert "cannot write" in said
    assert "File too large" in said
    assert said.endswith("['ctx', 'spine', 'thal']\n")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3])
def test_a_killed_save_leaves_a_whole_file(tmp_path, delay):
    code = """
import sys
from helpers.networks import small
import sparse_mrnn as sm
net = small(sm.mRNN)
net.save(sys.argv[1])
print("saved", flush=True)
while True:
    net.save(sys.argv[1])
"""
    child = Child(code, tmp_path / "net")
    assert child.stdout.readline() == "saved\n"
    time.sleep(delay)
    child.kill()
    assert not child.rest()
    assert sm.load(tmp_path / "net", device="cpu").hid_regions == ["ctx", "spine", "thal"]
    small(sm.mRNN).save(tmp_path / "net")  # what the killed one left beside it is in nobody's way
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_what_is_beside_a_file_stays(tmp_path):
    path = tmp_path / "net"
    (tmp_path / "net.partial").mkdir()
    (tmp_path / "net.partial" / "thesis.tex").write_text("mine")
    with pytest.raises(SavedFileError, match="cannot write"):
        small(sm.mRNN).save(path)
    assert (tmp_path / "net.partial" / "thesis.tex").read_text() == "mine"


def test_a_link_is_followed_and_the_file_can_be_read_by_others(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "net")
    small(sm.mRNN).save(tmp_path / "link")
    (tmp_path / "plain").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "net").stat().st_mode == (tmp_path / "plain").stat().st_mode
    small(sm.mRNN).save(str(tmp_path / "net"))
    assert sm.load(tmp_path / "link", device="cpu").hid_regions == ["ctx", "spine", "thal"]


def test_numbers_of_numpy(tmp_path):
    options = {"dt": np.float32(5), "tau": np.int64(40), "noise_level_act": np.float64(0.5), "seed": np.int64(3)}
    net = small_with(spectral_radius={"brain": np.float64(0.5)}, **options)
    back = round_trip(net, tmp_path)
    assert (back.dt, back.tau, back.noise_level_act, back.seed, back.spectral_radius) == (5, 40, 0.5, 3, {"brain": 0.5})
    sm.to_config(net)
    sm.save_checkpoint(tmp_path / "run", net, step=np.int64(4))
    assert sm.load_checkpoint(tmp_path / "run", net) == 4


def small_with(**options):
    g = small(sm.mRNN).graph.copy()
    return sm.mRNN(g, device="cpu", **options)


def test_a_backend_that_is_not_installed(tmp_path, monkeypatch):
    small(sm.mRNN).save(tmp_path / "net")
    rewritten(tmp_path / "net", lambda header: header["network"]["settings"].update(backend="torch_sparse"))
    monkeypatch.setattr("sparse_mrnn.ops.products.torch_sparse.available", lambda: False)
    assert sm.load(tmp_path / "net", device="cpu").backend == "auto"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SavedFileError, match="cannot write .*No such file"):
        small(sm.mRNN).save(tmp_path / "nowhere" / "net")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SavedFileError, match="cannot write"):
        small(sm.mRNN).save(tmp_path / "folder")


# ---------------------------------------------------------------- files that are something else


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.safetensors"
    everything().save(path)
    return path


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/sparse_mrnn_was_here",)


def kinds(path):
    """Files of other kinds, by a part of the message each gets."""
    yield "does not exist", None
    yield "is not a file", "folder"
    yield "torch.save or pickle", lambda: torch.save({"W_rec": torch.zeros(2, 2)}, path)
    yield "torch.save or pickle", lambda: path.write_bytes(pickle.dumps(Evil()))
    yield "it is JSON", lambda: path.write_text('{"recurrent_regions": []}')
    yield "HDF5", lambda: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    yield "of other software", lambda: save_file({"a": torch.zeros(2)}, path)
    yield "damaged", lambda: save_file({"a": torch.zeros(2)}, path, {KEY: "{"})
    yield "damaged", lambda: save_file({"a": torch.zeros(2)}, path, {KEY: "[" * 100_000})
    yield "damaged", lambda: save_file({"a": torch.zeros(2)}, path, {KEY: "[1]"})
    yield "something else", lambda: save_file({"a": torch.zeros(2)}, path, {KEY: '{"format": "theirs"}'})
    yield "load_checkpoint", lambda: save_file({"a": torch.zeros(2)}, path, {KEY: '{"format": "sparse-mrnn checkpoint"}'})
    yield "cut short, damaged", lambda: path.write_bytes(b"")
    yield "cut short, damaged", lambda: path.write_bytes(os.urandom(1000))


@pytest.mark.parametrize("k", range(14))
def test_files_of_another_kind(tmp_path, k):
    path = tmp_path / "file"
    message, make = list(kinds(path))[k]
    if make == "folder":
        path.mkdir()
    elif make is not None:
        make()
    with pytest.raises(SavedFileError, match=message) as caught:
        sm.load(path)
    assert str(path) in str(caught.value)
    assert not Path("/tmp/sparse_mrnn_was_here").exists()


def test_truncated_or_changed_anywhere(saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    for cut in [0, 1, 8, 9, len(whole) - 1, *rng.integers(0, len(whole), 15).tolist()]:
        saved.write_bytes(whole[:cut])
        with pytest.raises(SavedFileError):
            sm.load(saved)
    saved.write_bytes(whole + b"\0")
    with pytest.raises(SavedFileError):
        sm.load(saved)
    for at in rng.integers(0, len(whole), 150).tolist():
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        saved.write_bytes(changed)
        with pytest.raises(SavedFileError):
            sm.load(saved)


@pytest.mark.parametrize("version", [2, 0, -1])
def test_another_version(saved, version):
    rewritten(saved, lambda header: header.update(version=version, versions={"sparse_mrnn": "9.9"}))
    with pytest.raises(SavedFileError, match=rf"another sparse_mrnn 9\.9.*version {version}, and this one reads version 1"):
        sm.load(saved)


@pytest.mark.parametrize("version", [None, "1", True, 1.0])
def test_a_version_that_is_no_number(saved, version):
    rewritten(saved, lambda header: header.update(version=version))
    with pytest.raises(SavedFileError, match="damaged: its version"):
        sm.load(saved)


# ---------------------------------------------------------------- files put together by hand, with a right digest


HEADERS = {
    "another class": lambda h: h["network"]["settings"].update(model="none"),
    "code as a class": lambda h: h["network"]["settings"].update(model="os.system"),
    "unknown key": lambda h: h.update(more=1),
    "missing key": lambda h: h.pop("network"),
    "graph is a list": lambda h: h.update(network=[]),
    "unknown setting": lambda h: h["network"]["settings"].update(config="/etc/passwd"),
    "setting of another type": lambda h: h["network"]["settings"].update(dt="10"),
    "setting out of range": lambda h: h["network"]["settings"].update(tau=-1),
    "unknown dtype": lambda h: h["network"]["settings"].update(dtype="float16"),
    "dtype of other tensors": lambda h: h["network"]["settings"].update(dtype="float64"),
    "unknown activation": lambda h: h["network"]["settings"].update(activation="eval"),
    "activation is a list": lambda h: h["network"]["settings"].update(activation=["relu"]),
    "no activation": lambda h: h["network"]["settings"].pop("activation"),
    "huge region": lambda h: h["network"]["regions"][1].update(n=10**15),
    "negative region": lambda h: h["network"]["regions"][1].update(n=-4),
    "text for a size": lambda h: h["network"]["regions"][1].update(n="4"),
    "name is a number": lambda h: h["network"]["regions"][1].update(name=7),
    "name twice": lambda h: h["network"]["regions"][1].update(name="cue"),
    "other sign": lambda h: h["network"]["regions"][2].update(sign="pos"),
    "unknown region field": lambda h: h["network"]["regions"][1].update(colour="red"),
    "array that is not there": lambda h: h["network"]["regions"][1].update(positions={"array": "9.positions"}),
    "projection out of range": lambda h: h["network"]["projections"]["source"].__setitem__(0, 99),
    "projection less": lambda h: [h["network"]["projections"][name].pop() for name in ("source", "target", "setting")],
    "lengths differ": lambda h: h["network"]["projections"]["target"].pop(),
    "projection into an input": lambda h: h["network"]["projections"]["target"].__setitem__(0, 0),
    "projection elsewhere": lambda h: h["network"]["projections"]["target"].__setitem__(1, 4),
    "unknown rule": lambda h: h["network"]["projections"]["settings"][0].update(rule={"type": "import os"}),
    "negative delay": lambda h: h["network"]["projections"]["settings"][0].update(delay=-5),
    "no key": lambda h: h["network"]["projections"]["settings"][0].pop("key"),
    "noise seeds": lambda h: h.update(noise_seeds=[1]),
    "not trained": lambda h: h.update(not_trained=["nothing"]),
    "no model": lambda h: h["network"]["settings"].pop("model"),
    "a list of settings": lambda h: h["network"].update(settings=[]),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_by_hand(saved, what):
    rewritten(saved, HEADERS[what])
    with pytest.raises(SavedFileError) as caught:
        sm.load(saved)
    assert str(saved) in str(caught.value)


def set_entry(name, index, value):
    return lambda t: t[f"state.{name}"].__setitem__(index, value)


TENSORS = {
    "a column too far": (set_entry("rec.col", 0, 9), "col has a number outside of 0..8"),
    "a negative column": (set_entry("rec.col", 0, -1), "col has a number outside"),
    "crow falls": (set_entry("rec.crow", 1, 30), "crow does not rise"),
    "crow starts late": (set_entry("rec.crow", 0, 1), "crow does not rise"),
    "ptr falls": (set_entry("rec.ptr", 1, 40), "ptr does not rise"),
    "perm repeats": (lambda t: t["state.rec.perm"].fill_(0), "perm is not a permutation"),
    "order repeats": (lambda t: t["state.rec.order"].fill_(0), "order is not a permutation"),
    "other order": (lambda t: t["state.rec.order"].copy_(t["state.rec.order"].flip(0)), "does not lie between its regions"),
    "perm is mixed": (lambda t: t["state.rec.perm"].copy_(t["state.rec.perm"].flip(0)), "does not lie between|not in order"),
    "a sign": (set_entry("rec.sign", 0, -1), "sign differs from that of region 'a b'"),
    "a synapse's sign": (lambda t: t["state.rec.synapse_sign"].neg_(), "synapse_sign differs"),
    "no synapse signs": (lambda t: t.pop("state.rec.synapse_sign"), "synapse_sign is there exactly where"),
    "columns are floats": (lambda t: t.update({"state.rec.col": t["state.rec.col"].float()}), "col is float32.*int32"),
    "values are doubles": (lambda t: t.update({"state.rec.values": t["state.rec.values"].double()}), "values is float64"),
    "values are integers": (lambda t: t.update({"state.rec.values": t["state.rec.values"].int()}), "values is int32"),
    "values are too few": (lambda t: t.update({"state.rec.values": t["state.rec.values"][1:]}), "shape"),
    "values in two dimensions": (lambda t: t.update({"state.rec.values": t["state.rec.values"][None]}), "shape"),
    "bias is too long": (lambda t: t.update({"state.bias": torch.zeros(99)}), "bias has shape"),
    "an entry is missing": (lambda t: t.pop("state.initial_x"), "the file lacks initial_x"),
    "an entry more": (lambda t: t.update({"state.evil": torch.zeros(1)}), "the network lacks evil"),
    "crow is missing": (lambda t: t.pop("state.rec.crow"), "crow"),
    "no values": (lambda t: t["state.rec.values"].resize_(0), "col is int32 of shape"),
    "unit ids are no JSON": (lambda t: t["graph.1.unit_ids"].fill_(0), "damaged"),
    "positions of another shape": (lambda t: t.update({"graph.2.positions": torch.zeros(7)}), "positions"),
}


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_by_hand(saved, what):
    change, message = TENSORS[what]
    rewritten(saved, tensors=change)
    with pytest.raises(SavedFileError, match=message) as caught:
        sm.load(saved)
    assert str(saved) in str(caught.value)


def test_a_trainable_boundary_within_a_projection(saved):
    def move(tensors):
        values, frozen = tensors["state.rec.values"], tensors["state.rec.frozen"]
        tensors["state.rec.values"], tensors["state.rec.frozen"] = values[:-1], torch.cat([values[-1:], frozen])

    rewritten(saved, tensors=move)
    with pytest.raises(SavedFileError, match="ends within a projection"):
        sm.load(saved)


def test_a_header_that_promises_too_much(tmp_path):
    """The size of a tensor is checked against that of the file before anything is allocated."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path = tmp_path / "net"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(SavedFileError, match="cut short"):
        sm.load(path)
    path.write_bytes(struct.pack("<Q", 2**62) + header)
    with pytest.raises(SavedFileError, match="cut short"):
        sm.load(path)
