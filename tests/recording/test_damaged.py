"""A recording or checkpoint that is not as it was written is an error that names the file, never another answer."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

import sparse_mrnn as sm
import sparse_mrnn.cli
from helpers.command_line import run as command
from helpers.recorded_runs import CONFIG, network, small_chunks, stopped, tiny  # noqa: F401 - a fixture for every test here
from sparse_mrnn.errors import RecordingError, ResumeError
from sparse_mrnn.plot import plot_activity
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.recording.reading import CHECKPOINT
from sparse_mrnn.simulation import simulate


def chunks(out):
    return sorted(p for p in out.rglob("*") if p.is_file() and not p.name.startswith("."))


def use(out):
    """All that reads a recording."""
    found = open_recording(out)
    ax = plot_activity(found)
    ax.figure.clear()
    return found.load()


NAMES = ["h/0.0.0", "h/0.4.0", "h_mean/0.2.0", "time/0", "region/0", "unit_id/0", "group/0"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_chunk_is_named(tmp_path, name):
    out = tmp_path / "run.zarr"
    tiny(out)
    (out / name).unlink()
    for call in (open_recording, use, lambda path: tiny(path, "resume")):
        with pytest.raises(RecordingError, match=f"damaged: chunk {name} is missing"):
            call(out)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", [0, 1, 4, 19, 20, 0.5, -1])
def test_a_truncated_chunk_is_named(tmp_path, name, left):
    out = tmp_path / "run.zarr"
    tiny(out)
    data = (out / name).read_bytes()
    (out / name).write_bytes(data[: int(left * len(data)) if isinstance(left, float) else left])
    for call in (open_recording, use, lambda path: tiny(path, "resume")):
        with pytest.raises(RecordingError, match=f"chunk {name} is cut short"):
            call(out)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_a_chunk_is_found_where_it_is_used(tmp_path, name):
    out = tmp_path / "run.zarr"
    whole = tiny(out).load()
    data = (out / name).read_bytes()
    for byte in range(0, len(data), max(1, len(data) // 40)):
        (out / name).write_bytes(data[:byte] + bytes([data[byte] ^ 4]) + data[byte + 1 :])
        for call in (lambda path: open_recording(path).load(), lambda path: tiny(path, "resume")):
            with pytest.raises(RecordingError, match=f"chunk {name} is (cut short|not as it was written)"):
                call(out)
    (out / name).write_bytes(data)
    xr.testing.assert_identical(use(out), whole)


def test_a_chunk_in_the_place_of_another_is_found(tmp_path, monkeypatch):
    for out, run in ((tmp_path / "whole.zarr", tiny), (tmp_path / "begun.zarr", lambda out: stopped(out, monkeypatch))):
        run(out)
        shutil.copy(out / "h/0.1.0", out / "h/0.0.0")  # whole, and of the right size
        for call in (open_recording, lambda path: tiny(path, "resume")):
            with pytest.raises(RecordingError, match="chunks of h are not those that were written"):
                call(out)


def test_only_what_is_read_is_checked(tmp_path):
    out = tmp_path / "run.zarr"
    whole = tiny(out).load()
    data = bytearray((out / "h/0.4.0").read_bytes())
    data[-3] ^= 1
    (out / "h/0.4.0").write_bytes(data)
    found = open_recording(out)
    np.testing.assert_array_equal(found.h[:, :20], whole.h[:, :20])
    np.testing.assert_array_equal(found.h[1, 3:15:4, [6, 2]], whole.h.values[1, 3:15:4][:, [6, 2]])
    np.testing.assert_array_equal(found.h[:, 12:2:-3], whole.h.values[:, 12:2:-3])
    np.testing.assert_array_equal(found.h[:, []], whole.h.values[:, []])
    np.testing.assert_array_equal(found.h.sel(time=[50, 40, 40]), whole.h.sel(time=[50, 40, 40]))
    np.testing.assert_array_equal(found.h.isel(time=xr.DataArray([1, 3], dims="k"), unit=xr.DataArray([0, 7], dims="k")), whole.h.values[:, [1, 3], [0, 7]])
    for part in (found.h, found.h[0, 20], found.h[:, -1:], found.h[..., 2], found.h.sel(time=240)):
        with pytest.raises(RecordingError, match="chunk h/0.4.0 is not as it was written"):
            part.load()


def test_a_chunk_that_goes_after_opening_is_missed(tmp_path):
    found = tiny(tmp_path / "run.zarr")
    (tmp_path / "run.zarr/h/0.1.0").unlink()
    with pytest.raises(RecordingError, match="chunk h/0.1.0 is missing"):
        found.h.load()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"metadata": 3}', b'{"digest": "0"}'])
def test_damaged_metadata(tmp_path, content):
    out = tmp_path / "run.zarr"
    tiny(out)
    (out / ".zmetadata").write_bytes(content)
    for call in (use, lambda path: tiny(path, "resume")):
        with pytest.raises(RecordingError, match="damaged.*zmetadata"):
            call(out)
    tiny(out, "overwrite")  # which is what the message advises


def test_a_change_of_metadata_is_found(tmp_path):
    out = tmp_path / "run.zarr"
    tiny(out)
    text = (out / ".zmetadata").read_text()
    for old, new in (('"recorded": 24', '"recorded": 14'), ("<f4", "<i4"), ('"dt": 10', '"dt": 20'), ("8\n", "9\n"), ('"digest"', '"digset"')):
        assert old in text
        (out / ".zmetadata").write_text(text.replace(old, new))
        with pytest.raises(RecordingError, match="is not as it was written"):
            open_recording(out)


def test_metadata_that_zarr_keeps_twice_is_restored(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    stopped(out, monkeypatch)
    (out / "h/.zarray").unlink()
    (out / "h_mean/.zattrs").write_text("{")
    (out / ".zattrs").write_text("[]")
    found = tiny(out, "resume").load()
    xr.testing.assert_identical(found.drop_attrs(), tiny(None).drop_attrs())
    xr.testing.assert_identical(xr.open_zarr(out, consolidated=False).load().drop_attrs(), found.drop_attrs())


def test_resuming_finds_damage_of_what_was_recorded_before(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    stopped(out, monkeypatch)
    for name in ("h/0.1.0", "h_mean/0.0.0", "unit_id/0"):
        data = (out / name).read_bytes()
        for broken in (None, data[:-2], bytes([data[0] ^ 1]) + data[1:]):
            (out / name).unlink() if broken is None else (out / name).write_bytes(broken)
            with pytest.raises(RecordingError, match=f"chunk {name}"):
                tiny(out, "resume")
        (out / name).write_bytes(data)
    (out / "h/0.3.0").write_bytes(b"nonsense")  # the chunk begun is in the checkpoint, too
    xr.testing.assert_identical(tiny(out, "resume").load().drop_attrs(), tiny(None).drop_attrs())


@pytest.mark.parametrize("every", [301, pytest.param(13, marks=pytest.mark.slow)])
def test_bytes_all_over_a_checkpoint_count(tmp_path, monkeypatch, every):
    out = tmp_path / "run.zarr"
    stopped(out, monkeypatch)
    file = out / CHECKPOINT
    data = file.read_bytes()
    for at in range(0, len(data), every):
        file.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        with pytest.raises(ResumeError, match=r"cannot read the checkpoint: .* is (damaged|not a checkpoint).*--overwrite"):
            tiny(out, "resume")
    for length in (0, 1, 20, 57, 58, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(ResumeError, match="is not a checkpoint of a simulation: it is cut short"):
            tiny(out, "resume")
    file.write_bytes(data + b"0")
    with pytest.raises(ResumeError, match="is not a checkpoint of a simulation: it is cut short"):
        tiny(out, "resume")
    file.unlink()
    with pytest.raises(ResumeError, match="cannot read the checkpoint: .*does not exist"):
        tiny(out, "resume")
    file.write_bytes(data)
    xr.testing.assert_identical(tiny(out, "resume").load().drop_attrs(), tiny(None).drop_attrs())


def test_another_network_or_option_is_refused_by_a_finished_recording(tmp_path):
    out = tmp_path / "run.zarr"
    whole = tiny(out).load()
    for options, message in (
        (dict(net=network(seed=4)), "weights: "),
        (dict(net=network(tau=80)), "time constants: "),
        (dict(net=network(activation="tanh")), "activation: "),
        (dict(seed=4), "seed: 3 then, 4 now"),
    ):
        with pytest.raises(ResumeError, match=message):
            tiny(out, "resume", **options)
    xr.testing.assert_identical(tiny(out, "resume").load(), whole)


def test_a_checkpoint_left_by_a_kill_at_the_very_end_is_removed(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    stopped(out, monkeypatch)
    kept = (out / CHECKPOINT).read_bytes()
    whole = tiny(out, "resume").load()
    (out / CHECKPOINT).write_bytes(kept)
    xr.testing.assert_identical(tiny(out, "resume").load(), whole)
    assert not (out / CHECKPOINT).exists()


def test_activity_that_is_nan_is_no_damage(tmp_path):
    def undefined(x):
        return torch.sqrt(x - 10)

    g = sm.RegionGraph()
    g.add_region("a", 3)
    run = simulate(sm.mRNN(g, activation=undefined, device="cpu", backend="csr"), steps=12, out=tmp_path / "run.zarr")
    assert np.isnan(run.h.values).all()
    assert len(list((tmp_path / "run.zarr/h").glob("0.*"))) == 3


def test_long_labels_and_single_units(tmp_path):
    g = sm.RegionGraph()
    g.add_region("r" * 300, 1, unit_ids=["é" * 200])
    run = simulate(sm.mRNN(g, device="cpu"), steps=1, out=tmp_path / "run.zarr", record=Record(what=["units", "variance"]))
    assert run.region.values.tolist() == ["r" * 300] == run.group.values.tolist()
    assert run.unit_id.values.tolist() == ["é" * 200]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "metadata", "coordinate"])
def test_at_the_command_line(config, tmp_path, damage):
    out, picture = tmp_path / "run.zarr", tmp_path / "activity.png"
    command("simulate", config, "--out", out)
    command("plot", "activity", out, "--out", picture)
    picture.unlink()
    name = {"metadata": ".zmetadata", "coordinate": "unit_id/0"}.get(damage, "h/0.2.0")
    data = (out / name).read_bytes()
    (out / name).unlink()
    if damage not in ("missing", "coordinate"):
        (out / name).write_bytes(data[:30] if damage == "truncated" else data[:40] + bytes([data[40] ^ 1]) + data[41:])
    for args in (("plot", "activity", out, "--out", picture), ("simulate", config, "--out", out, "--resume"), ("simulate", config, "--out", out, "--resume", "--quiet")):
        text = command(*args, code=1).replace("\n", " ")
        assert "is damaged" in text
        assert name in text
    assert not picture.exists()
    command("simulate", config, "--out", out, "--overwrite")


def test_a_resumed_run_without_a_seed_takes_that_of_the_recording(tmp_path):
    config = tmp_path / "net.json"
    config.write_text(json.dumps({**CONFIG, "simulation": {"duration": 240, "noise": True}}))
    out = tmp_path / "run.zarr"
    command("simulate", config, "--out", out)
    whole = open_recording(out).load()
    command("simulate", config, "--out", out, "--resume")
    command("simulate", config, "--out", tmp_path / "again.zarr", "--seed", whole.attrs["seed"])
    xr.testing.assert_identical(open_recording(tmp_path / "again.zarr").load(), whole)


def test_what_is_no_recording_is_left_alone(tmp_path, config):
    shutil.copy(config, tmp_path / "other.json")
    before = sorted(p.name for p in tmp_path.iterdir())
    for out in (".", "/", tmp_path, tmp_path / "other.json", f"{tmp_path}/x/.."):
        for option in ("--overwrite", "--resume"):
            text = command("simulate", config, "--out", out, option, code=1)
            assert "error: " in text
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (("simulate", "CONFIG", "--seed", -1), "--seed: Input should be greater than or equal to 0", 1),
        (("simulate", "CONFIG", "--duration", "1e300"), "use at most 9.0e+15 time steps", 1),
        (("simulate", "CONFIG", "--duration", "1e300", "--what", "mean", "--every", 10**9, "--yes"), "use at most", 1),
        (("simulate", "CONFIG", "--duration", "1e14", "--out", "OUT", "--yes"), "the times recorded alone take", 1),
        (("simulate", "CONFIG", "--every", 0), "--every: Input should be greater than or equal to 1 (got 0)", 1),
        (("simulate", "CONFIG", "--batch", 10**13, "--what", "mean", "--every", 24), "takes", 1),
        (("simulate", "CONFIG", "--device", "meta"), "networks do not run on the meta device", 1),
        (("simulate", "CONFIG", "--device", "mps"), "this torch has none", 1),
        (("simulate", "CONFIG", "--checkpoint-seconds", "nan", "--out", "OUT"), "checkpoint_seconds is nan", 1),
        (("simulate", "CONFIG", "--stim", "a:inf"), "amplitude is inf; it must be a finite number", 1),
        (("info", "CONFIG", "--batch", -1), "Invalid value for '--batch'", 2),
        (("info", "CONFIG", "--steps", 0), "Invalid value for '--steps'", 2),
    ],
)
def test_values_that_make_no_sense(config, tmp_path, args, message, code):
    out = tmp_path / "run.zarr"
    result = CliRunner().invoke(sm.cli.app, [str({"CONFIG": config, "OUT": out}.get(a, a)) for a in args], env={"COLUMNS": "200"})
    assert result.exit_code == code
    assert message in re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert not out.exists()
