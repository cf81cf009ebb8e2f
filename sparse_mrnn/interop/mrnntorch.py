"""mRNNTorch's dense state dicts as networks of this library, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import option
from sparse_mrnn.declaration.config import NetworkConfig
from sparse_mrnn.declaration.explicit_synapses import SynapseArrays, SynapseBlock
from sparse_mrnn.declaration.graph import PROJECTION_SIGNS, Region, RegionGraph, projection_label
from sparse_mrnn.errors import ConversionError, suggest
from sparse_mrnn.files.torch_file import read_torch_file
from sparse_mrnn.interop.mrnntorch_config import (
    Meaning,
    check_convertible,
    graph_from_mrnntorch,
    meaning_of,
    warn_of_sparsity,
)
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import check_dense

Config = str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph
StateDict = Mapping[str, Any] | str | os.PathLike[str]
MATRICES = {"recurrent": "W_rec", "input": "W_inp"}
PARTS = ("", "_mask", "_sign_matrix")
"""Ends of the names of a weight matrix, of its mask and of its signs."""


@dataclass(frozen=True, eq=False)
class DenseMatrix:
    """One of mRNNTorch's weight matrices (target, source); a False ``mask`` means no synapse."""

    name: str
    weight: Tensor
    mask: NDArray[np.bool_]
    sign: NDArray[np.int8]

    def block(self, block: tuple[slice, slice]) -> DenseMatrix:
        """Some rows and columns."""
        return DenseMatrix(self.name, self.weight[block], self.mask[block], self.sign[block])


def from_mrnntorch(
    state: StateDict, config: Config | None = None, *, prefix: str | None = None,
    model: Literal["leaky", "elman"] = "leaky", sparsity: Meaning = "zeroed", **options: Any,
) -> mRNN | ElmanmRNN:
    """A network with the synapses and weights of a dense mRNNTorch network.

    Only what its masks keep becomes a synapse; outputs and gradients are those of the dense one.

    Parameters
    ----------
    state : dict of tensors, or path of a .pt or .pth file
        ``W_rec``, ``W_rec_mask``, ``W_rec_sign_matrix``, and the same of ``W_inp``; also under a prefix or in
        a dictionary within. A file is read with ``weights_only=True``: code in it is not run.
    config : path, dict, NetworkConfig or RegionGraph, optional
        Regions in the order of the units, tonic input and initial state, none of which is in a state dict.
        Without one, there is one region, "units", whose units have the signs of their columns, and one input.
    prefix : str, optional
        In front of the names, such as "rnn"; needed where there are several.
    model : {"leaky", "elman"}
    sparsity : {"zeroed", "kept"}
        Which fraction the ``sparsity`` of a configuration is. mRNNTorch 0.1 documents the fraction kept and
        zeroes that fraction instead. The masks decide; a configuration that contradicts them is warned of.
    **options
        Settings of `mRNN` or `ElmanmRNN`, which a state dict does not have either: activation, dt, tau,
        rec_constrained, device, .... A ``spectral_radius`` is noted; the weights are scaled already.

    Raises
    ------
    ConversionError
        If the file or a matrix is missing, not of mRNNTorch, or does not fit the configuration.

    Examples
    --------
    >>> w, one = torch.tensor([[0.0, 0.5], [0.3, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> net = from_mrnntorch({"W_rec": w, "W_rec_mask": one, "W_rec_sign_matrix": -one}, device="cpu")
    >>> net.rec.nnz, net.effective_W_rec.to_dense().tolist()
    (2, [[0.0, -0.5], [-0.30000001192092896, 0.0]])
    """
    sparsity = meaning_of(sparsity)
    rates: dict[str, type[mRNN | ElmanmRNN]] = {"leaky": mRNN, "elman": ElmanmRNN}
    model_class = rates[option(model, rates, "model", ConversionError)]
    matrices = _matrices(state, prefix)
    if config is None:
        declared = _one_region(matrices, options)
    elif isinstance(config, RegionGraph):
        declared = config
    else:
        declared = graph_from_mrnntorch(config, sparsity=sparsity)
    graph, parameters = _explicit(declared, matrices, options)
    if config is not None and not isinstance(config, RegionGraph):
        warn_of_sparsity(config, graph, sparsity)
    options.setdefault("dtype", matrices["recurrent"].weight.dtype)
    radius = options.pop("spectral_radius", None)
    net = model_class(graph, **options)
    net.spectral_radius = radius
    with torch.no_grad():
        for (source, target, key), values in parameters.items():
            weights = net.weights(net.kind_of(source))
            weights.projection_values(source=source, target=target, key=key).copy_(values)
    return net


