"""Run the test suite under other versions of Python and of the dependencies, in environments of their own.

    python tools/versions.py [--folder DIRECTORY] [--python 3.11 3.12 3.13] [--set lowest highest] [-- pytest
    options]

An environment is made for each Python that is installed (python3.11, ...; pyenv's too) and each set: the
lowest versions that pyproject.toml allows, or the highest there are (torch as in constraints.txt). The last
line for each says how its run ended.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = {
    "3.12": {"numba": "0.61", "numpy": "2.0"},
    "3.13": {"numba": "0.61", "numpy": "2.1", "scipy": "1.14.1"},
}
"""Lowest versions with wheels for a Python, where they are above those of pyproject.toml."""


def interpreter(version: str) -> str | None:
    """The command of a Python version, if it is installed."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return shutil.which(f"python{version}") if not pyenv else str(pyenv[-1])


def lowest(version: str) -> list[str]:
    """Every requirement of pyproject.toml at the lowest version it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    pins = {}
    for requirement in (requirement for group in groups for requirement in group):
        found = re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)", requirement)
        if found:
            pins[found[1]] = found[2]
    pins |= {"pyparsing": "3.2.3"} | NEEDED.get(version, {})  # later ones make matplotlib 3.9 warn
    return [f"{name}=={number}" for name, number in pins.items()]


def run(version: str, kind: str, folder: Path, options: list[str]) -> str:
    """Make an environment, run the tests in it, and say how they ended."""
    python = interpreter(version)
    if python is None:
        return "not installed"
    home = folder / f"{version}-{kind}"
    own = home / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", home], check=True)
    pins = lowest(version) if kind == "lowest" else ["-c", str(ROOT / "constraints.txt")]
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{ROOT}[test]", *pins]
    made = subprocess.run(install, check=False, capture_output=True, text=True)
    if made.returncode:
        return f"cannot be installed: {made.stderr.strip().splitlines()[-1]}"
    subprocess.run(
        [own, "-m", "pip", "uninstall", "--quiet", "--yes", "sparse-mrnn"], check=True
    )  # this copy runs
    tests = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    if kind == "lowest":  # old versions of some packages use what newer ones of others have deprecated
        tests += ["-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        tests, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    (home / "log.txt").write_text(done.stdout + done.stderr)
    lines = done.stdout.strip().splitlines()
    return f"{lines[-1] if lines else 'no output'} ({home / 'log.txt'})"


def main() -> None:
    """Run all combinations; exit status 1 if one failed."""
    parser = argparse.ArgumentParser(description="Run the tests under other versions.")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-versions")
    parser.add_argument("--python", nargs="+", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--set", nargs="+", default=["lowest", "highest"], dest="sets")
    options, more = parser.parse_known_args()
    ended = {}
    for version in options.python:
        for kind in options.sets:
            ended[version, kind] = run(version, kind, options.folder, [word for word in more if word != "--"])
            print(f"Python {version}, {kind} versions: {ended[version, kind]}", flush=True)
    sys.exit(any("failed" in text or "cannot" in text or "error" in text for text in ended.values()))


if __name__ == "__main__":
    main()
