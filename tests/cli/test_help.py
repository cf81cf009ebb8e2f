"""Help, JSON and messages of every command, at a width of 80."""

import json
import re

import numpy as np
import pytest
import typer.main

from helpers.command_line import SMALL, run
from sparse_mrnn.cli import app
from sparse_mrnn.cli.common import in_options, options_of_command


def commands():
    for name, command in typer.main.get_command(app).commands.items():
        yield from ((name, sub) for sub in command.commands) if hasattr(command, "commands") else [(name,)]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_whole_and_ends_with_examples_that_exist(words):
    text = run(*words, "--help")
    assert all(len(line) <= 80 for line in text.splitlines())
    cut = [line for line in text.splitlines() if "…" in line and "--no-" not in line]
    assert not cut
    examples = re.findall(r"^ +sparse-mrnn (.*?) *$", text.partition("Examples:")[2], re.MULTILINE)
    assert examples
    assert examples[0].split()[: len(words)] == list(words)
    known = typer.main.get_command(app)
    for example in examples:
        command, *rest = example.split(" > ")[0].split()
        command = known.commands[command]
        if hasattr(command, "commands"):
            command, *rest = command.commands[rest[0]], *rest[1:]
        command.make_context("example", rest)  # raises if an option is not one of the command


def test_forms_are_shown_whole():
    text = run("simulate", "--help")
    for form in ("--stim REGION:AMPLITUDE[:START[:STOP]]", "--gain SOURCE:TARGET:FACTOR[:START[:STOP]]", "@ids.txt"):
        assert form in text
    assert "--select COLUMN=VALUE[,VALUE...]" in run("import", "--help")


def test_json(config, tmp_path):
    found = json.loads(run("info", config, "--json"))
    assert found["regions"] == {"a": 5, "b": 3}
    assert found["inputs"] == {"cue": 2}
    assert found["memory_bytes"]["training"] > 0
    assert json.loads(run("info", config, "--ranks", 2, "--json"))["n_units"] == 8
    found = json.loads(run("spectrum", config, "--json", "--k", 2))
    assert len(found["eigenvalues"]) == 2
    assert set(found["regions"]) == {"a", "b"}
    found = json.loads(run("analyze", "lesions", config, "--stim", "cue:1", "--duration", "100ms", "--json"))
    assert found["target"] == ["a", "b"]
    assert np.shape(found["activity_change"]) == (2, 2)
    out = tmp_path / "run.zarr"
    run("simulate", config, "--stim", "cue:1", "--duration", "100ms", "--seed", 0, "--out", out)
    found = json.loads(run("analyze", "currents", out, "--json"))
    assert found["a"]["cue"] > 0
    assert found["a"]["a"] == 0
    assert "checks" in json.loads(run("doctor", "--quick", "--json"))
    np.savez(tmp_path / "m.npz", np.eye(3)[[1, 2, 0]])
    given = ("--orientation", "target_source", "--one-region", "--out", tmp_path / "net")
    assert json.loads(run("import", "matrix", tmp_path / "m.npz", *given, "--json"))["neurons"] == 3


def test_one_word_and_one_rule_for_overwriting(config, tmp_path):
    (tmp_path / "m.npz").touch()
    for words in (
        ("simulate", config, "--out"), ("screen", config, "--out"), ("import", "matrix", tmp_path / "m.npz", "--out"),
        ("analyze", "linearize", config, "--save"), ("bench", config, "--out"),
    ):  # fmt: skip
        (tmp_path / "results.json").touch()
        text = run(*words, tmp_path, code=1)
        assert f"{words[-1]} {tmp_path}" in text
        assert "exists; add --overwrite to replace it, or choose another path." in text
        assert "say which with" in run(*words[:-1], "--overwrite", code=1) or words[0] == "import"


def test_messages_speak_of_options(config, tmp_path):
    np.savez(tmp_path / "m.npz", a=np.triu(np.ones((3, 3)), 1))
    text = run("import", "matrix", tmp_path / "m.npz", "--out", tmp_path / "net", code=1)
    assert "Give --triangle mirror if" in text
    assert "Did you mean 'celegans'" in run("info", "celegns", code=1)
    token = options_of_command.set({"counts": ("--counts", "--real"), "unit": ("--unit", "--no-unit")})
    assert in_options("say counts=False, name units=") == "say --real, name --unit"
    options_of_command.reset(token)
    assert in_options("say counts=False") == "say counts=False"


def test_times_with_units(config, tmp_path):
    run("simulate", config, "--duration", "0.2s", "--dt", "5ms", "--stim", "cue:1:50ms:0.1s", "--out", tmp_path / "a.zarr")
    run("simulate", config, "--duration", 200, "--dt", 5, "--stim", "cue:1:50:100", "--out", tmp_path / "b.zarr")
    from sparse_mrnn.recording import open_recording

    a, b = (open_recording(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert a.sizes["time"] == b.sizes["time"] == 40
    assert "could not convert" in run("simulate", config, "--duration", "2h", code=2)


def test_screen(config, tmp_path):
    out, picture = tmp_path / "screen.zarr", tmp_path / "screen.png"
    text = run("screen", config, "--duration", 100, "--stim", "cue:1", "--out", out)
    assert "activation of" in text
    assert "silencing of" in text
    assert run("screen", config, "--duration", 100, "--stim", "cue:1", "--out", out, "--resume", "--quiet") == ""
    assert "duration: 100.0 then, 50.0 now" in run("screen", config, "--duration", 50, "--stim", "cue:1", "--out", out, "--resume", code=1)
    run("plot", "screen", out, "--kind", "silencing", "--out", picture)
    assert picture.stat().st_size > 5000
    assert "Did you mean 'activation'" in run("screen", config, "--kind", "activate", code=1)
    assert "FROM:TO" in run("screen", config, "--window", "10", code=1)


def test_a_stopped_screen_says_how_to_go_on(config, tmp_path, monkeypatch):
    from sparse_mrnn.analysis import screen as _  # noqa: F401
    from sparse_mrnn.errors import SweepStopped

    def stopped(*args, **options):
        raise SweepStopped(2, 4, None, f"; resume it to go on with {options['out']}")

    monkeypatch.setattr("sparse_mrnn.analysis.screen", stopped)
    text = run("screen", config, "--out", tmp_path / "s.zarr", code=130)
    assert "stopped after 2 of 4 runs; add --resume to go on with" in text


def test_demo(tmp_path):
    text = run("demo", "--out", tmp_path)
    assert "activity.png first" in text.replace("\n", " ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["activity.png", "celegans.zarr", "regions.png", "weights.png"]
    assert "exists; add --overwrite" in run("demo", "--out", tmp_path, code=1)
