"""What the attributes of a recording say of the network that ran."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.saving import (
    constructor_settings,
    description,
    topology,
    topology_digest,
    weights_digest,
)

LARGEST = 1_000_000
"""Characters up to which the description of a network lists its projections."""


def network_attributes(net: mRNNBase) -> dict[str, Any]:
    """Settings of a network one by one, its description as JSON, and digests of its synapses and weights.

    The description has every region and projection with its settings, of an imported or loaded network too;
    of a great many projections, their number only. O(synapses).

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, activation="tanh", tau=500, device="cpu")
    >>> found = network_attributes(net)
    >>> found["activation"], found["tau"]
    ('tanh', 500)
    """
    found = setting_attributes(net)
    whole = {**description(net), "topology": topology(net)}
    text = json.dumps(whole)
    if len(text) > LARGEST:
        text = json.dumps({**whole, "projections": len(whole["projections"])})
    found["network"] = text
    return {**found, "topology_hash": topology_digest(net), "weights_hash": weights_digest(net)}


def setting_attributes(net: mRNNBase) -> dict[str, Any]:
    """Settings of a network one by one, which need none of its synapses."""
    settings = constructor_settings(net)
    activation = settings.pop("activation")
    named = activation if isinstance(activation, str) else f"function {activation['function']}"
    found: dict[str, Any] = {"activation": named}
    for name in ("tau", "integrator", "noise_level_act", "noise_level_inp", "backend", "dtype"):
        if name in settings:
            found[name] = settings[name]
    found |= {name: int(settings[name]) for name in ("rec_constrained", "inp_constrained")}
    found["spectral_radius"] = json.dumps(settings["spectral_radius"])
    if hasattr(net, "time_constants"):
        found["time_constants"] = json.dumps(net.time_constants, default=np.ndarray.tolist)
    return found
