"""What a network was declared with: a state dict says it, and it is compared when the state is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sparse_mrnn.declaration.fields import REGION_SIGNS
from sparse_mrnn.declaration.graph import Region, projection_label
from sparse_mrnn.errors import StateDictError
from sparse_mrnn.files.tensors import digest_of
from sparse_mrnn.state.differences import differences

if TYPE_CHECKING:
    from sparse_mrnn.models.network import mRNNBase
    from sparse_mrnn.models.weights import SparseWeights

FORMAT = 1
NAMED_PROJECTIONS = 500
"""Of more projections, a declaration has only a digest."""

SIGN_WORDS = {number: str(word or "free") for word, number in REGION_SIGNS.items()}


def declaration(net: mRNNBase) -> dict[str, Any]:
    """All that the dynamics of a network depend on besides its synapses and parameters, as JSON.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph, mRNN
    >>> g = RegionGraph(); g.add_region("a", 3, sign="neg")
    >>> declaration(mRNN(g, device="cpu", dt=5))["regions"]["a"]["sign"]
    'neg'
    """
    inputs = net.layout("input").regions
    matrices = [weights for weights in (net.rec, net.inp) if weights is not None]
    return {
        "format": FORMAT,
        **net.dynamics(),
        "input noise": net.inp_noise_const,
        "Dale's law": {weights.kind: weights.constrained for weights in matrices},
        "order of regions": net.hid_regions,
        "regions": {region.name: _of_region(net, region) for region in net.layout().regions},
        "order of inputs": net.inp_regions,
        "inputs": {region.name: {"units": region.n, "sign": _sign(region)} for region in inputs},
        "projections": {weights.kind: _of_projections(net, weights) for weights in matrices},
    }


def _of_region(net: mRNNBase, region: Region) -> dict[str, Any]:
    own = net.activation if region.activation is None else None
    noise = net.noise_level_act if region.noise_level is None else region.noise_level
    function = getattr(own.function, "__name__", "custom") if own and not own.slope_into else None
    return {
        "units": region.n,
        "sign": _sign(region),
        "tonic input": _numbers(region.base_firing, region.n),
        "initial state": _numbers(region.init, region.n),
        "tau": getattr(net, "tau", None) if region.tau is None else _numbers(region.tau, region.n),
        "activation": function or (own.name if own else region.activation),
        "noise": _numbers(noise, region.n),
        "learnable bias": region.learnt_by("learnable_bias"),
        "learnable initial state": region.learnt_by("learnable_init"),
        "learnable tau": region.learnt_by("learnable_tau"),
        "bounds of tau": list(region.tau_bounds or ()) if region.learnable_tau else None,
        "unit ids": None if region.unit_ids is None else _digest(list(region.unit_ids)),
    }


def _sign(region: Region) -> str:
    signs = region.unit_signs
    first = int(signs[0])
    return SIGN_WORDS[first] if (signs == first).all() else _digest(signs.tolist())


def _numbers(values: ArrayLike, n: int) -> float | str:
    every = np.broadcast_to(np.asarray(values, dtype=np.float64), n)
    return float(every[0]) if (every == every[0]).all() else _digest(every.tolist())


def _of_projections(net: mRNNBase, weights: SparseWeights) -> dict[str, Any]:
    """What is declared of each projection apart from its synapses, where it is not the usual.

    Gains and factors of low rank are numbered as they are declared, so their order counts.
    """
    named, ranks = {}, []
    for p in net.graph.projections(weights.kind):
        own: dict[str, Any] = {"delay": p.delay, "rank": p.rank}
        own["sign"] = None if p.sign == "inherit" else p.sign
        if p.share is not None:
            own |= {"share": p.share.by, "bounds": list(p.share.bounds)}
        label = projection_label(p.source, p.target, p.key)
        named[label] = {key: value for key, value in own.items() if value is not None}
        ranks += [label] if p.rank is not None else []
    found: dict[str, Any] = dict(sorted(named.items()))
    if len(found) > NAMED_PROJECTIONS:
        found = {"number": len(found), "digest": _digest(found)}
    if weights.gain_names:
        found["gains"] = _digest([list(name) for name in weights.gain_names])
    if ranks:
        found["order of low rank"] = ranks
    return found


def _digest(described: Any) -> str:
    return digest_of({"it": described}, {})


def encode(described: dict[str, Any]) -> Tensor:
    """A description as a tensor of bytes, shape (bytes,), which every format of state dicts can hold."""
    return torch.frombuffer(bytearray(json.dumps(described).encode()), dtype=torch.uint8)


def decode(state: Any) -> dict[str, Any]:
    """The description in such a tensor.

    Raises
    ------
    StateDictError
        If it is none.
    """
    try:
        found = json.loads(state.detach().cpu().numpy().tobytes())
        if isinstance(found, dict):
            return found
    except (AttributeError, TypeError, ValueError, RecursionError, RuntimeError):
        pass
    raise StateDictError("the state dict is damaged: its _extra_state is no description of a network.")


def declared_differences(net: mRNNBase, state: dict[str, Tensor]) -> list[str]:
    """Where a state dict, without prefix, is of a network declared otherwise, in words."""
    saved, own = decode(state["_extra_state"]), declaration(net)
    regions = saved.get("regions")
    for name, region in own["regions"].items():
        other = regions.get(name) if isinstance(regions, dict) else None
        if isinstance(other, dict) and None in (region["unit ids"], other.get("unit ids")):
            region["unit ids"] = other.get("unit ids")  # units without ids may be any
    return differences(saved, own)