def to_mrnntorch(net: mRNN | ElmanmRNN, *, prefix: str = "") -> dict[str, Tensor]:
    """The state dict of the dense mRNNTorch network that computes the same.

    Load it into ``mRNN(config)`` there, where ``config`` is `to_mrnntorch_config` of the same network.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    prefix : str
        In front of the names, such as "rnn."

    Raises
    ------
    ConversionError
        If the network has what mRNNTorch does not: delays, parallel synapses, time constants, activations or
        noise by region, units without a sign under Dale's law.
    SizeError
        If a dense matrix would be very large.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", fan_in=1)
    >>> int(to_mrnntorch(mRNN(g, device="cpu"))["W_rec_mask"].sum())
    3
    """
    check_convertible(net)
    found: dict[str, Tensor] = {}
    for weights in net.weight_matrices():
        name = prefix + MATRICES[weights.kind]
        check_dense(weights.shape)
        row, col = weights.pattern.row.long(), weights.col.long()
        values = weights.csr_values(effective_weights=False).detach()
        sign = weights.csr_signs().to(values.dtype)
        parts = values, torch.ones_like(values), torch.where(sign == 0, 1, sign)
        for part, entries in zip(PARTS, parts, strict=True):
            found[name + part] = values.new_zeros(weights.shape).index_put((row, col), entries)
    return found


def _one_region(matrices: Mapping[str, DenseMatrix], options: Mapping[str, Any]) -> RegionGraph:
    """One region and one input, whose units have the signs of their columns."""
    graph = RegionGraph()
    for kind, matrix in matrices.items():
        sign = np.where(matrix.mask, matrix.sign, 0)
        low, high = sign.min(axis=0, initial=0), sign.max(axis=0, initial=0)
        mixed = np.flatnonzero((low < 0) & (high > 0))
        if len(mixed) and _constrained(kind, options):
            advice = "give a config with its regions"
            raise ConversionError(f"{matrix.name}: unit {mixed[0]} has synapses of both signs; {advice}.")
        signs = np.where(low < 0, -1, 1)
        if kind == "recurrent":
            graph.add_region("units", len(signs), sign=signs)
            graph.add_projection("units", "units")
        else:
            graph.add_input("inputs", len(signs), sign=signs)
            graph.add_projection("inputs", "units")
    return graph


def _explicit(
    declared: RegionGraph, matrices: Mapping[str, DenseMatrix], options: Mapping[str, Any]
) -> tuple[RegionGraph, dict[ProjectionKey, Tensor]]:
    """The graph with the synapses of the matrices, and the parameters of each projection."""
    graph = declared.copy()
    graph.remove_edges_from(list(declared.edges(keys=True)))
    targets, parameters = Layout.of(declared), {}
    for kind in MATRICES:
        sources, matrix = Layout.of(declared, kind), matrices.get(kind)
        _check_size(matrix, targets, sources, kind)
        if matrix is None:
            continue
        constrained = _constrained(kind, options)
        for source in sources.regions:
            for target in targets.regions:
                block = matrix.block((targets.slice(target.name), sources.slice(source.name)))
                found = _projection(block, declared, source, target, constrained)
                if found is not None:
                    key, settings, values = found
                    graph.add_checked(source.name, target.name, key, settings)
                    parameters[source.name, target.name, key] = values
    return graph, parameters


def _projection(
    matrix: DenseMatrix, declared: RegionGraph, source: Region, target: Region, constrained: bool
) -> tuple[str, dict[str, Any], Tensor] | None:
    """Key, settings and parameters of one block; None where nothing is declared and no synapse is real."""
    label = projection_label(source.name, target.name)
    edges: dict[str, dict[str, Any]] = declared.get_edge_data(source.name, target.name) or {}
    if len(edges) > 1:
        raise ConversionError(f"{label} is declared {len(edges)} times; a dense matrix has one block for it.")
    real = matrix.mask & (matrix.sign != 0) if constrained else matrix.mask
    if not edges and not real.any():
        return None
    key, attrs = next(iter(edges.items()), ("default", {}))
    kept = ("sign", "trainable", "self_connections")
    settings: dict[str, Any] = {"trainable": True, "self_connections": True}
    settings |= {name: value for name, value in attrs.items() if name in kept}
    row, col = (index.astype(np.int32) for index in np.nonzero(real))
    values = matrix.weight[torch.from_numpy(real)]
    effective = values
    if constrained:
        signs = matrix.sign[real]
        settings |= _own_sign(f"{matrix.name}_sign_matrix: {label}", signs, source, col, attrs.get("sign"))
        effective = values.abs() * torch.from_numpy(signs)
    arrays = SynapseArrays(row, col, effective.numpy())
    return key, {**settings, "weights": SynapseBlock(arrays, 0, len(row), real.shape)}, values


def _own_sign(
    label: str, signs: NDArray[np.int8], source: Region, col: NDArray[np.int32], declared: str | None
) -> dict[str, str]:
    """The sign of a projection whose source's units have none, or others, in a graph of the user's."""
    expected = source.unit_signs[col] if declared is None else PROJECTION_SIGNS[declared]
    if (signs == expected).all():
        return {}
    if declared is not None or isinstance(source.sign, str):
        stated = declared or source.sign
        raise ConversionError(f"{label} is not {stated!r}, as the configuration says; correct it.")
    if len(set(signs.tolist())) > 1:
        raise ConversionError(f"{label} has both signs, and not those of its source's units; correct those.")
    return {"sign": "pos" if signs[0] > 0 else "neg"}


