"""Fingerprint of a run, and the attributes of its recording, both from one description of the network."""

from __future__ import annotations

import json
import platform
from typing import Any

import numpy as np
import torch

from sparse_mrnn.declaration.config import to_config
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.state import checkpoint
from sparse_mrnn.state.describe import by_name, declared
from sparse_mrnn.state.network_file import topology

LARGEST_CONFIG = 20_000
"""Explicit synapses up to which a recording carries the whole configuration of its network."""
LARGEST, SHORTEST = 1_000_000, 10
"""Characters up to which the description of a network lists its projections, and fewer than one takes."""
OF_UNITS = ("n", "activation")
"""Fields of a region that are compared by their names; digests of tensors stand for the others."""


def network_fingerprint(net: mRNNBase) -> dict[str, Any]:
    """Describe everything in a network that its dynamics depend on; tensors by their digests. O(synapses)."""
    found = declared(net.describe())
    for regions in ("regions", "inputs"):
        found[regions] = {
            name: {field: region[field] for field in OF_UNITS if field in region}
            for name, region in found[regions].items()
        }
    delays = found["projections"]
    if "digest" not in delays:
        found["projections"] = {name: own for name, own in delays.items() if "delay" in own or "rank" in own}
    found |= {"dtype": net.settings()["dtype"], "backend": net.backend, "device": net.device.type}
    found |= {
        "time constants": digest(net.alpha),
        "tonic input": digest(net.tonic_inp),
        "initial state": digest(net.initial_condition),
        "activation gain": digest(net.activation_gain),
        "activation threshold": digest(net.activation_threshold),
        "unit noise": digest(torch.as_tensor(net.hid_noise_const, dtype=torch.float64)),
    }
    for weights in net.weight_matrices():
        found[f"{weights.kind} synapses"] = digest(weights.crow, weights.col)
        found[f"{weights.kind} weights"] = digest(weights.csr_values())
        if weights.low_rank is not None:
            found[f"{weights.kind} low-rank weights"] = digest(weights.low_rank.stored_values())
    if net.electrical is not None:
        pairs = net.electrical.pairs
        found["electrical synapses"] = digest(pairs.rows, pairs.cols, pairs.rectifies)
        found["electrical weights"] = digest(net.electrical.values())
    return found


def network_attributes(net: mRNNBase, fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Settings of a network one by one, its description as JSON, its configuration, and digests.

    The description has every region and projection with its settings, of an imported or loaded network too;
    of a great many projections, their number only.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, activation="tanh", tau=500, device="cpu")
    >>> found = network_attributes(net, network_fingerprint(net))
    >>> found["activation"], found["tau"]
    ('tanh', 500)
    """
    described, projections = net.describe(), net.graph.number_of_edges()
    many = projections * SHORTEST > LARGEST  # then they are not even listed
    state = net.state_dict(keep_vars=True)
    whole = {**by_name(described, projections=not many), "topology": topology(net.graph, state)}
    text = "" if many else json.dumps(whole)
    if many or len(text) > LARGEST:
        text = json.dumps({**whole, "projections": projections})
    hashes = {
        part: digest([value for name, value in fingerprint.items() if name.endswith(part)])
        for part in (" synapses", " weights")
    }
    return {
        **setting_attributes(net),
        "network": text,
        "config": _config(net),
        "graph_hash": digest(fingerprint),
        "topology_hash": hashes[" synapses"],
        "weights_hash": hashes[" weights"],
    }


def setting_attributes(net: mRNNBase) -> dict[str, Any]:
    """Settings of a network one by one, which need none of its synapses."""
    settings = net.settings()
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "activation" and not isinstance(value, str):
            found[name] = f"function {value['function']}"
        elif isinstance(value, bool):
            found[name] = int(value)
        elif name == "spectral_radius":
            found[name] = json.dumps(value)
        elif name not in ("model", "seed", "dt"):
            found[name] = value
    if net.time_constants:
        found["time_constants"] = json.dumps(net.time_constants, default=np.ndarray.tolist)
    parents = {r.name: r.parent_region for r in net.layout().regions if r.parent_region is not None}
    found["parents"] = json.dumps(parents)
    return found


def software_versions() -> dict[str, Any]:
    """Versions and the thread count, on which the last bits of a result depend."""
    more = {"numpy": np.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
    return {**checkpoint.software_versions(), **more}


def _config(net: mRNNBase) -> str:
    """The network's configuration as JSON; empty if JSON cannot name a class, or synapses are many."""
    every = net.graph.projection_columns()
    if every.take(every.is_explicit).expected_synapses().sum() > LARGEST_CONFIG:
        return ""
    try:
        return json.dumps(to_config(net.graph))
    except ConfigError:  # a rule or initialiser of the user's own has no name in JSON
        return ""
