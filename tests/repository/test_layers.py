"""Imports point only downward."""

import ast
import re

from helpers import ROOT

PACKAGE = ROOT / "sparse_mrnn"
LAYERS = [
    {"errors"},
    {"checks", "display", "runtime", "files"},
    {"stimulus", "recording"},
    {"declaration"},
    {"ops"},
    {"lowering"},
    {"spectral", "state"},
    {"models"},
    {"plot"},
    {"simulation", "training", "tasks"},
    {"analysis", "data", "distributed"},
    {"benchmark", "connectome"},
    {"fly_vision", "interop"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports():
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "sparse_mrnn":
                names = [f"sparse_mrnn.{alias.name}" for alias in node.names]
            for name in names:
                if name.startswith("sparse_mrnn."):
                    yield path, layer(path), name.split(".")[1]


def test_imports_point_downward():
    found = list(imports())
    assert len(found) > 30
    for path, here, there in found:
        assert here == there or LEVEL[there] < LEVEL[here], f"{path.name} in layer {here} imports {there}"


def test_ops_know_no_regions_and_the_graph_no_torch():
    for path in (PACKAGE / "ops").rglob("*.py"):
        assert "region" not in path.read_text().lower().replace("knows no region names", ""), path
    for path in (PACKAGE / "declaration").glob("*.py"):
        words = path.read_text().lower()
        for harmless in ("no torch", "mrnntorch", "torch_sparse"):
            words = words.replace(harmless, "")
        assert "torch" not in words, path


def test_lowering_needs_no_torch():
    """Neither lowering nor what it imports, however indirectly, imports torch."""
    open_, seen = [PACKAGE / "lowering" / "lower.py"], set()
    while open_:
        path = open_.pop()
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] == "torch"], path
            found = [PACKAGE.parent / (name.replace(".", "/") + ".py") for name in names if name.startswith("sparse_mrnn.")]
            open_ += [file for file in found if file.exists() and file not in seen]
    assert PACKAGE / "ops" / "csr_order.py" in seen


def test_layers_above_the_models_use_public_methods_only():
    """No attribute that begins with an underscore is read from a network or its weights."""
    private = re.compile(r"\b(?:net|weights|rec|inp|part)\._(?!_)\w+")
    for name in ("simulation", "training", "analysis", "benchmark", "plot", "connectome", "interop", "cli", "distributed"):
        path = PACKAGE / name
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            assert not private.findall(file.read_text()), file
