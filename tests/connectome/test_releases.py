"""Published connectomes, with the names of files and columns as they were released."""

import numpy as np
import pandas as pd
import pytest

from helpers.command_line import run
from helpers.common import refused
from helpers.connectome_files import by_unit
from sparse_mrnn.connectome import RELEASES, read_release

A, B, C = IDS = [720575940600000001, 720575940600000002, 720575940600000003]
PRE, POST, COUNT = IDS, [B, C, A], [3, 4, 5]
RING = {(str(A), str(B)): 3, (str(B), str(C)): -4, (str(C), str(A)): 5}
SIGNS = ["acetylcholine", "gaba", "acetylcholine"]
CLASSES = ["sensory", "central", "motor"]
FILES = {
    "male-cns": {
        "connectome-weights-male-cns-v1.0-minconf-0.5.feather": dict(
            body_pre=[*PRE, 99], body_post=[*POST, 98], weight=np.array([*COUNT, 1], dtype="i4")
        ),
        "body-annotations-male-cns-v1.0-minconf-0.5.feather": dict(bodyId=IDS, type=["a", None, "b"], superclass=CLASSES),
        "body-neurotransmitters-male-cns-v1.0.feather": dict(body=IDS[::-1], consensus_nt=SIGNS[::-1]),
    },
    "banc": {
        "banc_746_simple_edgelist.feather": dict(pre=PRE, post=POST, count=COUNT, norm=[0.1, 0.2, 0.3], total_input=[1, 2, 3]),
        "banc_746_meta.feather": dict(
            banc_746_id=list(map(str, IDS)), supervoxel_id=["1", "2", "3"], region=["central_brain"] * 3, super_class=CLASSES,
            neurotransmitter_predicted=SIGNS, neurotransmitter_score=[0.9, 0.8, 0.7],
        ),
    },
    "manc": {
        "traced-connections.csv": dict(bodyId_pre=PRE, bodyId_post=POST, weight=COUNT),
        "traced-connections-per-roi.csv": dict(bodyId_pre=PRE, bodyId_post=POST, roi=["x"] * 3, weight=COUNT),
        "traced-neurons.csv": dict(bodyId=IDS, type=["a", "b", "c"], instance=["a_L", "b_R", "c_L"]),
        "manc-v1.0-neuron-properties.feather": {
            "bodyId": [*IDS, 5], "class": [*CLASSES, "glia"], "predictedNt": [*SIGNS, "unknown"],
            "predictedNtProb": [0.9, 0.8, 0.7, None],
        },
    },
    "hemibrain": {
        "traced-total-connections.csv": dict(bodyId_pre=PRE, bodyId_post=POST, weight=COUNT),
        "traced-roi-connections.csv": dict(bodyId_pre=PRE, bodyId_post=POST, roi=["x"] * 3, weight=COUNT),
        "traced-neurons.csv": dict(bodyId=IDS, type=CLASSES, instance=["a_L", "b_R", "c_L"]),
    },
    "flywire-783": {
        "proofread_connections_783.feather": dict(
            pre_pt_root_id=PRE, post_pt_root_id=POST, neuropil=["AL_L"] * 3, syn_count=COUNT, gaba_avg=[0.1] * 3
        ),
        "Supplemental_file1_neuron_annotations.tsv": dict(
            supervoxel_id=[1, 2, 3], root_id=IDS, super_class=CLASSES, cell_type=["a", "b", None], top_nt=SIGNS,
            top_nt_conf=[0.9, 0.8, 0.7],
        ),
    },
    "microns": {
        "synapses_pni_2.csv": dict(
            id=range(14), pre_pt_root_id=[A] * 3 + [B] * 4 + [C] * 5 + [0, 7], post_pt_root_id=[B] * 3 + [C] * 4 + [A] * 5 + [A, B],
            size=range(14),
        ),
        "aibs_metamodel_celltypes_v661.csv": dict(
            id=range(6), pt_root_id=[*IDS, 0, 7, 7], cell_type=[*CLASSES, "astro", "x", "y"],
            classification_system=["excitatory_neuron", "inhibitory_neuron", "excitatory_neuron"] + ["nonneuron"] * 3,
        ),
    },
    "shiu-783": {
        "Completeness_783.csv": {"": IDS, "Completed": [True] * 3},
        "Connectivity_783.parquet": {
            "Presynaptic_ID": PRE, "Postsynaptic_ID": POST, "Presynaptic_Index": [0, 1, 2], "Postsynaptic_Index": [1, 2, 0],
            "Connectivity": COUNT, "Excitatory": [1, -1, 1], "Excitatory x Connectivity": [3, -4, 5],
        },
    },
    "larva": {
        "all-all_connectivity_matrix.csv": {"": IDS, str(A): [0, 0, 5], str(B): [3, 0, 0], str(C): [0, 4, 0]},
        "larva_type_meta.csv": dict(skid=IDS, cell_type=CLASSES, idx=[0.0, 1.0, None]),
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    def write(release):
        for name, columns in FILES[release].items():
            frame, path = pd.DataFrame(columns), tmp_path / name
            if path.suffix in (".csv", ".tsv"):
                frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
            else:
                getattr(frame, f"to_{path.suffix[1:]}")(path)
        return tmp_path

    return write


def test_every_release_is_tested_and_documented():
    from helpers import ROOT

    assert set(FILES) == set(RELEASES)
    page = (ROOT / "docs" / "connectomes.md").read_text()
    assert all(f'read_release("{release}"' in page for release in RELEASES)


@pytest.mark.parametrize("release", RELEASES)
def test_release(folder, release):
    graph, report = read_release(release, folder(release), scale="none")
    unsigned = release in ("hemibrain", "larva")
    assert by_unit(graph) == {pair: abs(n) if unsigned else n for pair, n in RING.items()}
    regions = {r.name: r.unit_ids for r in graph.regions()}
    if release != "shiu-783":
        assert regions == {name: (str(unit),) for name, unit in zip(CLASSES, IDS, strict=True)}
    assert report.isolated == 0


@pytest.mark.parametrize("release", RELEASES)
def test_release_from_memory(release):
    tables = [pd.DataFrame(columns) for columns in FILES[release].values()]
    if release == "manc":
        tables = [tables[0], tables[3]]
    elif release == "hemibrain":
        tables = [tables[0], tables[2]]
    elif release == "shiu-783":
        tables = [tables[1], tables[0].rename(columns={"": "root_id"})]
    graph, _ = read_release(release, tables, scale="none", regions=None, keep_isolated=False)
    assert {pair: abs(n) for pair, n in by_unit(graph).items()} == {pair: abs(n) for pair, n in RING.items()}
    assert len(list(graph)) == 1


def test_options_go_before_the_presets(folder):
    graph, report = read_release("male-cns", folder("male-cns"), regions="type", sign=None, transmitter=None, scale="none")
    assert sorted(graph) == ["a", "b", "unassigned"]
    assert report.dropped == {"edges with a neuron that the neuron table does not have": 1}
    with refused("neuron 99 is not in"):
        read_release("male-cns", folder("male-cns"), unknown="error")


def test_releases_that_are_not_right(folder, tmp_path):
    with refused("unknown release 'malecns'. Did you mean 'male-cns'"):
        read_release("malecns", tmp_path)
    path = folder("banc")
    (path / "banc_746_meta.feather").unlink()
    with refused("banc_.*meta.* of banc is missing; the folder has banc_746_simple_edgelist.feather"):
        read_release("banc", path)
    with refused("connectome-weights.* of male-cns is missing"):
        read_release("male-cns", path)
    pd.DataFrame({"other": [1]}).to_feather(path / "banc_746_meta.feather")
    with refused("the column 'banc_.*_id' or 'root_id' of banc is missing"):
        read_release("banc", path)


def test_releases_on_the_command_line(folder, tmp_path):
    out = tmp_path / "net"
    text = run("import", "release", folder("male-cns"), "--release", "male-cns", "--out", out)
    assert "3 neurons" in " ".join(text.split()) or "neurons: 3" in text
    assert "give --release" in run("import", "release", tmp_path, "--out", tmp_path / "other", code=1)


def test_options_of_the_command_line_for_tables(tmp_path):
    (tmp_path / "e.csv").write_text("a;b;1,5\n; left out\nb;a;2\nNA;a;3\n")
    (tmp_path / "n.csv").write_text("id,kind\na,x\nb,y\n")
    layout = ("--columns", "source,target,weight", "--comment", "; ", "--delimiter", ";", "--decimal", ",", "--real")
    args = ("import", "table", tmp_path / "e.csv", *layout, "--neurons", tmp_path / "n.csv", "--missing-ids", "drop")
    assert "2 regions" in run(*args, "--regions", "kind", "--out", tmp_path / "1")
    assert "1 regions" in run(*args, "--one-region", "--out", tmp_path / "2")
    assert "exclude each other" in run(*args, "--regions", "kind", "--one-region", "--out", tmp_path / "3", code=1)
    (tmp_path / "m.txt").write_text("; mine\n0 1 2\n0 0 3\n0 0 0\n")
    args = ("import", "matrix", tmp_path / "m.txt", "--comment", ";")
    assert "--triangle mirror" in run(*args, "--out", tmp_path / "4", code=1).replace("\n", " ")
    assert "6 from 6" in run(*args, "--triangle", "mirror", "--out", tmp_path / "4")
