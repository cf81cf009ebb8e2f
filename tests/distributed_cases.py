"""What each rank of tests/test_distributed.py does; its processes import this."""

import datetime
import os
import signal
import traceback
import warnings

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import sparse_mrnn as sm
from sparse_mrnn.distributed import ShardedRNN


def on_ranks(size, folder, function, *args, timeout=30):
    """Run a function of this module on so many processes, which find each other by a file."""
    context = mp.spawn(_rank, (size, str(folder / "store"), function, timeout, args), nprocs=size, join=False)
    try:
        while not context.join(timeout=1):
            pass
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _rank(rank, size, path, function, timeout, args):
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
    store = dist.FileStore(path, size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=timeout))
    try:
        function(rank, size, *args)
        dist.barrier()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()


# ---------------------------------------------------------------- networks


def random_graph(seed, *, delays=False):
    """A random graph with every way of sharing parameters, signs, rules, frozen and explicit projections."""
    rng = np.random.default_rng(seed)
    g = sm.RegionGraph()
    names = [f"r{k}" for k in range(int(rng.integers(3, 7)))]
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


def celegans():
    return sm.load_config("celegans"), {}


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
    x, h = whole(inp, x0, h0 if given_h0 else None, stim, **options)
    own_x, own_h = net(own_inp, own_x0, own_h0 if given_h0 else None, own_stim, **options)

    def close(found, expected, what):
        found, expected = found.detach(), expected.detach()
        scale = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
        error = float((found - expected).abs().max()) / scale if found.numel() else 0.0
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        assert error <= tolerance, f"{what}: {error:.1e}"

    close(own_x, net.take(x), "x")
    close(own_h, net.take(h), "h")
    close(net.gather(own_h), h, "gathered h")
    (x * to_x + h * to_h).sum().backward()
    ((own_x * net.take(to_x)).sum() + (net.gather(own_h) * to_h).sum()).backward()
    close(own_inp.grad, inp.grad, "gradient of the inputs")
    close(own_stim.grad, net.take(stim.grad), "gradient of the currents")
    shard, units = net.shard, net.own_units
    for part, sources in ((shard.own, units), (shard.cut, shard.halo_units), (shard.inputs, None)):
        weights = whole.weights(part.kind)
        if part.gains is not None:
            close(part.gains.grad, weights.gains.grad, f"gradient of {part.kind} gains")
        expected = _by_synapse(weights, np.arange(n), None)
        found = _by_synapse(part, units, sources)
        for key, values in found.items():
            assert len(values) == len(expected[key])
            close(torch.tensor(values, dtype=dtype), torch.tensor(expected[key], dtype=dtype), f"gradient of {key}")
    for name in ("bias", "init"):
        own, all_of = getattr(net.units, name), getattr(whole, name)
        if own is not None and all_of.grad is not None:
            expected = torch.zeros(n, dtype=dtype)
            expected[getattr(whole, f"{name}_units")] = all_of.grad[getattr(whole, f"{name}_of")]
            found = own.grad[getattr(net.units, f"{name}_of")]
            close(found, net.take(expected)[getattr(net.units, f"{name}_units")], f"gradient of {name}")
    if net.units.keep_logit is not None:
        expected = torch.zeros(n, dtype=dtype)
        expected[whole.alpha_units] = whole.keep_logit.grad[whole.alpha_of]
        close(net.units.keep_logit.grad[net.units.alpha_of], net.take(expected)[net.units.alpha_units], "gradient of tau")


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
        for way in ways:
            options = dict(seed=seed, dtype=dtype, device="cpu", noise_level_act=0.2, noise_level_inp=0.1, **settings)
            whole = {"leaky": sm.mRNN, "elman": sm.ElmanmRNN}[model](g, backend="csr", **options)
            net = ShardedRNN(g, model=model, partition=way, **options)
            if model == "elman":
                compare_elman(net, whole, tolerance)
                continue
            for every, h0 in ((None, False), (3, True)):
                whole.zero_grad(), net.zero_grad()
                compare(net, whole, checkpoint_steps=every, given_h0=h0, tolerance=tolerance)


def compare_elman(net, whole, tolerance):
    forward = whole.forward
    whole.forward = lambda inp, x0, h0, stim, **options: whole._run(inp, x0, x0 if h0 is None else h0, stim, options["noise"], None, options["checkpoint_steps"], None)
    compare(net, whole, given_h0=True, tolerance=tolerance)
    whole.forward = forward


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)