def _check_size(matrix: DenseMatrix | None, targets: Layout, sources: Layout, kind: str) -> None:
    if matrix is None:
        if sources.n:
            raise ConversionError(f"the config has {sources.n} input channels, but W_inp is missing.")
        return
    size = f"{matrix.mask.shape[0]} x {matrix.mask.shape[1]}"
    of_columns = "units" if kind == "recurrent" else "inputs"
    for layout, found, what in zip((targets, sources), matrix.mask.shape, ("units", of_columns), strict=True):
        if found != layout.n:
            sizes = ", ".join(f"{region.name} {region.n}" for region in layout.regions) or "none"
            raise ConversionError(f"{matrix.name} is {size}, but the config has {layout.n} {what} ({sizes}).")


def _constrained(kind: str, options: Mapping[str, Any]) -> bool:
    return bool(options.get("rec_constrained" if kind == "recurrent" else "inp_constrained", True))


def _matrices(state: StateDict, prefix: str | None) -> dict[str, DenseMatrix]:
    """The "recurrent" and, if it has one, the "input" matrix of a state dict or file."""
    tensors, where = _tensors(state)
    prefixes = [name[:-5] for name in tensors if f".{name}".endswith(".W_rec")]
    if not prefixes:
        shown = ", ".join(list(tensors)[:6]) or "no tensor"
        raise ConversionError(f"{where} is not of mRNNTorch: it has no W_rec, but {shown}.")
    if prefix is None:
        if len(prefixes) > 1:
            names = ", ".join(repr(name.rstrip(".")) for name in prefixes)
            raise ConversionError(f"{where}: there are several networks, under {names}; give prefix=.")
        chosen = prefixes[0]
    else:
        chosen = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        if chosen not in prefixes:
            hint = suggest(chosen, [name.rstrip(".") for name in prefixes], what="prefixes")
            raise ConversionError(f"{where}: {chosen}W_rec is missing. {hint}")
    n = tensors[f"{chosen}W_rec"].shape[0] if tensors[f"{chosen}W_rec"].dim() else 0
    found = {"recurrent": _matrix(tensors, f"{chosen}W_rec", where, (n, n))}
    if any(f"{chosen}W_inp{part}" in tensors for part in PARTS):
        found["input"] = _matrix(tensors, f"{chosen}W_inp", where, (n, None))
    return found


def _tensors(state: StateDict) -> tuple[dict[str, Tensor], str]:
    """All tensors by their names joined with dots, and what they are from."""
    if isinstance(state, Mapping):
        return _flat(state), "the state dict"
    path = Path(state)
    content = read_torch_file(path, ConversionError)
    if not isinstance(content, Mapping):
        raise ConversionError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return _flat(content), str(path)


def _flat(state: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
    return found


def _matrix(tensors: dict[str, Tensor], name: str, where: str, shape: tuple[int, int | None]) -> DenseMatrix:
    found = []
    for part in PARTS:
        if name + part not in tensors:
            raise ConversionError(f"{where}: {name}{part} is missing.")
        tensor = tensors[name + part]
        size = tuple(tensor.shape)
        if len(size) != 2 or size[0] != shape[0] or shape[1] not in (None, size[1]):
            expected = f"{shape[0]} x {'inputs' if shape[1] is None else shape[1]}"
            raise ConversionError(f"{where}: {name}{part} has shape {size}; it must be {expected}.")
        numeric = tensor.is_floating_point() or (part and not tensor.is_complex())
        wide = torch.float64 if part or tensor.dtype == torch.float64 else torch.float32
        try:
            if tensor.layout != torch.strided or tensor.is_quantized or not numeric:
                raise NotImplementedError
            found.append(tensor.detach().cpu().to(wide))  # torch computes little in the narrower types
        except NotImplementedError:  # also of types that torch only stores
            what = "is not a dense matrix of floating-point numbers"
            raise ConversionError(f"{where}: {name}{part} {what}.") from None
        shape = size
    weight, mask, sign = found
    for part, tensor, known in (("_mask", mask, (0, 1)), ("_sign_matrix", sign, (-1, 0, 1))):
        if not torch.isin(tensor, torch.tensor(known, dtype=tensor.dtype)).all():
            expected = ", ".join(map(str, known))
            raise ConversionError(f"{where}: {name}{part} has other values than {expected}.")
    if not torch.isfinite(weight[mask != 0]).all():
        raise ConversionError(f"{where}: {name} has synapses whose weight is not finite.")
    return DenseMatrix(name, weight, (mask != 0).numpy(), sign.to(torch.int8).numpy())
