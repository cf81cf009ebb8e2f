"""Saved networks, checkpoints of training, state dicts of mRNNTorch."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import sparse_mrnn as sm
from fuzz.mutate import Rng, of_bytes, of_json, pick
from fuzz.plain import only
from fuzz.registry import InvalidInputError, register
from sparse_mrnn.errors import SparseMRNNError
from sparse_mrnn.files.tensors import KEY, digest_of
from sparse_mrnn.interop import from_mrnntorch

COUNTS = {"rows": [0, 0, 1], "cols": [0, 2, 1], "values": [3.0, 1.0, 2.0]}
SPEC: dict[str, Any] = {
    "recurrent_regions": [
        {"name": "a", "num_units": 3, "base_firing": 0.2, "learnable_bias": True},
        {"name": "b", "num_units": 2, "sign": "neg", "tau": 50.0},
    ],
    "input_regions": [{"name": "i", "num_units": 2}],
    "recurrent_connections": [
        {"src_region": "a", "dst_region": "b", "share": "source", "delay": 20.0, "weights": COUNTS},
        {"src_region": "b", "dst_region": "a", "density": 0.5},
        {"src_region": "a", "dst_region": "a", "rank": 1, "sign": "free"},
    ],
    "input_connections": [{"src_region": "i", "dst_region": "a"}],
}


def network(seed: int = 1) -> Any:
    """A network with one of everything."""
    spec = json.loads(json.dumps(SPEC))
    spec["recurrent_regions"][0]["sign"] = None
    return sm.mRNN(spec, device="cpu", seed=seed)


def outcome(net: Any) -> list[list[float]]:
    """What a network computes, last step of a run with input."""
    inp, x0 = torch.ones(1, 6, 2), torch.full((1, net.layout().n), 0.3)
    with torch.no_grad():
        found: list[list[float]] = net(inp, x0)[1][0].tolist()
    return found


@functools.cache
def saved(kind: str) -> tuple[bytes, Any]:
    """A file, and what it holds, made once in a process."""
    net = network()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if kind == "network":
            net.save(path)
        else:
            optimizer = torch.optim.Adam(net.parameters())
            net(torch.ones(1, 6, 2), torch.zeros(1, 5))[1].square().sum().backward()
            optimizer.step()
            sm.save_checkpoint(path, net, optimizer, step=7, rng=False)
        return path.read_bytes(), outcome(net)


def make(kind: str, folder: Path, rng: Rng) -> None:
    """A file with changed bytes, or with a changed header or tensor and a digest that agrees with it."""
    data, _ = saved(kind)
    path = folder / "file"
    if rng.integers(2):
        path.write_bytes(of_bytes(data, rng))
        return
    path.write_bytes(data)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    header.pop("digest")
    if rng.integers(2):
        try:
            header = json.loads(of_json(header, rng))
        except (ValueError, RecursionError):
            header = {}
    else:
        name = pick(rng, sorted(tensors))
        tensors[name] = changed(tensors[name], rng)
    digest = digest_of(header, tensors) if isinstance(header, dict) else ""
    whole = {**header, "digest": digest} if isinstance(header, dict) else header
    save_file(tensors, path, {KEY: json.dumps(whole)})


def changed(tensor: torch.Tensor, rng: Rng) -> torch.Tensor:
    """Another shape, type or value."""
    way = int(rng.integers(6))
    if way == 0:
        return tensor[..., :-1].clone() if tensor.dim() else tensor[None].clone()
    if way == 1:
        return tensor.to(pick(rng, [torch.float64, torch.float16, torch.int64, torch.int8, torch.bool]))
    if way == 2:
        return torch.cat([tensor, tensor]) if tensor.dim() else tensor.repeat(2)
    if way == 3:
        return tensor[None].clone()
    tensor = tensor.clone().reshape(-1)
    if tensor.numel():
        numbers = [-1, 0, 1, 2, 100] if not tensor.is_floating_point() else [np.nan, np.inf, -np.inf, -1.0, 1e30]
        tensor[int(rng.integers(tensor.numel()))] = pick(rng, numbers)
    return tensor


def load_network(folder: Path) -> Any:
    net = sm.load(only(folder), device="cpu")
    if [region.n for region in net.layout().regions] != [3, 2] or net.layout("input").n != 2:
        return "another network"  # a header made by hand may declare one
    return outcome(net)


def load_checkpoint(folder: Path) -> Any:
    net = network(seed=2)
    before = outcome(net)
    optimizer = torch.optim.Adam(net.parameters())
    try:
        sm.load_checkpoint(only(folder), net, optimizer)
    except SparseMRNNError:
        if outcome(net) != before or optimizer.state:
            raise RuntimeError("a refused checkpoint has changed the network or the optimiser") from None
        raise
    return outcome(net)


def oracle(kind: str, folder: Path) -> Any:
    """A file whose digest does not agree must be refused; one made by hand may hold anything."""
    path = only(folder)
    data, expected = saved(kind)
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = header.pop("digest")
        sound = digest == digest_of(header, tensors)
    except Exception as error:  # any damage
        raise InvalidInputError(f"it is no sound file: {error}") from error
    if not sound:
        raise InvalidInputError("its digest does not agree")
    return expected if path.read_bytes() == data else None


register(
    "saved network", functools.partial(make, "network"), load_network, functools.partial(oracle, "network")
)
register(
    "checkpoint", functools.partial(make, "checkpoint"), load_checkpoint, functools.partial(oracle, "checkpoint")
)


# ---------------------------------------------------------------- mRNNTorch

UNITS, CHANNELS = 4, 2


def make_mrnntorch(folder: Path, rng: Rng) -> None:
    state: dict[str, Any] = {}
    for name, columns in (("W_rec", UNITS), ("W_inp", CHANNELS)):
        mask = (rng.random((UNITS, columns)) < 0.6).astype(np.float32)
        sign = mask * np.where(rng.random(columns) < 0.5, -1, 1)
        weight = rng.random((UNITS, columns)) - 0.1
        for part, array in (("", weight), ("_mask", mask), ("_sign_matrix", sign)):
            state[name + part] = torch.tensor(array, dtype=torch.float32)
    way = int(rng.integers(4))
    name = pick(rng, sorted(state))
    if way == 0:
        state[name] = changed(state[name], rng)
    elif way == 1:
        state[name] = pick(rng, [None, 1, "W", [1.0], {}, state[name].to_sparse(), state[name].to(torch.complex64)])
    elif way == 2:
        state[pick(rng, ["", "net.W_rec", "W_rec_mask", name.upper()])] = state.pop(name)
    buffer = io.BytesIO()
    torch.save(pick(rng, [state, {"model": state}]), buffer)
    data = buffer.getvalue()
    (folder / "net.pth").write_bytes(of_bytes(data, rng) if way == 3 else data)


def load_mrnntorch(folder: Path) -> Any:
    net = from_mrnntorch(only(folder), device="cpu")
    return [np.asarray(net.to_scipy(kind=kind).todense()).tolist() for kind in ("recurrent", "input")]


def oracle_mrnntorch(folder: Path) -> Any:
    """The effective weights, as mRNNTorch's code makes them."""
    signs = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    try:
        state = torch.load(only(folder), weights_only=True)
        state = state.get("model", state)
        parts = [[state[name + part].double() for part in ("", "_mask", "_sign_matrix")] for name in ("W_rec", "W_inp")]
        for (weight, mask, sign), columns in zip(parts, (UNITS, CHANNELS), strict=True):
            for tensor in (weight, mask, sign):
                if tensor.shape != (UNITS, columns) or tensor.layout != torch.strided:
                    return None
    except Exception:  # what is missing may be optional, and damage may be anything
        return None
    if not all(torch.isfinite(weight[mask != 0]).all() for weight, mask, _ in parts):
        raise InvalidInputError("a weight is not finite")
    if not all(((mask == 0) | (mask == 1)).all() and torch.isin(sign, signs).all() for _, mask, sign in parts):
        raise InvalidInputError("a mask or sign is none")
    return [torch.where(mask != 0, weight.abs() * sign, 0.0).tolist() for weight, mask, sign in parts]


register("mRNNTorch", make_mrnntorch, load_mrnntorch, oracle_mrnntorch)
