"""What each rank of tests/distributed does; its processes import this."""

import contextlib
import datetime
import importlib.util
import json
import os
import resource
import signal
import threading
import time
import traceback
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import sparse_mrnn as sm
import sparse_mrnn.connectome
import sparse_mrnn.data
import sparse_mrnn.fly_vision
from sparse_mrnn.distributed import ShardedRNN, entries, estimate, load_checkpoint, save_checkpoint, simulate
from sparse_mrnn.distributed.streaming import ShardedSimulator
from sparse_mrnn.errors import (
    ConfigError,
    DistributedError,
    DivergenceError,
    RecordingError,
    ResumeError,
    SavedFileError,
    ShapeError,
    SimulationStopped,
    TrainingError,
)
from sparse_mrnn.files.tensors import SHARDED_CHECKPOINT, read_tensors, write_tensors
from sparse_mrnn.interop import open_sonata, read_sonata, sonata_edges
from sparse_mrnn.recording.store import ZarrStore
from sparse_mrnn.simulation import plan
from sparse_mrnn.simulation.run import Run
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.training import truncated


class RankPool:
    """Processes that find each other by a file and run functions of this module together."""

    def __init__(self, size, folder, timeout=30):
        context = mp.get_context("spawn")
        self.tasks = [context.SimpleQueue() for _ in range(size)]
        self.results = context.Queue()
        path = str(folder / "store")
        self.processes = [context.Process(target=_work, args=(rank, size, path, timeout, self.tasks[rank], self.results), daemon=True) for rank in range(size)]
        for process in self.processes:
            process.start()

    def run(self, function, *args, expected=None):
        """Run a function on all ranks, or those ``expected`` to come to its end."""
        for tasks in self.tasks:
            tasks.put((function, args))
        for _ in range(len(self.tasks) if expected is None else expected):
            failure = self.results.get(timeout=90)
            assert failure is None, failure

    def close(self):
        for process in self.processes:
            process.kill()
            process.join()


def _work(rank, size, path, timeout, tasks, results):
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
    store = dist.FileStore(path, size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=timeout))
    while True:
        function, args = tasks.get()
        try:
            function(rank, size, *args)
            results.put(None)
        except BaseException:
            results.put(f"rank {rank}: {traceback.format_exc()}")


# ---------------------------------------------------------------- networks


def random_graph(seed, *, delays=False, between=None):
    """A random graph with every way of sharing parameters, signs, rules, frozen and explicit projections.

    ``between``: least delay of projections between two of its regions, in steps of 10 ms.
    """
    rng = np.random.default_rng(seed)
    g = sm.RegionGraph()
    names = [f"r{k}" for k in range(int(rng.integers(3, 7)) if between is None else 5)]
    for k, name in enumerate(names):
        n = int(rng.integers(3, 14))
        g.add_region(
            name, n, sign=["pos", "neg", None][rng.integers(3)],
            base_firing=rng.normal() if k % 2 else rng.normal(size=n), init=rng.normal(),
            learnable_bias=[False, "unit", "region"][rng.integers(3)] if k % 2 else True,
            learnable_init=[False, True, "region"][rng.integers(3)],
            activation=[None, "tanh", "sigmoid"][rng.integers(3)], tau=[None, 50.0][rng.integers(2)],
            learnable_tau=bool(rng.integers(2)), noise_level=[None, 0.3][rng.integers(2)],
            parent_region="all" if k < 2 else None,
        )
    g.add_input("cue", 3)
    g.add_input("go", 2, sign="neg")
    for source in names:
        for target in names:
            if rng.random() < 0.3:
                continue
            delay = float(rng.integers(1, 5) * 10) if delays and rng.random() < 0.6 else None
            if between is not None and source != target:
                delay = 10.0 * float(rng.integers(between, between + 3))
            kind = rng.integers(5)
            n, m = g.region(target).n, g.region(source).n
            if kind == 0:
                g.add_projection(source, target, density=0.4, delay=delay)
            elif kind == 1:
                g.add_projection(source, target, fan_in=min(3, m), delay=delay, trainable=False)
            elif kind == 2:
                weights = rng.uniform(0.1, 1, (n, m)) * (rng.random((n, m)) < 0.4)
                g.add_projection(source, target, weights=weights, sign="pos", share="source", delay=delay)
            elif kind == 3:
                g.add_projection(source, target, density=0.5, share="everywhere" if source == names[0] else "target", initializer=sm.Gamma(), sign="pos", delay=delay)
            else:
                g.add_projection(source, target, fan_in=2, sign="free", initializer=sm.Normal(0.5), self_connections=False, delay=delay)
    g.add_projection("cue", names[0], density=0.7, delay=20.0 if delays else None)
    g.add_projection("go", names[-1], share="projection", initializer=sm.Gamma())
    return g


# ---------------------------------------------------------------- comparing


def compare(net, whole, *, batch=2, steps=7, noise=True, checkpoint_steps=None, given_h0=False, tolerance=1e-12):
    """Values and every gradient of a sharded network against those of the whole."""
    dtype = whole.dtype
    rng = torch.Generator().manual_seed(5)
    n, n_inputs = whole.layout().n, whole.layout("input").n
    inp = torch.randn(batch, steps, n_inputs, generator=rng, dtype=dtype).requires_grad_()
    stim = torch.randn(batch, steps, n, generator=rng, dtype=dtype)
    to_x, to_h = (torch.randn(batch, steps, n, generator=rng, dtype=dtype) for _ in range(2))
    own_inp, own_stim = inp.detach().clone().requires_grad_(), net.take(stim).requires_grad_()
    stim.requires_grad_()
    options = dict(noise=noise, checkpoint_steps=checkpoint_steps)
    x0, h0 = whole.batched_initial_condition(batch)
    own_x0, own_h0 = net.batched_initial_condition(batch)
    if isinstance(whole, sm.ElmanmRNN):  # h alone, from h0
        x = h = whole(inp, h0, stim, **options)
        own_x = own_h = net(own_inp, own_h0, stim_input=own_stim, **options)
    else:
        x, h = whole(inp, x0, h0 if given_h0 else None, stim, **options)
        own_x, own_h = net(own_inp, own_x0, own_h0 if given_h0 else None, own_stim, **options)

    close = closer(tolerance)
    close(own_x, net.take(x), "x")
    close(own_h, net.take(h), "h")
    close(net.gather(own_h), h, "gathered h")
    (x * to_x + h * to_h).sum().backward()
    ((own_x * net.take(to_x)).sum() + (net.gather(own_h) * to_h).sum()).backward()
    close(own_inp.grad, inp.grad, "gradient of the inputs")
    close(own_stim.grad, net.take(stim.grad), "gradient of the currents")
    compare_gradients(net, whole, close)


