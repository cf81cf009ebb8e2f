"""Prepare the shipped C. elegans network from the tables of Cook et al. (2019).

    python tools/prepare_celegans.py DIRECTORY [--out celegans.json]

DIRECTORY holds ``herm_full_edgelist.csv`` (Source, Target, Weight in EM sections, Type) and
``all_cell_info.csv`` (Cell name, Type, ...), as the C. elegans Connectome Toolbox (cect, MIT) has them.
The weight of a chemical synapse is its number of EM sections, the conductance of a gap junction its number
of sections over SECTIONS. What is left out is printed, with the reason.

Cook, S. J. et al. Whole-animal connectomes of both Caenorhabditis elegans sexes. Nature 571, 63-71 (2019).
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import scipy.sparse as sp

from sparse_mrnn.declaration.config import SimulationConfig, write_config
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConfigError

GABA = re.compile(r"(DD\d+|VD\d+|RME(D|V|L|R)|AVL|DVB|RIS)$")
"""GABAergic, hence inhibitory, neurons: DD, VD, RME, AVL, DVB and RIS (McIntire et al. 1993)."""

SECTIONS = 118
"""Sections of a gap junction with the conductance of the leak: as many as those of a chemical synapse with a
weight of 1, at a spectral radius of 0.9."""

REGIONS: list[tuple[str, str, str]] = [
    # (pattern of the cell type, region, parent); the first match counts
    (r"^Pharyngeal interneuron", "pharyngeal_inter", "pharyngeal"),
    (r"^Pharyngeal motor neuron", "pharyngeal_motor", "pharyngeal"),
    (r"^Pharyngeal polymodal neuron", "pharyngeal_polymodal", "pharyngeal"),
    (r"^(Amphid$|Amphid,|Amphid )", "amphid", "sensory"),
    (r"^Cephalic", "cephalic", "sensory"),
    (r"^(Mechanosensory|Touch)", "touch", "sensory"),
    (r"^Phasmid", "phasmid", "sensory"),
    (r"^O2", "oxygen", "sensory"),
    (r"^Layer 1 interneuron", "layer_1", "interneuron"),
    (r"^Layer 2 interneuron", "layer_2", "interneuron"),
    (r"^Layer 3 interneuron", "layer_3", "interneuron"),
    (r"^(Category 4 interneuron|Linker to pharynx)", "other_inter", "interneuron"),
    (r"^Head motor neuron", "head_motor", "motor"),
    (r"^Sublateral motor neuron", "sublateral_motor", "motor"),
    (r"^Ventral cord motor neuron", "ventral_cord_motor", "motor"),
    (r"^Hermaphrodite specific motor neuron", "hermaphrodite_motor", "motor"),
    (r"^Canal neuron", "canal", "other"),
]

ORGANS = {
    "dBWM": "Body wall muscle",
    "vBWM": "Body wall muscle",
    "pm": "Pharyngeal muscle",
    "vm": "Vulval muscle",
    "um": "Uterine muscle",
    "mc": "Marginal cell of the pharynx",
    "int": "Intestine or intestinal muscle",
    "sph": "Anal/sphincter muscle",
    "anal": "Anal/sphincter muscle",
}
"""Cells of the edge list under names the cell table does not have."""


def canonical(name: str) -> str:
    """A cell name as the cell table has it: ``AS01 `` becomes ``AS1``.

    >>> canonical("AS01 "), canonical("VD10"), canonical("AVAL")
    ('AS1', 'VD10', 'AVAL')
    """
    return re.sub(r"^([A-Z]+)0+(\d)", r"\1\2", name.strip())


def describe(cell: str, others: dict[str, str]) -> str:
    """What a cell that is no neuron is: by the cell table, or by the prefix of its name."""
    if cell in others:
        return others[cell]
    return next((what for prefix, what in ORGANS.items() if cell.startswith(prefix)), f"unknown cell {cell}")


def read_cells(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Region of every neuron, and the type of every other cell."""
    neurons: dict[str, str] = {}
    others: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, kind = canonical(row["Cell name"]), row["Type"].strip()
            region = next((region for pattern, region, _ in REGIONS if re.match(pattern, kind)), None)
            if region is None:
                others[name] = kind
            else:
                neurons[name] = region
    return neurons, others


