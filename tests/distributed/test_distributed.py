"""A network on several processes has the values and gradients of one process."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import sparse_mrnn as sm
import sparse_mrnn.data
from helpers import ROOT
from helpers import distributed_cases as cases
from helpers.distributed_cases import RankPool
from helpers.spectral_families import FLYVIS
from sparse_mrnn.cli import app
from sparse_mrnn.distributed import ShardedRNN, estimate, joined, partition
from sparse_mrnn.distributed.partition import unit_work
from sparse_mrnn.errors import ConfigError, DistributedError, MissingExtraError
from sparse_mrnn.interop import write_sonata
from sparse_mrnn.lowering.layout import Layout

needs_flyvis = pytest.mark.skipif(not FLYVIS.exists(), reason="no flyvis connectome (FLYVIS_CONNECTOME)")


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    pool = RankPool(request.param, tmp_path_factory.mktemp("ranks"))
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    pool = RankPool(2, tmp_path_factory.mktemp("two"))
    yield pool
    pool.close()


@pytest.mark.dist
def test_random_networks(ranks):
    ranks.run(cases.random_cases, range(10))


@pytest.mark.dist
@pytest.mark.parametrize("name", ["celegans", pytest.param("flyvis", marks=needs_flyvis)])
def test_connectomes(name, ranks):
    ranks.run(cases.connectome, name, FLYVIS)


@pytest.mark.dist
def test_a_file_is_read_by_rows(ranks, tmp_path):
    rng = np.random.default_rng(0)
    g = sm.RegionGraph()
    for k in range(5):
        g.add_region(f"r{k}", 9000, sign=None)
    g.add_input("cue", 3, sign=None)
    for k in range(5):
        g.add_projection(f"r{k}", f"r{k}", fan_in=2, initializer=sm.Normal(0.5))
        g.add_projection(f"r{k}", f"r{(k + 1) % 5}", fan_in=1, initializer=sm.Normal(0.5), delay=20.0, trainable=k > 1)
    g.add_projection("cue", "r1", weights=rng.normal(size=(9000, 3)))
    write_sonata(g, tmp_path / "net", seed=0)
    ranks.run(cases.read_by_rows, tmp_path / "net")


@pytest.mark.dist
def test_a_mesh_of_trials_and_units(ranks):
    ranks.run(cases.mesh_of_trials_and_units)


@pytest.mark.dist
def test_a_checkpoint_on_a_mesh(ranks, tmp_path):
    ranks.run(cases.mesh_checkpoint, tmp_path)


@pytest.mark.dist
def test_only_what_is_needed_is_exchanged(ranks):
    ranks.run(cases.halo)


@pytest.mark.dist
def test_simulations(ranks):
    ranks.run(cases.simulated, range(3))


@pytest.mark.dist
def test_all_ranks_write_a_recording(ranks, tmp_path):
    ranks.run(cases.recorded_by_all, tmp_path)


@pytest.mark.dist
def test_a_full_disk_of_one_rank(ranks, tmp_path):
    ranks.run(cases.disk_of_one_full, tmp_path / "run.zarr")


@pytest.mark.dist
def test_delays_between_ranks_make_messages_rare(ranks):
    ranks.run(cases.seldom_exchanged, range(6))


@pytest.mark.dist
def test_a_run_goes_on_where_messages_are_as_rare_or_less(two, tmp_path, tmp_path_factory):
    file = tmp_path / "state.pt"
    two.run(cases.stopped_between_exchanges, file)
    two.run(cases.resumed_between_exchanges, file, 5)
    three = RankPool(3, tmp_path_factory.mktemp("three"))
    try:
        three.run(cases.resumed_between_exchanges, file, 2)
    finally:
        three.close()


@pytest.mark.dist
@pytest.mark.parametrize("case", [cases.one_way, cases.large, cases.trained, cases.trials_divided, cases.frozen, cases.mistakes, cases.diverging, cases.states_of_a_whole_network])
def test_two_ranks(case, two):
    two.run(case)


@pytest.mark.dist
def test_a_stopped_run_goes_on_with_other_ranks(two, tmp_path, tmp_path_factory):
    out = tmp_path / "run.zarr"
    two.run(cases.stopped_run, 1, out)
    two.run(cases.refused_runs, 1, out)
    assert not sm.open_recording(out).attrs["complete"]
    three = RankPool(3, tmp_path_factory.mktemp("three"))
    try:
        three.run(cases.resumed_run, 1, out)
    finally:
        three.close()


@pytest.mark.dist
def test_a_killed_run_is_resumed_to_the_same_numbers(two, tmp_path, tmp_path_factory):
    out, doomed = tmp_path / "run.zarr", RankPool(2, tmp_path_factory.mktemp("doomed"))
    try:
        doomed.run(cases.killed_run, 1, out, expected=1)
    finally:
        doomed.close()
    assert not sm.open_recording(out).attrs["complete"]
    two.run(cases.same_as_never_killed, 1, out, tmp_path / "whole.zarr")


@pytest.mark.dist
def test_the_command_line_under_torchrun(tmp_path):
    file = tmp_path / "net.json"
    sm.write_config(cases.modular(), file)
    command = [sys.executable, "-m", "sparse_mrnn", "simulate", str(file), "--stim", "r0:1", "--duration", "200"]
    command += ["--noise", "--seed", "3", "--quiet", "--out"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    for before, name in (([], "one.zarr"), (launcher, "two.zarr")):
        done = subprocess.run([*before, *command, str(tmp_path / name)], capture_output=True, text=True, timeout=80)
        assert done.returncode == 0, done.stderr
    one, two = (sm.open_recording(tmp_path / name) for name in ("one.zarr", "two.zarr"))
    np.testing.assert_allclose(one.h.values, two.h.values, atol=1e-6)
    assert two.attrs["ranks"] == 2
    write_sonata(sm.mRNN(cases.modular(), device="cpu", seed=3), tmp_path / "net")
    command[4] = str(tmp_path / "net")
    done = subprocess.run([*launcher, *command, str(tmp_path / "rows.zarr")], capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(sm.open_recording(tmp_path / "rows.zarr").h.values, one.h.values, atol=1e-6)
    for before, name, where in (([], "two.zarr", "under"), (launcher, "one.zarr", "without")):
        refused = subprocess.run([*before, *command, str(tmp_path / name), "--resume"], capture_output=True, text=True, timeout=80)
        assert f"was begun {where} torchrun: resume it {where} torchrun" in refused.stderr.replace("\n", " ")


@pytest.mark.dist
def test_training_goes_on_with_any_number_of_ranks(two, tmp_path, tmp_path_factory):
    seeds = range(5)
    two.run(cases.saved_in_the_middle, tmp_path, seeds)
    two.run(cases.goes_on, tmp_path, seeds, True)
    for size in (1, 3, 4):
        pool = RankPool(size, tmp_path_factory.mktemp("other"))
        try:
            pool.run(cases.goes_on, tmp_path, seeds, False)
        finally:
            pool.close()


@pytest.mark.dist
def test_checkpoints_that_are_refused(two, tmp_path):
    two.run(cases.refused_checkpoints, tmp_path)


SCALING = ROOT / "docs" / "scaling.md"
SCRIPTS = dict(re.findall(r"^```py\n# (\w+\.py)\n(.*?)^```$", SCALING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


def losses_of(name, size, folder):
    """What a script of the documentation prints, on so many ranks."""
    (folder / name).write_text(SCRIPTS[name], encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "--no-python"]
    launcher += [sys.executable, "-W", "error", "-W", "ignore:Sparse CSR", name]
    done = subprocess.run(launcher, capture_output=True, text=True, timeout=80, cwd=folder)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("loss")]
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    return losses


@pytest.mark.dist
@pytest.mark.parametrize("name", ["trials.py", "mesh.py"])
def test_scripts_of_the_documentation(name, tmp_path):
    losses_of(name, 4, tmp_path)


@pytest.mark.dist
def test_the_documented_resuming(tmp_path):
    first = losses_of("resumed.py", 2, tmp_path)
    assert losses_of("resumed.py", 3, tmp_path)[0] < (first[0] + first[-1]) / 2


@pytest.mark.dist
def test_a_rank_that_dies_ends_the_others(two):
    """The last test: the pool is of no use afterwards."""
    begun = time.monotonic()
    two.run(cases.one_dies, expected=1)
    assert time.monotonic() - begun < 40


# ---------------------------------------------------------------- without processes


def regions(sizes):
    g = sm.RegionGraph()
    for k, n in enumerate(sizes):
        g.add_region(f"r{k}", n)
    return g


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_balanced_parts_are_equal_up_to_a_unit(sizes, size, seed):
    rng, g = np.random.default_rng(seed), regions(sizes)
    for target in range(len(sizes)):
        for source in rng.integers(len(sizes), size=2):
            if not g.has_edge(f"r{source}", f"r{target}"):
                g.add_projection(f"r{source}", f"r{target}", density=float(rng.random()))
    if sum(sizes) < size:
        with pytest.raises(DistributedError, match=f"use at most {sum(sizes)}"):
            partition(g, size)
        return
    found = partition(g, size)
    assert set(found.ranks.tolist()) == set(range(size))
    assert np.concatenate([found.units(k) for k in range(size)]).size == sum(sizes)


def test_a_balanced_partition_keeps_modules_together():
    """Four modules of four regions, in mixed order: two ranks get two modules each."""
    g = regions([20] * 16)
    for k in range(16):
        for other in range(16):
            g.add_projection(f"r{k}", f"r{other}", density=0.5 if k % 4 == other % 4 else 0.005)
    ranks = partition(g, 2).ranks[::20]
    assert all(len(set(ranks[module::4])) == 1 for module in range(4))
    work = np.bincount(partition(g, 3).ranks)
    assert work.max() - work.min() <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_metis_cuts_fewer_synapses_of_c_elegans(size):
    pytest.importorskip("pymetis")
    g = sm.read_config(sm.data.example_path("celegans"))
    found = partition(g, size, "metis")
    assert (found.ranks == partition(g, size, "metis").ranks).all()
    cut = {how: sum(rank.remote_synapses for rank in estimate(g, size, how).ranks) for how in ("metis", "balanced")}
    assert cut["metis"] < 0.75 * cut["balanced"] or size == 1
    work = np.bincount(found.ranks, weights=unit_work(g, Layout.of(g)))
    assert len(work) == size
    assert work.max() < 1.05 * work.mean()


@pytest.mark.parametrize("explicit", [False, True])
def test_metis_keeps_modules_together(explicit):
    """Four modules of four regions, in mixed order: one for each rank."""
    pytest.importorskip("pymetis")
    g, rng = regions([20] * 16), np.random.default_rng(0)
    for k in range(16):
        for other in range(16):
            density = 0.5 if k % 4 == other % 4 else 0.005
            how = dict(weights=1.0 * (rng.random((20, 20)) < density)) if explicit else dict(density=density)
            g.add_projection(f"r{k}", f"r{other}", **how)
    ranks = partition(g, 4, "metis").ranks.reshape(16, 20)
    assert all(len(set(ranks[module::4].ravel())) == 1 for module in range(4))
    assert len(set(ranks[:4, 0])) == 4


def test_metis_divides_regions_of_both_kinds():
    """Explicit synapses beside a rule's: both ends of a rule are cut to pieces."""
    pytest.importorskip("pymetis")
    g = regions([400, 400, 40])
    g.add_projection("r0", "r1", density=0.5)
    g.add_projection("r1", "r1", weights=np.eye(400))
    g.add_projection("r2", "r2", weights=np.roll(np.eye(40), 1, axis=1))
    for size in (2, 7):
        found = partition(g, size, "metis")
        work = np.bincount(found.ranks, weights=unit_work(g, Layout.of(g)), minlength=size)
        assert work.max() < 1.2 * work.mean()
    crowded = partition(regions([1, 2, 1]), 4, "metis").ranks
    assert sorted(crowded) == [0, 1, 2, 3]