def some_regions(net, whole, tolerance):
    """Regions alone, with checkpoint_steps="auto", from the initial condition: as of the whole network."""
    names = [whole.hid_regions[-1], whole.hid_regions[0]]
    inp = torch.ones(2, 6, whole.layout("input").n, dtype=whole.dtype)
    options = dict(regions=names, checkpoint_steps="auto")
    found, wanted = net(inp, **options), whole(inp, **options)
    if isinstance(whole, sm.ElmanmRNN):
        found, wanted = (found,), (wanted,)
    units = whole.layout().indices(*names)
    own = torch.from_numpy(np.flatnonzero(np.isin(units, net.own_units)))
    for mine, all_of in zip(found, wanted, strict=True):
        closer(tolerance)(mine, all_of[..., own], "some regions")


def closer(tolerance):
    """What asserts that tensors are equal up to a tolerance, relative to the largest entry where that is above 1."""

    def close(found, expected, what, largest=0.0):
        found, expected = found.detach().double(), expected.detach().double()
        scale = max(1.0, largest, float(expected.abs().max()) if expected.numel() else 1.0)
        error = float((found - expected).abs().max()) / scale if found.numel() else 0.0
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        assert error <= tolerance, f"{what}: {error:.1e}"

    return close


def compare_gradients(net, whole, close):
    """Every parameter's gradient of a sharded network against that of the whole."""
    n, dtype = whole.layout().n, whole.dtype
    shard, units = net.shard, net.own_units
    for part, sources in ((shard.own, units), (shard.cut, shard.halo_units), (shard.inputs, None)):
        weights = whole.weights(part.kind)
        if part.gains is not None:
            close(part.gains.grad, weights.gains.grad, f"gradient of {part.kind} gains")
        expected = _by_synapse(weights, np.arange(n), None)
        found = _by_synapse(part, units, sources)
        assert all(len(values) == len(expected[key]) for key, values in found.items())
        own, others = ([g for key in found for g in gradients[key]] for gradients in (found, expected))
        largest = max((abs(g) for gradients in expected.values() for g in gradients), default=0.0)
        own, others = (torch.tensor(gradients, dtype=torch.float64) for gradients in (own, others))
        close(own, others, f"gradient of {part.kind} weights", largest)
    for name in ("bias", "init"):
        own, all_of = getattr(net.units, name), getattr(whole, name)
        if own is not None and all_of.grad is not None:
            expected = torch.zeros(n, dtype=dtype)
            expected[getattr(whole, f"{name}_units")] = all_of.grad[getattr(whole, f"{name}_of")]
            found = own.grad[getattr(net.units, f"{name}_of")]
            close(found, net.take(expected)[getattr(net.units, f"{name}_units")], f"gradient of {name}")
    if net.units.tau_logit is not None:
        expected = torch.zeros(n, dtype=dtype)
        expected[whole.alpha_units] = whole.tau_logit.grad[whole.alpha_of]
        close(net.units.tau_logit.grad[net.units.alpha_of], net.take(expected)[net.units.alpha_units], "gradient of tau")


def _by_synapse(weights, rows, sources):
    """Gradients of trained synapses by (projection, target, source); parallel ones in order."""
    table, found = weights.table(), {}
    if weights.values.grad is None:
        assert weights.values.numel() == 0
        return found
    projection = np.repeat(np.arange(len(table.projections)), table.lengths.numpy())
    n = table.trainable_synapses
    col = table.col.numpy() if sources is None else sources[table.col.numpy()]
    for p, i, j, g in zip(projection[:n], rows[table.row.numpy()[:n]], col[:n], weights.values.grad.tolist(), strict=True):
        found.setdefault((*table.projections[p], int(i), int(j)), []).append(g)
    return found


# ---------------------------------------------------------------- cases


def random_cases(rank, size, seeds):
    for seed in seeds:
        delays = seed % 2 == 1
        g = random_graph(seed, delays=delays)
        model, settings = ("elman", {"dt": 10.0}) if seed % 5 == 4 else ("leaky", {})
        if model == "elman":
            for region in g.regions():
                g.nodes[region.name]["learnable_tau"] = False
        dtype, tolerance = (torch.float32, 1e-5) if seed % 7 == 6 else (torch.float64, 1e-12)
        ways = ["balanced", np.random.default_rng(seed).permutation(np.arange(g.n_units) % size)]
        ways += ["regions"] if len(g.regions()) >= size else []
        ways += ["metis"] if seed % 3 == 0 and importlib.util.find_spec("pymetis") else []
        for way in ways:
            options = dict(seed=seed, dtype=dtype, device="cpu", noise_level_act=0.2, noise_level_inp=0.1, **settings)
            whole = {"leaky": sm.mRNN, "elman": sm.ElmanmRNN}[model](g, backend="csr", **options)
            net = ShardedRNN(g, model=model, partition=way, **options)
            for every, h0 in ((None, False), (3, True)):
                whole.zero_grad(), net.zero_grad()
                compare(net, whole, checkpoint_steps=every, given_h0=h0, tolerance=tolerance)
            some_regions(net, whole, tolerance)


def connectome(rank, size, name, path):
    if name == "flyvis":
        graph = sm.fly_vision.read_flyvis(path, extent=2, share=True)[0]
    else:
        graph = sm.read_config(sm.data.example_path(name)).without_electrical()
    for dtype, tolerance, way in ((torch.float64, 1e-12, "balanced"), (torch.float32, 1e-5, "regions")):
        options = dict(seed=0, dtype=dtype, device="cpu", dt=1.0, tau=20.0)
        whole, net = sm.mRNN(graph, backend="csr", **options), ShardedRNN(graph, partition=way, **options)
        compare(net, whole, batch=1, steps=10, tolerance=tolerance)
        halo = net.ranks.gather(net.shard.halo.n)
        assert 0 < max(halo) < graph.n_units


