"""JSON configurations: the seed's schema, our extensions, errors that say where and what."""

import json
from pathlib import Path

import numpy as np
import pydantic
import pytest

import sparse_mrnn as sm
from helpers import ROOT
from sparse_mrnn.declaration.config import json_schema
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.lowering.lower import lower

CONFIGS = ROOT / "configs"

SEED = {
    "__comment": "ignored",
    "recurrent_regions": [
        {"num_units": 3, "__comment_2": "ignored too"},
        {"name": "b", "num_units": 2, "sign": "neg", "base_firing": 1, "init": 0.5, "parent_region": "p", "learnable_bias": True},
    ],
    "input_regions": [{"num_units": 2}],
    "recurrent_connections": [{"src_region": "region_0", "dst_region": "b", "sparsity": 0.5}, {"src_region": "b", "dst_region": "b"}],
    "input_connections": [{"src_region": "region_0", "dst_region": "region_0"}],
}


def test_seed_schema_and_defaults():
    g = sm.read_config(SEED)
    assert [r.name for r in g.regions()] == ["region_0", "b"]
    assert [r.name for r in g.regions("input")] == ["input_0"]  # region_0 is taken
    assert (g.region("region_0").sign, g.region("b").sign, g.region("b").base_firing) == ("pos", "neg", 1.0)
    assert g.has_edge("input_0", "region_0")
    assert g["region_0"]["b"]["default"]["density"] == 0.5


def test_round_trip_keeps_everything(tmp_path):
    g = sm.RegionGraph(name="all")
    g.add_region("a", 3, sign=[1, -1, 0], base_firing=[1, 2, 3.0], tau=20, activation="tanh", unit_ids=list("xyz"))
    g.add_region("b", 3, sign=None, positions=np.eye(3), parent_region="p", learnable_bias=True)
    g.add_input("i", 2, sign="neg")
    g.add_projection("a", "b", density=0.5, trainable=False, initializer=sm.Gamma(mean=0.3))
    g.add_projection("a", "b", weights=np.diag([1.0, -2, 3]), key="w")
    g.add_projection("b", "b", rule=sm.DistanceDependent(2.0, cutoff=5.0), self_connections=False, sign="pos")
    g.add_projection("b", "a", rule=sm.Explicit((0, 1), (2, 0)))
    g.add_projection("i", "a", fan_in=1)
    path = tmp_path / "net.json"
    sm.write_config(g, path)
    again = sm.read_config(path)
    assert sm.to_config(again) == sm.to_config(g)
    for kind in ("recurrent", "input"):
        one, two = lower(g, kind, seed=4), lower(again, kind, seed=4)
        assert one.col.tolist() == two.col.tolist()
        np.testing.assert_array_equal(one.values, two.values)
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_written_as_they_are(tmp_path):
    names = ("x  y", "[ p", "q  ]", "a, \n b")
    g = sm.RegionGraph()
    g.add_region("[b  c]", 4, unit_ids=names, base_firing=[1, 2, 3.0, 4])
    sm.write_config(g, tmp_path / "net.json")
    (again,) = sm.read_config(tmp_path / "net.json").regions()
    assert (again.name, again.unit_ids) == ("[b  c]", names)
    assert '"base_firing": [1.0, 2.0, 3.0, 4.0]' in (tmp_path / "net.json").read_text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda p: p.stem)
def test_shipped_configs(path):
    if path.stem == "schema":
        if pydantic.VERSION.startswith("2.8."):
            pytest.skip("pydantic 2.8 writes the same schema in other words")
        assert json.loads(path.read_text()) == json_schema(), "run: sparse-mrnn schema > configs/schema.json"
    else:
        assert sm.read_config(path).n_units >= 192


def broken(**changes):
    return {**json.loads(json.dumps(SEED)), **changes}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (broken(recurent_regions=[]), "recurent_regions: unknown key. Did you mean 'recurrent_regions'"),
        (broken(recurrent_regions=[{"num_unit": 3}]), r"recurrent_regions\[0\].num_unit: unknown key. Did you mean 'num_units'"),
        (broken(recurrent_regions=[{"name": "a"}]), r"recurrent_regions\[0\].num_units: field required"),
        (broken(recurrent_regions=[{"num_units": "many"}]), r"num_units: .*valid integer.*'many'"),
        (broken(recurrent_regions=[{"num_units": 0}]), r"recurrent_regions\[0\]: region 'region_0': the number of units is 0"),
        (broken(recurrent_regions=[{"num_units": 2, "sign": "plus"}]), r"recurrent_regions\[0\].sign"),
        (broken(recurrent_connections=[{"src_region": "bb", "dst_region": "b"}]), r"recurrent_connections\[0\]: src_region 'bb'.*Did you mean 'b'"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "q"}]), r"recurrent_connections\[0\]: unknown target region 'q'"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "sparsity": 2}]), r"\[0\]: projection 'b' -> 'b'.*density is 2"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b"}] * 2), r"recurrent_connections\[1\]: .*exists already"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "fan_in": 9}]), "fan_in is 9, but there are 2"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "sparsity": 0.1, "density": 0.1}]), "give one"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "rule": "one_to_on"}]), "Did you mean 'one_to_one'"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "rule": {"type": "fixed_fan_in", "k": 3}}]), "takes no 'k'"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "rule": "fixed_fan_in"}]), "fan_in"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "initializer": "gama"}]), "Did you mean 'gamma'"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "weights": {"rows": [5], "cols": [0], "values": [1]}}]), "outside 0..1"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "weights": {"rows": [0], "cols": [], "values": [1]}}]), "same length"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "fan_in": True}]), r"\[0\].fan_in: .*not true or false"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "rule": {"type": "fixed_fan_in", "fan_in": True}}]), "true or false"),
        (broken(recurrent_connections=[{"src_region": "b", "dst_region": "b", "weights": {"rows": [True], "cols": [0], "values": [1]}}]), "not true or false"),
        (broken(recurrent_regions=[{"num_units": True}]), "num_units: .*not true or false"),
        (broken(recurrent_regions=[{"num_units": 2, "tau": [True, 5]}]), "tau: .*not true or false"),
        (broken(simulation={"dt": True}), "simulation.dt: .*not true or false"),
        (broken(simulation={"durration": 3}), "simulation.durration: unknown key. Did you mean 'duration'"),
        (broken(simulation={"dt": -1}), "simulation.dt: .*greater than 0"),
    ],
)
def test_bad_configs(config, message):
    with pytest.raises(ConfigError, match=message):
        sm.read_config(config)


def test_errors_without_a_number_of_the_system(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("the share is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(ConfigError, match="cannot write the configuration .*net.json: the share is gone"):
            sm.write_config(sm.read_config(SEED), tmp_path / "net.json")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match="net.json: cannot read the file: the share is gone"):
        sm.read_config(tmp_path / "net.json")


def test_bad_files(tmp_path):
    path = tmp_path / "net.json"
    with pytest.raises(ConfigError, match="net.json: cannot read"):
        sm.read_config(path)
    path.write_text('{"recurrent_regions": [\n  {"num_units": 3,}\n]}')
    with pytest.raises(ConfigError, match="net.json: line 2, column"):
        sm.read_config(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="JSON list"):
        sm.read_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        sm.read_config(path)
