"""Imports point only downward, and files stay readable in one sitting."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "sparse_mrnn"
LAYERS = [
    {"errors"},
    {"connectivity", "explicit", "initializers", "stimulus", "recording"},
    {"facts", "simulation_config"},
    {"graph"},
    {"config", "lowering", "ops"},
    {"spectral"},
    {"models"},
    {"simulate", "training", "tasks"},
    {"plot", "data", "benchmark"},
    {"connectome"},
    {"interop"},
    {"cli"},
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
    for path in (PACKAGE / "ops").glob("*.py"):
        assert "region" not in path.read_text().lower().replace("knows no region names", ""), path
    for name in ("graph", "facts", "explicit", "connectivity", "initializers", "config", "lowering"):
        assert "torch" not in (PACKAGE / f"{name}.py").read_text().replace("no torch", ""), name


def test_files_are_short():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path