def test_without_metis(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(MissingExtraError, match=r"needs pymetis; .*'sparse-mrnn\[metis\]', or use partition='balanced'"):
        partition(regions([3]), 2, "metis")


def test_whole_regions():
    g = regions([50, 10, 20, 20])
    assert partition(g, 2, "regions").ranks[[0, 50, 60, 80]].tolist() == [0, 1, 1, 1]
    with pytest.raises(DistributedError, match="4 regions for 5 ranks; use partition='balanced'"):
        partition(g, 5, "regions")


def test_explicit_synapses_are_counted_not_estimated():
    g = regions([4, 4])
    weights = np.zeros((4, 4))
    weights[0, [1, 2]] = weights[1, 1] = 1.0
    g.add_projection("r0", "r1", weights=weights)
    g.add_projection("r1", "r1", weights=np.eye(4))
    found = estimate(g, 2, "regions")
    receiver = next(rank for rank in found.ranks if rank.received)
    assert (receiver.received, receiver.remote_synapses, receiver.synapses) == (2, 3, 7)
    assert (found.volume, found.all_gather, found.messages) == (2, 8, 1)


def test_steps_of_a_message_are_those_of_the_shortest_delay_between_ranks():
    g = regions([4, 4, 4])
    for name in ("r0", "r1", "r2"):
        g.add_projection(name, name)  # within a region, without a delay
    g.add_projection("r0", "r1", delay=30.0)
    g.add_projection("r1", "r2", delay=20.0)
    for parts, dt, steps, messages in ([[0, 0, 1], 10.0, 2, 1], [[0, 1, 1], 10.0, 3, 1], [[0, 1, 1], 5.0, 6, 1]):
        found = estimate(g, 2, np.repeat(parts, 4), dt=dt)
        assert (found.steps_per_message, found.messages) == (steps, messages)
        assert f"4 units a step in 1 messages every {steps} steps" in str(found.table())
    assert estimate(g, 2, [0, 0, 0, 1] * 3).steps_per_message == 1
    with pytest.raises(ConfigError, match="delay 20 ms is shorter than a time step, dt = 25 ms"):
        estimate(g, 3, "regions", dt=25.0)


def test_info_estimates_ranks(tmp_path):
    file = tmp_path / "net.json"
    sm.write_config(cases.modular(), file)
    result = CliRunner().invoke(app, ["info", str(file), "--ranks", "4"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "less than all-gather" in result.output
    assert "960 of 33,120 synapses are remote (2.9%)" in result.output
    assert "rank" in result.output
    wrong = CliRunner().invoke(app, ["info", str(file), "--ranks", "17", "--partition", "regions"])
    assert wrong.exit_code == 1


def test_without_a_process_group():
    with pytest.raises(DistributedError, match="a process group is missing; start with torchrun"):
        ShardedRNN(regions([3]))
    with pytest.raises(DistributedError, match="start it with torchrun"), joined():
        pass
