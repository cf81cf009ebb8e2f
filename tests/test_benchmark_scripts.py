"""Every benchmark script imports: what it uses is still there."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_script_imports(monkeypatch, name):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(name)
    assert callable(getattr(module, "main", None) or getattr(module, "table", None))
