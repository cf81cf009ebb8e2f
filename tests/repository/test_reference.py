"""The reference is whole: every public name is on a page of it, with a docstring that says what it takes."""

import dataclasses
import functools
import importlib
import inspect
import re

import griffe
import pytest

import sparse_mrnn as sm
from helpers import ROOT

PAGES = ROOT / "docs" / "reference"
MODULES = [
    "sparse_mrnn", "sparse_mrnn.analysis", "sparse_mrnn.benchmark", "sparse_mrnn.declaration.config", "sparse_mrnn.connectome", "sparse_mrnn.distributed",
    "sparse_mrnn.fly_vision", "sparse_mrnn.interop", "sparse_mrnn.plot", "sparse_mrnn.presets", "sparse_mrnn.recording", "sparse_mrnn.simulation",
    "sparse_mrnn.spectral", "sparse_mrnn.stimulus", "sparse_mrnn.tasks", "sparse_mrnn.training",
]  # fmt: skip
PUBLIC = [(module, name) for module in MODULES for name in importlib.import_module(module).__all__]


def found(path):
    """The object of a dotted name."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            owner = getattr(owner, part)
        return owner
    raise AssertionError(path)


def exists(path):
    try:
        found(path)
    except AttributeError:
        return False
    return True


def documented():
    """Objects on the pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    return {id(found(path)) for path in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}


def undocumented_arguments(function, text):
    """Parameters that no Parameters section names."""
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    section = re.search(r"(Parameters|Attributes)\n\s*-+\n(.*?)(\n\s*\n\s*[A-Z][a-z ]+\n\s*-{3,}|\Z)", text, re.DOTALL)
    listed = section[2] if section else ""
    return [name for name in names if not re.search(rf"(^|[\s,*`]){re.escape(name)}\b", listed)]


def undescribed_fields(thing):
    """A dataclass's own public fields, without those that say what they are themselves."""
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    own = {name for name in vars(thing).get("__annotations__", ()) if not name.startswith("_")}
    return [field.name for field in fields if field.name in own and "description" not in field.metadata]


def test_defaults_are_those_of_the_signature(monkeypatch):
    monkeypatch.chdir(PAGES.parent.parent)
    extensions = griffe.load_extensions("dataclasses", "tools/griffe_defaults.py")
    package = griffe.load("sparse_mrnn", search_paths=["."], docstring_parser="numpy", extensions=extensions)
    for name, parameter, default in (("models.leaky.mRNN", "tau", "100"), ("stimulus.waveforms.Ramp", "last", None)):
        [section] = [s for s in package[name].docstring.parsed if s.kind.value == "parameters"]
        [shown] = [p.value for p in section.value if p.name == parameter]
        assert (shown if shown is None else str(shown)) == default


def test_every_public_name_is_on_a_page():
    known = documented()
    missing = [f"{module}.{name}" for module, name in PUBLIC if id(found(f"{module}.{name}")) not in known]
    assert not missing


def test_names_of_the_index_exist():
    modules, methods = (PAGES / "index.md").read_text(encoding="utf-8").split("## Methods of a network")
    names, owner = [], None
    for first, second in re.findall(r"^\|(.*?)\|(.*)\|$", modules, re.MULTILINE):
        owner = first.strip(" `") or owner
        names += [f"{owner}.{name}" for name in re.findall(r"`([\w.]+)`", second)]
    net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, device="cpu")
    names_of_methods = [name for first in re.findall(r"^\| (`.*?) \|", methods, re.MULTILINE) for name in re.findall(r"`([\w.]+)", first)]
    assert len(names) > 100
    assert len(names_of_methods) > 40
    assert not [name for name in names if not exists(name)]
    for name in names_of_methods:
        functools.reduce(getattr, name.split("."), net)


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module}.{name}" for module, name in PUBLIC])
def test_docstrings(module, name):
    thing = found(f"{module}.{name}")
    if not callable(thing):
        return
    text = inspect.getdoc(thing) or ""
    assert text, "no docstring"
    if inspect.isfunction(thing):
        assert not undocumented_arguments(thing, text)
        raises = re.search(r"^\s*raise \w+Error", inspect.getsource(thing), re.MULTILINE)
        assert not raises or "Raises\n" in text, "errors are raised, and none is documented"
        return
    public = vars(thing).items()
    bare = [
        attribute for attribute, value in public
        if not attribute.startswith("_") and isinstance(value, (property, staticmethod, classmethod)) | inspect.isfunction(value)
        and not inspect.getdoc(getattr(thing, attribute))
    ]  # fmt: skip
    assert not bare, f"methods without a docstring: {bare}"
    assert not [f for f in undescribed_fields(thing) if not re.search(rf"\b{f}\b", text)]
