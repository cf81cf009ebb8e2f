"""Imports point only downward, without circles; the tests mirror the package.

Each table of exceptions gives a reason for each entry. An entry that nothing needs any more makes its test fail.
"""

import ast
import re
import subprocess
import sys
from functools import cache

import networkx as nx

from helpers import ROOT, TESTS

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
    {"simulation", "training", "tasks", "presets"},
    {"analysis", "data", "distributed"},
    {"benchmark", "connectome"},
    {"fly_vision", "interop"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

VERSION = "reads __version__, which is at the top"
IMPORTS_IN_FUNCTIONS = {
    ("state.checkpoint", ""): VERSION,
}
"""Module and what a function of it imports. The command line, which starts fast because it loads late, needs no entry."""

HASATTR = {
    ("connectome.table_files", "columns"): "a data frame of pandas, polars or pyarrow; none of them is a dependency",
    ("connectome.table_files", "to_numpy"): "a data frame of pandas, polars or pyarrow; none of them is a dependency",
    ("connectome.table_files", "to_records"): "a data frame of pandas, which is not a dependency",
    ("analysis.time_blocks", "data_vars"): "a dataset of xarray, which is optional",
    ("analysis.time_blocks", "dims"): "an array of xarray, which is optional",
    ("ops.activations", "variable"): "a node of autograd's graph, whose classes torch does not name",
    ("spectral.inputs", "shape"): "any array or sparse matrix",
    ("spectral.inputs", "get_weight_subset"): "a network, of a layer above: to go",
    ("spectral.differentiable", "get_weight_subset"): "a network, of a layer above: to go",
    ("training.checkpoint", "load_state_dict"): "any optimizer or scheduler, torch's or not",
    ("training.checkpoint", "param_groups"): "tells an optimizer from a scheduler",
}
"""Module and attribute. To find out which class something is, ask for the class, or let the class answer."""


def module_name(path):
    """The name of a module within the package; that of sparse_mrnn/__init__.py is empty."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def trees():
    """The syntax tree of each module."""
    return {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(node):
    """The modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        package, _, inner = name.partition(".")
        if package == "sparse_mrnn":
            while inner not in MODULES:
                inner = inner.rpartition(".")[0]
            yield inner


def imports_within(node, kind="module"):
    """Pairs (kind, module) of a tree; the kind is "module", "function" or "types" (only for the type checker)."""
    for child in ast.iter_child_nodes(node):
        inner = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "types"
        for name in imported(child):
            yield inner, name
        yield from imports_within(child, inner)


@cache
def imports():
    """Triples of each import in the package: where it stands, the module it names, its kind."""
    return {(here, there, kind) for here, tree in trees().items() for kind, there in imports_within(tree)}


def layer(module):
    return module.partition(".")[0]


def misplaced(found):
    """Imports that do not point downward; for the type checker they may point sideways."""
    for here, there, kind in sorted(found):
        if here and there and layer(here) != layer(there):
            down = LEVEL[layer(there)] - LEVEL[layer(here)]
            if down > 0 or (down == 0 and kind != "types"):
                yield f"{here} imports {there}"


def test_imports_point_downward():
    assert len(imports()) > 300
    assert not list(misplaced(imports()))
    assert len(list(misplaced({("ops.x", "models.y", "types"), ("tasks.x", "training.y", "types"), ("tasks.x", "training.y", "module")}))) == 2


def circles(found):
    """Modules that import each other, at the top or in functions."""
    graph = nx.DiGraph()
    graph.add_edges_from((here, there) for here, there, kind in found if kind != "types" and (here, there) not in IMPORTS_IN_FUNCTIONS)
    rings = [sorted(ring) for ring in nx.strongly_connected_components(graph) if len(ring) > 1]
    return rings + [[module] for module in nx.nodes_with_selfloops(graph)]


def test_no_module_imports_itself_in_a_circle():
    assert not circles(imports())
    assert circles({("ops.a", "ops.b", "module"), ("ops.b", "ops.a", "function")}) == [["ops.a", "ops.b"]]
    assert not circles({("ops.a", "ops.b", "module"), ("ops.b", "ops.a", "types")})


def only(found, table):
    """What was found is what the table excuses, no less."""
    new, gone = sorted(found - set(table)), sorted(set(table) - found)
    assert not new, f"not allowed: {new}"
    assert not gone, f"no longer needed, remove the entries: {gone}"


def test_imports_are_at_the_top():
    only({(here, there) for here, there, kind in imports() if kind == "function" and layer(here) != "cli"}, IMPORTS_IN_FUNCTIONS)


def test_no_class_is_told_by_its_attributes():
    found = set()
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
                found.add((name, ast.literal_eval(node.args[1])))
    only(found, HASATTR)


def test_ops_know_no_regions_and_the_graph_no_torch():
    for path in (PACKAGE / "ops").rglob("*.py"):
        assert "region" not in path.read_text().lower().replace("knows no region names", ""), path
    for path in (PACKAGE / "declaration").glob("*.py"):
        words = path.read_text().lower()
        for harmless in ("no torch", "mrnntorch", "torch_sparse"):
            words = words.replace(harmless, "")
        assert "torch" not in words, path


def test_lowering_needs_no_torch():
    """A graph becomes a matrix in numpy, without torch: names are resolved so, too."""
    code = """import sys; sys.modules["torch"] = None
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.lowering.layout import UnitNames
from sparse_mrnn.lowering.lower import lower
g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a")
print(lower(g, seed=0).to_scipy().nnz, UnitNames(g).find("a[2]"))"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    assert found == "9 ('recurrent', array([2]))"


def test_layers_above_the_models_use_public_methods_only():
    """No attribute that begins with an underscore is read from a network or its weights."""
    private = re.compile(r"\b(?:net|weights|rec|inp|part)\._(?!_)\w+")
    for name in ("simulation", "training", "analysis", "benchmark", "plot", "connectome", "fly_vision", "interop", "cli", "distributed"):
        path = PACKAGE / name
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            assert not private.findall(file.read_text()), file


# ---------------------------------------------------------------- the tests themselves

TEST_FILES = sorted(TESTS.rglob("test_*.py"))
FOLDERS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
APART = {"repository", "helpers", "fuzz", "data"}
"""Folders that mirror no package: tests about the repository; what tests share."""


def test_the_tests_mirror_the_package():
    assert {path.name for path in TESTS.iterdir() if path.is_dir() and list(path.glob("*.py"))} <= FOLDERS | APART
    assert len(TEST_FILES) > 60
    for path in TEST_FILES:
        folder = path.relative_to(TESTS).parts[:-1]
        if not folder:
            assert path.stem.removeprefix("test_") in MODULES, f"{path.name} is of no module at the top"
        else:
            assert len(folder) == 1, path


def test_no_test_imports_another():
    for path in [*TEST_FILES, *(TESTS / "helpers").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(("test_", "conftest", "tests.")), f"{path} imports {name}: move what is shared to tests/helpers"
