"""Small connectomes in the files of other software."""

import zipfile
from collections import defaultdict

import numpy as np

BIG = 720575940600000000
EDGES = """pre_root_id,post_root_id,neuropil,syn_count,nt_type
720575940600000001,720575940600000002,AL_L,5,ACH
720575940600000001,720575940600000002,AL_R,2,ACH
720575940600000002,720575940600000003,AL_L,4,GABA
720575940600000003,720575940600000003,LH_L,1,GLUT
720575940600000003,720575940600000001,LH_L,6,GLUT
"""
NEURONS = """root_id,super_class,side,nt_type,nt_type_score
720575940600000003,optic,left,GLUT,0.9
720575940600000001,central,left,ACH,0.95
720575940600000004,central,right,,
720575940600000002,central,right,GABA,0.3
"""


def dense(graph, whole=False):
    """W by the last letters of unit ids, or by whole ids: {(target, source): weight}, parallel ones added."""
    part = slice(None) if whole else -1
    ids = {r.name: r.unit_ids for r in graph.regions()}
    out = defaultdict(float)
    for p in graph.projections():
        coo = p.weights.tocoo()
        for i, j, w in zip(coo.row, coo.col, coo.data, strict=True):
            out[ids[p.target][i][part], ids[p.source][j][part]] += float(w)
    return dict(out)


def by_unit(graph):
    """Sums of the weights by ids of units: {(source, target): weight}."""
    ids = {r.name: r.unit_ids for r in graph.regions()}
    out = defaultdict(float)
    for p in graph.projections():
        coo = p.weights.tocoo()
        for i, j, w in zip(coo.row, coo.col, coo.data, strict=True):
            out[ids[p.source][j], ids[p.target][i]] += float(w)
    return dict(out)


COUNTS = {("2", "1"): 7, ("3", "2"): -4, ("3", "3"): -1, ("1", "3"): -6}
W = np.array([[0, 2.0, 0], [0.5, 0, -1], [0, 0, 0.25]])
TVB = {
    "weights.txt": "0 2 0\n1 0 0\n0 3 0\n",
    "centres.txt": "rV1 10 0 0\nlV1 -10 0 0\nlA1 -10 5 1\n",
    "tract_lengths.txt": "0 30 0\n30 0 0\n0 12 0\n",
    "hemispheres.txt": "1\n0\n0\n",
    "areas.txt": "1\n1\n1\n",
}


def tvb(path, **changes):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**TVB, **changes}.items():
            if text is not None:
                archive.writestr(name, text)
    return path


SMALL = {
    "nodes": [
        {"name": "R1", "pattern": ["stride", [1, 1]]},
        {"name": "L1", "pattern": ["stride", [1, 1]]},
        {"name": "W", "pattern": ["stride", [3, 2]]},
        {"name": "CT", "pattern": ["single", None]},
    ],
    "edges": [
        {"src": "R1", "tar": "L1", "alpha": -1, "offsets": [[[0, 0], 40]]},
        {"src": "L1", "tar": "L1", "alpha": 1, "offsets": [[[0, 0], 5], [[2, 0], 3], [[0, 2], 1.5]]},
        {"src": "W", "tar": "L1", "alpha": 1, "offsets": [[[1, 0], 2]]},
        {"src": "L1", "tar": "CT", "alpha": -1, "offsets": [[[1, -1], 7]]},
    ],
    "input_units": ["R1"],
    "output_units": ["L1"],
}