def read_by_rows(rank, size, folder):
    """A network of a file of which each rank reads bands with its own rows: as read whole."""
    whole, stored = read_sonata(folder)[0], open_sonata(folder)
    options = dict(seed=0, dtype=torch.float64, device="cpu")
    reading, bands = sonata_edges.StoredEdges._read, set()
    sonata_edges.StoredEdges._read = lambda self, band: bands.add(band) or reading(self, band)
    net = ShardedRNN(stored, **options)
    sonata_edges.StoredEdges._read = reading
    assert bands == set((net.own_units // sonata_edges.BAND_ROWS).tolist())
    assert size == 1 or len(bands) < -(-whole.n_units // sonata_edges.BAND_ROWS)
    compare(net, sm.mRNN(whole, backend="csr", **options), noise=False, steps=4)


def large(rank, size):
    """Bands of rows that no rank draws whole, and the compiled step."""
    g = sm.RegionGraph()
    for k in range(4):
        g.add_region(f"r{k}", 5000, sign=None)
    for k in range(4):
        g.add_projection(f"r{k}", f"r{k}", fan_in=2)
        g.add_projection(f"r{k}", f"r{(k + 1) % 4}", rule=sm.FixedNumber(2000))
    options = dict(seed=3, device="cpu", activation="tanh")
    compare(ShardedRNN(g, **options), sm.mRNN(g, backend="csr", **options), noise=False, steps=4, tolerance=1e-5)


def trained(rank, size):
    """Some steps of Adam: shared parameters stay alike, and the loss is that of the whole."""
    g = random_graph(2)
    options = dict(seed=1, dtype=torch.float64, device="cpu")
    whole, net = sm.mRNN(g, backend="csr", **options), ShardedRNN(g, **options)
    inp, losses = torch.ones(2, 5, g.n_inputs, dtype=torch.float64), {}
    for name, model in (("whole", whole), ("sharded", net)):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        losses[name] = []
        for _ in range(5):
            optimiser.zero_grad()
            loss = (model(inp, model.batched_initial_condition(2)[0])[1] ** 2).sum()
            loss.backward()
            optimiser.step()
            losses[name].append(float(loss.detach()))
    total = np.sum(net.ranks.gather(losses["sharded"]), axis=0)
    np.testing.assert_allclose(total, losses["whole"], rtol=1e-11)
    for part in (net.shard.own, net.shard.inputs):
        if part.gains is not None:
            every = net.ranks.gather(part.gains.tolist())
            assert all(one == every[0] for one in every)


class Trained:
    """A sharded network with a decoder, alike on all ranks, and their optimiser."""

    def __init__(self, number, kind="Adam", **options):
        self.graph = random_graph(number, delays=number % 2 == 1)
        net = ShardedRNN(self.graph, **{**dict(seed=number, dtype=torch.float64, device="cpu", noise_level_act=0.1), **options})
        torch.manual_seed(number)
        decoder = torch.nn.Linear(net.layout.n, 2, dtype=torch.float64)
        self.module, self.net, self.decoder = torch.nn.ModuleDict({"net": net, "decoder": decoder}), net, decoder
        if kind == "SGD":  # two groups, each with options of its own
            groups = [{"params": net.parameters()}, {"params": decoder.parameters(), "lr": 0.001}]
            self.optimizer = torch.optim.SGD(groups, lr=0.003, momentum=0.9)
        else:
            self.optimizer = getattr(torch.optim, kind)(self.module.parameters(), lr=0.003)

    def train(self, steps):
        inp = torch.ones(2, 5, self.net.n_inputs, dtype=torch.float64)
        losses = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            h = self.net(inp, self.net.batched_initial_condition(2)[0], noise=True)[1]
            loss = ((self.decoder(self.net.gather(h)) - 1) ** 2).mean()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def numbers(self):
        """Everything that a checkpoint must not change when it is refused."""
        moments = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        noise = self.net.units.noise_state()
        return [t.detach().clone() for t in [*self.module.parameters(), *moments, noise.inputs, noise.units]]


OPTIMISERS = ["Adam", "SGD", "AdamW", "RMSprop", "Adagrad"]


def saved_in_the_middle(rank, size, folder, seeds):
    """Checkpoints after five steps, in many pieces, and what the next five give."""
    entries.PIECE = 7
    for seed, kind in zip(seeds, OPTIMISERS, strict=True):
        trained = Trained(seed, kind)
        trained.train(5)
        save_checkpoint(folder / f"{seed}", trained.module, trained.optimizer, step=5)
        losses = trained.train(5)
        save_checkpoint(folder / f"{seed}.end", trained.module, trained.optimizer, step=10)
        if rank == 0:
            (folder / f"{seed}.json").write_text(json.dumps(losses))


def goes_on(rank, size, folder, seeds, exactly):
    """Any number of ranks goes on to the same losses, parameters and moments."""
    for seed, kind in zip(seeds, OPTIMISERS, strict=True):
        way = "balanced" if exactly else np.random.default_rng(seed).permutation(np.arange(random_graph(seed).n_units) % size)
        trained = Trained(seed, kind, partition=way)
        if kind == "SGD":
            trained.optimizer.param_groups[0]["lr"] = 1.0  # the file's counts
        assert load_checkpoint(folder / f"{seed}", trained.module, trained.optimizer) == 5
        losses, expected = trained.train(5), json.loads((folder / f"{seed}.json").read_text())
        own = folder / f"{seed}.{size}"
        save_checkpoint(own, trained.module, trained.optimizer, step=10)
        (then, now) = (read_tensors(path, SHARDED_CHECKPOINT) for path in (folder / f"{seed}.end", own))
        assert then[0] | {"ranks": 0} == now[0] | {"ranks": 0}
        assert then[1].keys() == now[1].keys()
        np.testing.assert_allclose(losses, expected, rtol=0 if exactly else 1e-11)
        for name, tensor in then[1].items():
            assert tensor.numel() == 0 or tensor.dtype == torch.uint8 or bool(tensor.any()), name
            torch.testing.assert_close(now[1][name], tensor, rtol=0 if exactly else 1e-11, atol=0 if exactly else 1e-11)


def of_values(header):
    return header["optimizer"]["state"]["recurrent.values"]


FORGED = {
    "no state": lambda header, tensors: header["optimizer"].update(state=3),
    "type": lambda header, tensors: of_values(header)["exp_avg"].update(like="float"),
    "number": lambda header, tensors: of_values(header)["step"].update(number=[1, [2]]),
    "options": lambda header, tensors: header["optimizer"].update(options=[5]),
    "tensor": lambda header, tensors: tensors.pop("parameter.recurrent.values"),
    "shape": lambda header, tensors: tensors.update({"parameter.recurrent.values": torch.zeros(1, dtype=torch.float64)}),
    "noise": lambda header, tensors: tensors["noise.units"].fill_(255),
}
"""Files put together by hand, with a digest that is right."""


def refused_checkpoints(rank, size, folder):
    """Each with a message of its own, on every rank; nothing changes, and nobody waits."""
    path, trained = folder / "run", Trained(0)
    trained.train(2)
    save_checkpoint(path, trained.module, trained.optimizer)
    content = path.read_bytes()
    save_checkpoint(folder / "bare", trained.module)
    if rank == 0:
        damaged = bytearray(content)
        damaged[-9] ^= 1
        (folder / "damaged").write_bytes(damaged)
        (folder / "cut").write_bytes(content[:-100])
        sm.mRNN(trained.graph, seed=0, device="cpu").save(folder / "network")
        for name, change in FORGED.items():
            header, stored = read_tensors(path, SHARDED_CHECKPOINT)
            tensors = dict(stored)
            change(header, tensors)
            write_tensors(folder / name, SHARDED_CHECKPOINT, {k: v for k, v in header.items() if k not in ("format", "version")}, tensors)
    dist.barrier()
    trained.train(1)

    def refused(text, function, other=trained):
        before = other.numbers()
        with pytest.raises(SavedFileError) as found:
            function()
        assert text in str(found.value), str(found.value)
        after = other.numbers()
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def load(name="run", other=trained, optimizer=None):
        return lambda: load_checkpoint(folder / name, other.module, optimizer or other.optimizer)

    refused("does not agree with its digest", load("damaged"))
    refused("is not a checkpoint of ranks", load("cut"))
    refused("it is a saved network; read it with sparse_mrnn.load", load("network"))
    refused("does not exist", load("nowhere"))
    refused("is damaged: optimizer.state", load("no state"))
    refused("is of unknown type 'float'", load("type"))
    refused("cannot be loaded", load("number"))
    refused("cannot be loaded", load("options"))
    refused("it has no parameter.recurrent.values", load("tensor"))
    refused("its parameter.recurrent.values is torch.float64 of shape (1,), and here", load("shape"))
    refused("the noise cannot go on", load("noise"))
    refused("it has no optimiser", load("bare"))
    for text, other in (("this is another network: settings.seed: 0 then, 1 now", Trained(0, seed=1)), ("settings.tau: 100 then, 70.0 now", Trained(0, tau=70.0))):
        refused(text, load(other=other), other)
    refused("this is another optimiser: class: \"Adam\" then, \"SGD\" now", load(optimizer=torch.optim.SGD(trained.module.parameters())))
    refused("this is another optimiser: parameters", load(optimizer=torch.optim.Adam(trained.net.parameters())))
    changed = Trained(0)
    changed.net.shard.own.frozen.mul_(1.001)
    refused("fixed recurrent weights", load(other=changed), changed)
    refused("is not in net", lambda: save_checkpoint(path, trained.net, trained.optimizer))
    changed.optimizer.state[changed.decoder.bias]["factors"] = torch.zeros(2, 2)
    refused("has shape (2, 2) for a parameter of (2,)", lambda: save_checkpoint(path, changed.module, changed.optimizer))
    refused("with 0 sharded networks", lambda: save_checkpoint(path, trained.decoder))
    with torch.no_grad():
        changed.decoder.bias.add_(rank)
    refused("parameter.module.decoder.bias of rank 1 is not that of rank 0", lambda: save_checkpoint(path, changed.module))
    apart = Trained(0)
    apart.optimizer.param_groups[0]["lr"] = 0.1 + rank
    refused("rank 1 and rank 0 differ in the optimiser's", lambda: save_checkpoint(path, apart.module, apart.optimizer))
    refused("cannot write", lambda: save_checkpoint(folder / "none" / "run", trained.module, trained.optimizer))
    with files_of_at_most(len(content) // 2):
        refused("File too large. What was there before is unchanged", lambda: save_checkpoint(path, trained.module, trained.optimizer))
    assert path.read_bytes() == content
    assert load()() == 0


@contextlib.contextmanager
def files_of_at_most(size):
    """The system refuses to write more into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def graphs_of_little():
    """Networks that have no inputs, no trained synapses, only gains, or only low rank."""
    for inputs, rec in ((False, {}), (True, {"trainable": False}), (True, {"share": "source"}), (True, {"rank": 2, "sign": "free"})):
        g = sm.RegionGraph()
        g.add_region("a", 6, init=1.0, learnable_bias=not inputs)
        g.add_projection("a", "a", **rec)
        if inputs:
            g.add_input("cue", 2)
            g.add_projection("cue", "a", share="target" if "share" in rec else None)
        yield g


def trials_divided(rank, size):
    """DistributedDataParallel, each rank with its part of the batch: the gradients of the whole batch in one process."""
    cases = [(random_graph(seed, delays=seed % 2 == 1), "csr") for seed in range(6)]
    cases += [(random_graph(2), backend) for backend in ("dense", "hybrid")] + [(g, "auto") for g in graphs_of_little()]
    for g, backend in cases:
        options = dict(seed=1, dtype=torch.float64, device="cpu", backend=backend)
        whole, net = sm.mRNN(g, **options), sm.mRNN(g, **options)
        divided = DistributedDataParallel(net)
        inp = torch.randn(4, 6, g.n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        part = inp.chunk(size)[rank]
        for _ in range(2):  # a parameter that was left out is found missing in the second pass
            whole.zero_grad(), net.zero_grad()
            (whole(inp, whole.batched_initial_condition(4)[0])[1] ** 2).mean().backward()
            (divided(part, net.batched_initial_condition(len(part))[0])[1] ** 2).mean().backward()
        assert any(p.grad is not None for p in net.parameters())
        for (name, found), expected in zip(net.named_parameters(), whole.parameters(), strict=True):
            assert found.requires_grad == (found.numel() > 0), name
            assert (found.grad is None) == (not found.numel()), name
            if found.numel():
                torch.testing.assert_close(found.grad, expected.grad, atol=1e-12, rtol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def mesh_of_trials_and_units(rank, size):
    """Units over one dimension of a mesh, trials over the other: values and gradients of one process."""
    mesh = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("trials", "units"))
    trials, close = mesh["trials"].get_local_rank(), closer(1e-12)
    for seed in range(8):
        g = random_graph(seed, delays=seed % 2 == 1)
        options = dict(seed=seed, dtype=torch.float64, device="cpu")
        whole, net = sm.mRNN(g, backend="csr", **options), ShardedRNN(g, group=mesh.get_group("units"), **options)
        assert net.ranks.size == 2
        divided = DistributedDataParallel(net, process_group=mesh.get_group("trials"))
        inp = torch.randn(4, 6, g.n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        part = inp.chunk(size // 2)[trials]
        for gathered in (False, True):
            whole.zero_grad(), net.zero_grad()
            h = whole(inp, whole.batched_initial_condition(4)[0])[1]
            ((h - 1) ** 2).sum(dim=(1, 2)).mean().backward()
            own_h = divided(part, net.batched_initial_condition(len(part))[0])[1]
            close(own_h, net.take(h).chunk(size // 2)[trials], "h")
            ((net.gather(own_h) if gathered else own_h) - 1).square().sum(dim=(1, 2)).mean().backward()
            compare_gradients(net, whole, close)


def mesh_checkpoint(rank, size, folder):
    """One group of units saves, every group loads."""
    mesh = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("trials", "units"))
    options = dict(seed=0, dtype=torch.float64, device="cpu", group=mesh.get_group("units"))
    nets = [ShardedRNN(random_graph(0), **options) for _ in range(2)]
    trained, other = (DistributedDataParallel(net, process_group=mesh.get_group("trials")) for net in nets)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.5)
    if mesh.get_local_rank("trials") == 0:
        save_checkpoint(folder / f"{size}", trained, step=3)
    dist.barrier()
    assert load_checkpoint(folder / f"{size}", other) == 3
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), other.parameters(), strict=True))


def frozen(rank, size):
    """Weights that no rank trains, or that only some rank has, do not leave the others waiting."""
    g = sm.RegionGraph()
    g.add_region("a", 4, learnable_bias="region")
    g.add_region("b", 4)
    g.add_projection("a", "a")  # all trained synapses are on one rank
    g.add_projection("b", "b", trainable=False)
    options = dict(seed=1, dtype=torch.float64, device="cpu")
    way = np.repeat(np.arange(2), 4)
    compare(ShardedRNN(g, partition=way, **options), sm.mRNN(g, backend="csr", **options))
    net = ShardedRNN(g, partition=way, **options).requires_grad_(False)
    x0 = torch.zeros(1, 4, dtype=torch.float64, requires_grad=rank == 0)
    _, h = net(torch.zeros(1, 3, 0, dtype=torch.float64), x0)
    h.sum().backward()
    assert (x0.grad is not None) == (rank == 0)
    with torch.no_grad():
        net(torch.zeros(1, 3, 0, dtype=torch.float64), x0)


@contextlib.contextmanager
def counted(ranks):
    """The exchanges within the block, one entry each."""
    exchange, calls = ranks.exchange, []

    def counting(received, sent, sizes, *then):
        calls.append(len(sent))
        return exchange(received, sent, sizes, *then)

    ranks.exchange = counting
    yield calls
    del ranks.exchange


def shortest_cut(whole, ranks):
    """Shortest delay, in steps, of the synapses between units of different ranks."""
    table = whole.weights("recurrent").table()
    delays = {(p.source, p.target, p.key): p.delay for p in whole.graph.projections()}
    steps = np.array([round((delays[name] or whole.dt) / whole.dt) for name in table.projections])
    of_synapse = np.repeat(steps, table.lengths.numpy())
    return int(of_synapse[ranks[table.row.numpy()] != ranks[table.col.numpy()]].min())


def seldom_exchanged(rank, size, seeds):
    """Delays between ranks of D steps and more: the numbers of one process, with messages every D steps."""
    for seed in seeds:
        least = 2 + seed % 3
        g = random_graph(seed, delays=True, between=least)
        options = dict(seed=seed, dtype=torch.float64, device="cpu", noise_level_act=0.2, noise_level_inp=0.1)
        whole, net = sm.mRNN(g, backend="csr", **options), ShardedRNN(g, partition="regions", **options)
        every = net.halo_report().steps_per_message
        assert every == shortest_cut(whole, net.partition.ranks) >= least
        assert estimate(g, size, "regions").steps_per_message == every
        for steps, checkpoint_steps in ((3 * every + 1, None), (2 * every, every), (11, every + 1), (every - 1, None), (9, 2)):
            whole.zero_grad(), net.zero_grad()
            compare(net, whole, steps=steps, checkpoint_steps=checkpoint_steps, given_h0=bool(steps % 2))
        count_exchanges(net, every, 3 * every + 2)
        simulated_with(g, net, options, run_of_graph(g))


def count_exchanges(net, every, steps):
    inp, x0 = torch.zeros(1, steps, net.n_inputs, dtype=torch.float64), net.batched_initial_condition(1)[0]
    assert steps > every
    with counted(net.ranks) as forward:
        h = net(inp, x0)[1]
    with counted(net.ranks) as backward:
        h.sum().backward()
    assert len(forward) == -(-steps // every)
    assert len(backward) == -(-steps // every) + 1  # and one for the activity that weights' gradients need
    simulator = ShardedSimulator(net, 1, None, event_driven=False)
    simulator.set_factors({"recurrent": {}, "input": {}})
    with counted(net.ranks) as streaming:
        for _ in range(steps):
            simulator.stepper.step()
    assert len(streaming) == steps // every


def one_way(rank, size):
    """A rank that receives nothing, and ranks with delays that exchange nothing at all."""
    options = dict(seed=1, dtype=torch.float64, device="cpu")
    for pairs, every in (([("a", "b", 30.0)], 3), ([], 4)):
        g = sm.RegionGraph()
        for name in "ab":
            g.add_region(name, 4, init=0.3)
            g.add_projection(name, name, density=0.6, delay=40.0)
        for source, target, delay in pairs:
            g.add_projection(source, target, delay=delay)
        whole, net = sm.mRNN(g, backend="csr", **options), ShardedRNN(g, partition="regions", **options)
        assert net.halo_report().steps_per_message == every
        for checkpoint_steps in (None, 2, 5):
            whole.zero_grad(), net.zero_grad()
            compare(net, whole, steps=8, checkpoint_steps=checkpoint_steps)
        count_exchanges(net, every, 10)
        simulated_with(g, net, options, dict(steps=20, progress=False, stimulus=sm.Stimulus("a", 1.0)))


def ring():
    """Four regions: between the halves {a, b} and {c, d} a delay of 5 steps and more, within them of 2 and 1."""
    g = sm.RegionGraph()
    for k, name in enumerate("abcd"):
        g.add_region(name, 5 + k, sign=None, init=0.1 * k, base_firing=0.2)
        g.add_projection(name, name, density=0.5)
    for source, target, delay in (("a", "b", 20), ("b", "a", 30), ("c", "d", None), ("b", "c", 50), ("d", "a", 70), ("a", "d", 60)):
        g.add_projection(source, target, density=0.6, delay=delay)
    return g


RING_PARTS = {2: [0, 0, 1, 1], 3: [0, 1, 2, 2]}
RING_OPTIONS = dict(seed=4, dtype=torch.float64, device="cpu", activation="tanh", noise_level_act=0.3)


def ring_simulator(size, every):
    g = ring()
    of_unit = np.repeat(RING_PARTS[size], [g.region(name).n for name in "abcd"])
    net = ShardedRNN(g, partition=of_unit, **RING_OPTIONS)
    assert net.halo_report().steps_per_message == every
    simulator = ShardedSimulator(net, 2, 9, event_driven=False)
    simulator.set_factors({"recurrent": {}, "input": {}})
    return simulator


def stopped_between_exchanges(rank, size, file):
    """After 8 steps with an exchange every 5, the state of all units; the same run goes on to step 20."""
    simulator = ring_simulator(size, 5)
    for step in range(20):
        if step == 8:
            state = {name: tensor.clone() for name, tensor in simulator.state().items()}
        simulator.stepper.step()
    if rank == 0:
        torch.save((state, simulator.state()["h"].clone()), file)
    else:
        simulator.state()


def resumed_between_exchanges(rank, size, file, every):
    """Goes on from it, on any number of ranks, to what one process has: bit for bit on as many ranks."""
    simulator = ring_simulator(size, every)
    state, expected = torch.load(file)
    whole = Simulator(sm.mRNN(ring(), backend="csr", **RING_OPTIONS), 2, 9, event_driven=False)
    whole.set_factors({"recurrent": {}, "input": {}})
    simulator.load(state, 8)
    for _ in range(12):
        simulator.stepper.step()
    for _ in range(20):
        whole.stepper.step()
    found = simulator.state().get("h")
    if rank == 0:
        np.testing.assert_allclose(found, whole.stepper.h, atol=1e-12)
        assert size != 2 or torch.equal(found, expected)


def modular():
    """Eight modules in mixed order, with 1% of the synapses of a module between two of them."""
    g = sm.RegionGraph()
    for k in range(16):
        g.add_region(f"r{k}", 100)
    for k in range(16):
        for other in range(16):
            g.add_projection(f"r{k}", f"r{other}", density=0.1 if k % 8 == other % 8 else 0.0005)
    return g


def halo(rank, size):
    """What is exchanged is what is needed, as estimated, and far below all activity."""
    g = modular()
    net = ShardedRNN(g, seed=0, device="cpu")
    report, expected = net.halo_report(), estimate(g, size)
    assert report.volume == sum(report.received) < report.all_gather / 2
    assert sum(report.synapses) == sm.mRNN(g, seed=0, device="cpu").weights("recurrent").nnz
    assert 0 < sum(report.remote_synapses) < 0.1 * sum(report.synapses)
    np.testing.assert_allclose([r.received for r in expected.ranks], report.received, rtol=0.15)
    np.testing.assert_allclose([r.sent for r in expected.ranks], report.sent, rtol=0.15)
    np.testing.assert_allclose([r.remote_synapses for r in expected.ranks], report.remote_synapses, rtol=0.1)


def run_of(seed, delays=True):
    """A random network and options of a run with every kind of stimulus and intervention."""
    g = random_graph(seed, delays=delays)
    return g, run_of_graph(g)


def run_of_graph(g):
    names = [r.name for r in g.regions()]
    projection = next(p for p in g.projections("recurrent") if p.source != p.target)
    stimuli = [
        sm.Stimulus("cue", sm.stimulus.OrnsteinUhlenbeck(1.0, 20.0), start=20),
        sm.Stimulus(names[0], sm.stimulus.WhiteNoise(0.5), fraction=0.6),
        sm.Stimulus("all", 0.3, start=50, stop=150),
    ]
    acts = [
        sm.Lesion(names[1], fraction=0.5, start=60, stop=120),
        sm.Clamp(names[-1], 0.4, start=30, stop=90),
        sm.Gain(projection.source, projection.target, 0.5, start=100),
    ]
    return dict(steps=25, batch=2, noise=True, seed=3, stimulus=stimuli, interventions=acts, progress=False)


def simulated(rank, size, seeds):
    for seed in seeds:
        g, options = run_of(seed, delays=bool(seed % 2))
        settings = dict(seed=seed, dtype=torch.float64, device="cpu", noise_level_act=0.1)
        for record in (sm.Record(variables=["h", "x"]), sm.Record(what=["units", "mean"], regions=["r1", "all"], every=3), sm.Record(regions=["r2", "r0"])):
            simulated_with(g, ShardedRNN(g, **settings), settings, dict(record=record, **options))


def simulated_with(g, net, settings, options):
    found = simulate(net, **options)
    assert (found is None) == (net.ranks.rank > 0)
    if found is not None:
        expected = sm.simulate(sm.mRNN(g, **settings), **options)
        assert set(found.variables) == set(expected.variables)
        for name in expected.data_vars:
            np.testing.assert_allclose(found[name].values, expected[name].values, atol=1e-12)
        for name in expected.coords:
            assert (found[name].values == expected[name].values).all()


@contextlib.contextmanager
def short_chunks(samples=7):
    """Recordings have chunks of so many samples."""
    longest, plan.LONGEST_CHUNK = plan.LONGEST_CHUNK, samples
    try:
        yield
    finally:
        plan.LONGEST_CHUNK = longest


@contextlib.contextmanager
def out_of_reach(there):
    """The store of the first process cannot be opened by this one, if so."""
    finds = Run._finds
    if there:
        Run._finds = lambda self, digest: False
    try:
        yield
    finally:
        Run._finds = finds


def recorded_by_all(rank, size, folder):
    """Each rank writes chunks of some units; the first one all, where one of the others does not reach the store."""
    g, options = run_of(3)
    net = ShardedRNN(g, seed=3, dtype=torch.float64, device="cpu")
    records = [
        (sm.Record(variables=["h", "x"]), True), (sm.Record(units=["r0[1]"]), False), (sm.Record(what=["mean"]), False),
        (sm.Record(what=["units", "mean", "variance"], regions=["r2", "r0"], every=3, dtype="float16"), True),
    ]
    for k, (record, many) in enumerate(records):
        expected = simulate(net, record=record, **options)
        for way in ("all", "first"):
            out = folder / f"{k} {way}.zarr"
            with short_chunks(), out_of_reach(way == "first" and rank == size - 1), counted_writes() as written:
                found = simulate(net, record=record, out=out, **options)
            writers = [count > 0 for count in net.ranks.gather(len(written))]
            assert writers == [rank == 0 or (many and way == "all") for rank in range(size)]
            if rank == 0:
                assert found.attrs["complete"] == 1
                for name in expected.variables:
                    np.testing.assert_array_equal(found[name].values, expected[name].values)
                if many:
                    width = found.h.encoding["preferred_chunks"]["unit"]
                    assert width == -(-found.sizes["unit"] // size)


@contextlib.contextmanager
def counted_writes():
    """The chunks that this process writes."""
    found, write = [], ZarrStore._write
    ZarrStore._write = lambda self, start, arrays: found.append(start) or write(self, start, arrays)
    try:
        yield found
    finally:
        ZarrStore._write = write


def disk_of_one_full(rank, size, out):
    """One rank cannot write; all end with an error that says so."""
    g, options = run_of(3)
    net = ShardedRNN(g, seed=3, dtype=torch.float64, device="cpu")
    options |= dict(steps=400, out=out, checkpoint_seconds=0.01)
    last = rank == size - 1
    expected = (RecordingError, "cannot write the recording.*resume the run") if last else (DistributedError, f"for rank {size - 1} did: RecordingError: cannot write")
    with short_chunks(50), files_of_at_most(100) if last else contextlib.nullcontext(), pytest.raises(expected[0], match=expected[1]):
        simulate(net, **options)
    with short_chunks(50):
        found = simulate(net, mode="resume", **options)
    if rank == 0:
        whole = sm.simulate(sm.mRNN(g, seed=3, dtype=torch.float64, device="cpu"), **{**options, "out": None})
        np.testing.assert_allclose(found.h.values, whole.h.values, atol=1e-9)


def signal_when_there(out, number):
    """Send a signal to this process soon after a run has begun."""
    while not (out / ".checkpoint").exists():
        time.sleep(0.01)
    time.sleep(1.0)
    os.kill(os.getpid(), number)


@short_chunks()
def stopped_run(rank, size, seed, out):
    """A run that a termination request stops in the middle, with a checkpoint."""
    g, options = run_of(seed)
    net = ShardedRNN(g, seed=seed, dtype=torch.float64, device="cpu")
    options |= dict(steps=4000, record=sm.Record(every=20), checkpoint_seconds=0.2, out=out)
    if rank == 1:
        threading.Thread(target=signal_when_there, args=(out, signal.SIGTERM), daemon=True).start()
    with pytest.raises(SimulationStopped, match="resume it"):
        simulate(net, **options)


@short_chunks()
def resumed_run(rank, size, seed, out):
    """Goes on with it, on any number of ranks, to what one run would have given."""
    g, options = run_of(seed)
    settings = dict(seed=seed, dtype=torch.float64, device="cpu")
    options |= dict(steps=4000, record=sm.Record(every=20))
    found = simulate(ShardedRNN(g, **settings), out=out, mode="resume", **options)
    if rank == 0:
        expected = sm.simulate(sm.mRNN(g, **settings), **options)
        assert found.attrs["complete"] == 1
        np.testing.assert_allclose(found.h.values, expected.h.values, atol=1e-9)
    again = simulate(ShardedRNN(g, **settings), out=out, mode="resume", **options)
    assert rank or np.array_equal(again.h.values, found.h.values)


@short_chunks()
def killed_run(rank, size, seed, out):
    """A rank is killed in the middle of a run; the others end with an error that says so."""
    g, options = run_of(seed)
    net = ShardedRNN(g, seed=seed, dtype=torch.float64, device="cpu")
    options |= dict(steps=4000, record=sm.Record(every=20), checkpoint_seconds=0.1, out=out)
    if rank == 1:
        threading.Thread(target=signal_when_there, args=(out, signal.SIGKILL), daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(DistributedError, match="another rank has ended.*resume from the last checkpoint"):
        simulate(net, **options)
    assert time.monotonic() - begun < 30


@short_chunks()
def same_as_never_killed(rank, size, seed, out, whole):
    """Bit for bit, on as many ranks."""
    g, options = run_of(seed)
    options |= dict(steps=4000, record=sm.Record(every=20))
    settings = dict(seed=seed, dtype=torch.float64, device="cpu")
    found = simulate(ShardedRNN(g, **settings), out=out, mode="resume", **options)
    expected = simulate(ShardedRNN(g, **settings), out=whole, **options)
    assert rank or np.array_equal(found.h.values, expected.h.values)


def refused_runs(rank, size, seed, out):
    """Nothing is overwritten by a run that cannot begin; every rank gets an error."""
    g, options = run_of(seed)
    options |= dict(steps=4000, record=sm.Record(every=20), out=out)
    settings = dict(seed=seed, dtype=torch.float64, device="cpu")
    other = ShardedRNN(g, **settings)
    with torch.no_grad():
        other.shard.own.values.mul_(1.001)
    for net, mode, error, text in (
        (ShardedRNN(g, **settings), "create", RecordingError, "exists; choose another path"),
        (ShardedRNN(g, **{**settings, "noise_level_act": 0.5}), "resume", ResumeError, "noise_level_act"),
        (other, "resume", ResumeError, "recurrent weights"),
    ):
        with pytest.raises(DistributedError if rank else error, match=text):
            simulate(net, mode=mode, **options)
    with pytest.raises(DistributedError, match="the ranks differ in: options of the run"):
        simulate(ShardedRNN(g, **settings), mode="resume", **{**options, "seed": rank})


def states_of_a_whole_network(rank, size):
    """What is under way is not divided among ranks: a state with a past is refused by name, the pair is not."""
    g = sm.RegionGraph()
    g.add_region("a", 6)
    g.add_projection("a", "a", delay=30.0)
    net, inp = ShardedRNN(g, seed=0, device="cpu"), torch.zeros(1, 4, 0)
    state = sm.mRNN(g, seed=0, device="cpu")(inp, return_state=True)[-1]
    with pytest.raises(ConfigError, match="not divided among ranks yet"):
        net(inp, state)
    for options in ({"x0": state}, {"return_state": True}):
        with pytest.raises(ConfigError, match="x0 and return_state"):
            simulate(net, steps=2, progress=False, **options)
    with pytest.raises(TrainingError, match="ShardedRNN gives no state"):
        truncated(net, inp, net.batched_initial_condition(1), 2)
    assert net(inp, net.batched_initial_condition(1))[1].shape == (1, 4, len(net.own_units))


def diverging(rank, size):
    g = sm.RegionGraph()
    for name in "ab":
        g.add_region(name, 4, init=1.0)
    g.add_projection("a", "a", initializer=sm.Constant(1e30))
    g.add_projection("a", "b", initializer=sm.Constant(1.0))
    net = ShardedRNN(g, seed=0, device="cpu")
    with pytest.raises(DivergenceError, match="at 20 ms, 4 units are not finite, the first of them in region 'a'") as found:
        simulate(net, steps=100, progress=False)
    recorded = found.value.recording  # on rank 0: what came before
    assert recorded is None if rank else (recorded.h.shape == (1, 1, 8) and recorded.attrs["activation"] == "relu")


def mistakes(rank, size):
    g = sm.RegionGraph()
    for name in "ab":
        g.add_region(name, 3)
    g.add_projection("a", "b")
    options = dict(device="cpu", seed=0)

    def refused(error, text, function):
        with pytest.raises(error) as found:
            function()
        assert text in str(found.value), str(found.value)

    refused(DistributedError, "the ranks differ in: seed", lambda: ShardedRNN(g, device="cpu", seed=rank))
    refused(DistributedError, "the ranks differ in: tau", lambda: ShardedRNN(g, tau=100.0 + rank, **options))
    other = g.copy()
    other.add_projection("b", "a", density=0.5 if rank else 0.6)
    refused(DistributedError, "the ranks differ in: projections", lambda: ShardedRNN(other, **options))
    refused(DistributedError, "shape (5,)", lambda: ShardedRNN(g, partition=[0, 1, 0, 1, 0], **options))
    refused(DistributedError, "within 0..1", lambda: ShardedRNN(g, partition=[0, 1, 0, 1, 0, 2], **options))
    refused(DistributedError, "rank 1 of 2 has no unit", lambda: ShardedRNN(g, partition=[0] * 6, **options))
    refused(DistributedError, "partition is 'balance'; use", lambda: ShardedRNN(g, partition="balance", **options))
    refused(ConfigError, "spectral_radius needs the whole", lambda: ShardedRNN(g, spectral_radius=1.0, **options))
    refused(ConfigError, "must have a name", lambda: ShardedRNN(g, activation=torch.sin, **options))
    refused(ConfigError, "model is 'leeky'; use", lambda: ShardedRNN(g, model="leeky", **options))
    low = g.copy()
    low.add_projection("b", "a", rank=1, sign="free")
    refused(ConfigError, "projection 'b' -> 'a' has rank 1", lambda: ShardedRNN(low, **options))
    net = ShardedRNN(g, **options)
    x0 = net.batched_initial_condition(1)[0]
    refused(DistributedError, "time steps (4 to 5)", lambda: net(torch.zeros(1, 4 + rank, 0), x0))
    refused(ShapeError, "x0 has shape (1, 6)", lambda: net(torch.zeros(1, 4, 0), torch.zeros(1, 6)))
    refused(ShapeError, "inp has shape", lambda: net(torch.zeros(1, 4, 3), x0))


def one_dies(rank, size):
    """A rank is killed within a run; the others end with an error that says so, soon."""
    net = ShardedRNN(random_graph(0), seed=0, device="cpu")
    inp, x0 = torch.zeros(1, 5, net.n_inputs), net.batched_initial_condition(1)[0]
    net(inp, x0)
    if rank == size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(DistributedError, match="another rank has ended, or does not answer"):  # noqa: PT012
        for _ in range(10_000):
            net(inp, x0)
    assert time.monotonic() - begun < 20