def build(directory: Path) -> RegionGraph:
    """Read both tables, report what is left out, and return the network."""
    neurons, others = read_cells(directory / "all_cell_info.csv")
    edges: dict[tuple[str, str, str], float] = defaultdict(float)
    dropped: Counter[str] = Counter()
    with (directory / "herm_full_edgelist.csv").open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            source, target = canonical(row["Source"]), canonical(row["Target"])
            outside = [cell for cell in (source, target) if cell not in neurons]
            if outside:
                dropped[describe(outside[0], others)] += 1
                continue
            if row["Type"].strip() not in ("chemical", "electrical"):
                problem = f"type {row['Type']!r} is neither chemical nor electrical."
                raise ConfigError(f"herm_full_edgelist.csv: line {line}: {problem}")
            edges[source, target, row["Type"].strip()] += float(row["Weight"])
    gaps = {(a, b): weight for (a, b, kind), weight in edges.items() if kind == "electrical"}
    one_way = [(a, b) for (a, b), weight in gaps.items() if gaps.get((b, a)) != weight]
    for a, b in one_way:  # a gap junction conducts both ways: the larger count of the two directions
        edges[a, b, "electrical"] = edges[b, a, "electrical"] = max(gaps[a, b], gaps.get((b, a), 0))

    graph = RegionGraph(name="celegans")
    index: dict[str, tuple[str, int]] = {}
    for _, region, parent in REGIONS:
        members = sorted(cell for cell, where in neurons.items() if where == region)
        index.update({cell: (region, k) for k, cell in enumerate(members)})
        signs = [-1 if GABA.match(cell) else 1 for cell in members]
        graph.add_region(region, len(members), sign=signs, parent_region=parent, unit_ids=members)
    blocks: dict[tuple[str, str, str], list[tuple[int, int, float]]] = defaultdict(list)
    order = list(graph)
    for (source, target, kind), weight in sorted(edges.items()):
        (a, j), (b, i) = index[source], index[target]
        if kind == "electrical":
            if source == target:
                dropped["a gap junction of a neuron with itself"] += 1
            elif order.index(a) <= order.index(b):  # one projection is both directions
                blocks[a, b, kind].append((i, j, round(weight / SECTIONS, 6)))
            continue
        inhibitory = kind == "chemical" and GABA.match(source)
        blocks[a, b, kind].append((i, j, -weight if inhibitory else weight))
    for (a, b, kind), entries in sorted(blocks.items()):
        rows, cols, values = zip(*entries, strict=True)
        matrix = sp.coo_array((values, (rows, cols)), shape=(graph.region(b).n, graph.region(a).n))
        graph.add_projection(a, b, weights=matrix, key=kind, kind=kind)

    count = Counter(kind for _, _, kind in edges)
    silent = [cell for cell in neurons if not any(cell in (a, b) for a, b, _ in edges)]
    kept = f"{count['chemical']} chemical synapses, {count['electrical']} gap junctions (both directions)"
    print(f"kept: {len(neurons)} neurons, {kept}")
    print(f"made symmetric: {len(one_way)} gap junctions listed one way or with two counts")
    print(f"neurons without a synapse among neurons: {', '.join(silent) or 'none'}")
    print(f"left out: {sum(dropped.values())} edges, most with a cell that is not a neuron:")
    for kind, n in dropped.most_common():
        print(f"  {n:5d}  {kind}")
    return graph


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Prepare the shipped C. elegans network.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("celegans.json"))
    options = parser.parse_args()
    touch = {"region": "touch", "amplitude": 1.0, "start": 200, "stop": 600, "units": ["ALML", "ALMR", "AVM"]}
    noise = dict(noise=True, noise_level_act=0.002)
    settings = dict(duration=1200, dt=5, tau=50, seed=0, spectral_radius=0.9, stimulus=[touch], **noise)
    write_config(build(options.directory), options.out, SimulationConfig.model_validate(settings))


if __name__ == "__main__":
    main()
