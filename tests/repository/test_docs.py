"""The documentation is true: every Python block runs; every link, command, path and figure named exists."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer.main

from helpers import ROOT
from sparse_mrnn.cli import app

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
NOT_INSTALLED_BY_US = ("lightning", "neurogym")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:[\w.<>*-]+/)+(?:[\w.<>*-]+)?|[\w.<>*-]+\.py)`")
ELSEWHERE = {
    "pre/post": "the names of two columns",
    "build/": "a folder that a decision says was dropped",
    "gpu-report/packages": "made by a command",
    "gpu-report/report.md": "made by a command",
}
"""What is written as a path and is not in the repository."""


def blocks(page, *languages):
    """(first line, code) of the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(2)) + 1, m[2]) for m in FENCE.finditer(text) if m[1] in languages]


def named(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """Anchors of a page's headings, as MkDocs and GitHub make them for plain headings."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    namespace, absent = {"__name__": "__docs__"}, set()
    for line, code in blocks(page, "python"):
        needed = {name for name in NOT_INSTALLED_BY_US if re.search(rf"^import {name}$", code, re.MULTILINE)}
        absent |= {name for name in needed if importlib.util.find_spec(name) is None}
        if needed & absent:
            continue
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)  # newlines: a traceback names the page's line
    if "plot" in page.read_text(encoding="utf-8"):
        import matplotlib.pyplot as plt

        plt.close("all")
    if absent:
        pytest.skip(f"{' and '.join(sorted(absent))} not installed: the blocks with it were left out, all others ran")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_resolve(page):
    prose, broken = FENCE.sub("", page.read_text(encoding="utf-8")), []
    for number, path in re.findall(r"ecision (\d+)\]\((\S+)\)", prose):
        assert Path(path).name.startswith(f"{number:>04}-"), f"decision {number} is not in {path}"
    for link in LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{named(page)}: links to nothing: {broken}"


@cache
def tree():
    """Paths of the repository's files and folders, a folder's with a slash at its end."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return {*files, *(f"{folder}/" for file in files for folder in Path(file).parents)}


def absent_paths(text):
    """Paths in backticks that are not the end of a path of the repository; <name> stands for anything."""
    found = {path for path in PATH.findall(FENCE.sub("", text)) if path not in ELSEWHERE}
    patterns = {path: re.compile(rf"(?:^|.*/){re.sub('<.*?>|[*]', '[^/]*', path)}/?") for path in found}
    return sorted(path for path, pattern in patterns.items() if not any(map(pattern.fullmatch, tree())))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_exist(page):
    assert not absent_paths(page.read_text(encoding="utf-8"))


def test_absent_paths_are_found():
    text = "`ops/step.py` `step.py` `ops/` `ops/<name>.py` `tests/*/test_docs.py` `a.step` `ops/steps.py` `p.py` `<name>/no.py`"
    assert absent_paths(text) == ["<name>/no.py", "ops/steps.py", "p.py"]


def test_every_figure_is_shown_and_the_gallery_says_who_drew_it():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    unused = [figure.name for figure in (ROOT / "docs" / "figures").glob("*.png") if f"figures/{figure.name}" not in pages]
    assert not unused
    gallery = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    figures, captions = re.findall(r"figures/(\w+)\.png", gallery), re.findall(r"^\*(.*?)\*$", gallery, re.MULTILINE | re.DOTALL)
    assert len(figures) == len(captions) >= 12
    for figure, caption in zip(figures, captions, strict=True):
        script = ROOT / re.search(r"docs/figures/\w+\.py", caption)[0]
        text = script.read_text(encoding="utf-8")
        assert figure in text or figure.startswith(script.stem), f"{script.name} does not draw {figure}"


def test_make_figures_calls_every_script():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^figures:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    assert set(re.findall(r"docs/figures/(\w+\.py)", recipe)) == {path.name for path in (ROOT / "docs" / "figures").glob("*.py")}


def test_migration_changes_one_line():
    code = [code for _, code in blocks(ROOT / "docs" / "migration.md", "python")]
    imports = [line for line in code[0].splitlines() if re.match(r"\s*(from|import)\s+(sparse_mrnn|mrnntorch)", line)]
    assert imports == ["from sparse_mrnn import mRNN, ElmanmRNN"]
    assert code[0].startswith(imports[0])
    assert "sparse_mrnn." not in code[0]


def commands(page):
    """`sparse-mrnn` command lines of a page's shell blocks, continued lines joined."""
    for line, code in blocks(page, "bash", "console"):
        for text in code.replace("\\\n", " ").splitlines():
            words = text.split("#")[0].strip().removeprefix("$ ").split()
            if words and Path(words[0]).name == "sparse-mrnn":
                yield line, words[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=named)
def test_commands_exist(page):
    known = typer.main.get_command(app).commands
    for line, words in commands(page):
        if words[0] == "--help":
            continue
        assert words[0] in known, f"{named(page)}, block at line {line}: no command {words[0]!r}"
        command = known[words[0]]
        if hasattr(command, "commands") and words[1] != "--help":
            assert words[1] in command.commands, f"{named(page)}, block at line {line}: no command {words[1]!r}"
            command = command.commands[words[1]]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        for word in words[1:]:
            assert not word.startswith("--") or word.partition("=")[0] in options, f"{named(page)}, block at line {line}: no option {word}"


@pytest.mark.slow
@pytest.mark.parametrize("planted", [False, True])
def test_the_check_of_the_docs_fails_on_a_planted_warning(tmp_path, planted):
    """The flags of `make check`, and the settings of mkdocs.yml, on a page of one function."""
    options = re.search(r"mkdocs build (.*?) --site-dir", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n")[0]
    settings = settings.replace("paths: [.]", f"paths: [{tmp_path}]").replace("tools/griffe", f"{ROOT}/tools/griffe")
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    name = "absent" if planted else "there"
    docstring = f"Do.\n\n    Parameters\n    ----------\n    {name} : int\n        A number.\n    "
    (tmp_path / "planted.py").write_text(f'def f(there: int) -> None:\n    """{docstring}"""\n', encoding="utf-8")
    (tmp_path / "docs" / "stylesheets").mkdir(parents=True)
    (tmp_path / "docs" / "stylesheets" / "site.css").touch()
    (tmp_path / "docs" / "index.md").write_text("# Page\n\n::: planted.f\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", *options, "--site-dir", str(tmp_path / "site")]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (found.returncode != 0) is planted, found.stderr
    assert ("Parameter 'absent' does not appear" in found.stderr) is planted


@pytest.mark.slow
def test_both_columns_of_the_csv_page_give_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, namespace = ROOT / "docs" / "how_to" / "connectome_csv.md", {}
    for _, code in blocks(page, "python"):
        exec(code, namespace)
    shell = "".join(code for _, code in blocks(page, "bash")).replace("sparse-mrnn", f"{sys.executable} -m sparse_mrnn")
    subprocess.run(["bash", "-e", "-c", shell], check=True, timeout=300)
    recording = namespace["sm"].open_recording("run.zarr")
    assert recording.h.values.tolist() == namespace["recording"].h.values.tolist()
