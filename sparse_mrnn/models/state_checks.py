"""Check a saved state of a network: names, shapes, types and ranges, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.models.electrical import ElectricalSynapses
from sparse_mrnn.models.weights import OPTIONAL, SparseWeights


def check_state(module: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Check a state of a module that may hold networks, and whose own is ``own``. O(synapses).

    Raises
    ------
    SavedFileError
        If a name, shape, type or range is not that of the module; the message says which.
    """
    matrices = {name: part for name, part in module.named_modules() if isinstance(part, SparseWeights)}
    optional = {f"{name}.{entry}".lstrip(".") for name in matrices for entry in OPTIONAL}
    missing, unknown = own.keys() - optional - state.keys(), state.keys() - own.keys() - optional
    if missing or unknown:
        there = f"the file lacks {_listed(missing)}" if missing else ""
        here = f"the network lacks {_listed(unknown)}" if unknown else ""
        raise SavedFileError("; ".join(part for part in (there, here) if part))
    saved: dict[str, dict[str, Tensor]] = {name: {} for name in matrices}
    pairs = {name: part for name, part in module.named_modules() if isinstance(part, ElectricalSynapses)}
    for name, part in pairs.items():
        prefix = f"{name}." if name else ""
        entries = {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
        if problems := part.misfits(entries, prefix):
            raise SavedFileError(problems[0].rstrip("."))
    for name in (name for name in [*own, *optional] if name in state):
        tensor, (matrix, _, entry) = state[name], name.rpartition(".")
        if matrix in matrices:  # the synapses, and so the sizes, are those of the file
            saved[matrix][entry] = tensor
        elif any(name.startswith(f"{part}.") for part in pairs) and entry != "trained":
            continue  # checked above, and so are their pairs those of the file
        elif tensor.dtype != own[name].dtype:
            types = f"is {_type(tensor.dtype)} in the file, {_type(own[name].dtype)} in the network"
            raise SavedFileError(f"{name} {types}")
        elif tensor.shape != own[name].shape:
            shapes = f"has shape {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the network"
            raise SavedFileError(f"{name} {shapes}")
    for name, weights in matrices.items():
        try:
            _check_weights(weights, saved[name])
        except SavedFileError as error:
            raise SavedFileError(f"{name}.{error}".lstrip(".")) from None


def _check_weights(weights: SparseWeights, saved: Mapping[str, Tensor]) -> None:
    """Check that the synapses of a state are some of this matrix's projections."""
    nnz, columns = saved["values"].numel() + saved["frozen"].numel(), weights.shape[1]
    expected = weights.expected_entries(saved)
    for name, tensor in saved.items():
        size, kind = expected[name]
        if tensor.dtype != kind or tensor.shape != (size,):
            found = f"is {_type(tensor.dtype)} of shape {tuple(tensor.shape)}"
            raise SavedFileError(f"{name} {found} in the file, and not {_type(kind)} of shape ({size},)")
    for name in ("ptr", "crow"):
        bounds = saved[name]
        if bounds[0] != 0 or bounds[-1] != nnz or bool((torch.diff(bounds) < 0).any()):
            raise SavedFileError(f"{name} does not rise from 0 to the {nnz} synapses there are")
    if nnz and not bool((saved["ptr"] == saved["values"].numel()).any()):
        raise SavedFileError("values ends within a projection")
    col = saved["col"]
    if nnz and (int(col.min()) < 0 or int(col.max()) >= columns):
        raise SavedFileError(f"col has a number outside of 0..{columns - 1}")
    for name in ("order", "perm"):
        if name in saved and not _is_permutation(saved[name]):
            raise SavedFileError(f"{name} is not a permutation of 0..{saved[name].numel() - 1}")
    if not torch.equal(saved["sign"], weights.sign.cpu()):
        unit = int(torch.nonzero(saved["sign"] != weights.sign.cpu())[0])
        raise SavedFileError(f"sign differs from that of region {weights.sources.region_of(unit)[0].name!r}")
    order = weights.order_of_state(saved["order"])
    _check_gains(weights, saved, order)
    _check_projections(weights, saved, order)


def _check_gains(weights: SparseWeights, saved: Mapping[str, Tensor], order: NDArray[np.int64]) -> None:
    """Check that shared projections follow the trainable ones, trained first, each with its own gains."""
    ptr, ranges = saved["ptr"], weights.declared_gains[order]
    shared = np.flatnonzero(ranges[:, 0] >= 0)
    first = int(shared[0]) if len(shared) else 0
    last = first + len(shared)
    together = bool((np.diff(shared) == 1).all())
    if not together or (len(shared) and int(ptr[first]) != saved["values"].numel()):
        raise SavedFileError("the projections that share gains do not follow those that are trained")
    if int(ptr[last] - ptr[first]) != saved["group"].numel():
        raise SavedFileError("group is not of the synapses that share gains")
    if not weights.gain_names:  # labels of no synapse make no gain
        return
    for bound in ("gain_low", "gain_high"):
        if not torch.equal(saved[bound], getattr(weights, bound).cpu()):
            raise SavedFileError(f"{bound} differs from the bounds that the projections declare")
    if not _is_permutation(saved["gain_index"]):
        raise SavedFileError("gain_index is not a permutation")
    trained = saved["gain_index"] < saved["gains"].numel()
    before, groups = True, torch.split(saved["group"], torch.diff(ptr)[first:last].tolist())
    for codes, k in zip(groups, shared.tolist(), strict=True):
        own, name = slice(*ranges[k].tolist()), weights.declared_name(int(order[k]))
        if len(codes) and not own.start <= int(codes.min()) <= int(codes.max()) < own.stop:
            raise SavedFileError(f"group has gains for {projection_label(*name)} that are not its own")
        some, every = bool(trained[own].any()), bool(trained[own].all())
        if own.start < own.stop and (some != every or (every and not before)):
            raise SavedFileError(f"gain_index trains a part of the gains of {projection_label(*name)}")
        before = every


def _check_projections(
    weights: SparseWeights, saved: Mapping[str, Tensor], order: NDArray[np.int64]
) -> None:
    """Check that every synapse lies between the regions of its projection, once, and has its sign."""
    projection = torch.repeat_interleave(torch.arange(len(order)), torch.diff(saved["ptr"]))
    row = torch.repeat_interleave(torch.arange(weights.shape[0]), torch.diff(saved["crow"]).long())
    col = saved["col"].long()
    if "perm" in saved:  # into the order of the values, which is that of ``projection``
        row, col = (torch.empty_like(t).scatter_(0, saved["perm"].long(), t) for t in (row, col))
    extents = torch.from_numpy(weights.declared_extents[order])
    for unit, axis in ((row, 0), (col, 2)):
        local = unit - extents[:, axis][projection]
        bad = torch.nonzero((local < 0) | (local >= extents[:, axis + 1][projection]))
        if len(bad):
            label = projection_label(*weights.declared_name(int(order[projection[bad[0]]])))
            raise SavedFileError(f"a synapse of {label} does not lie between its regions")
    key = row * weights.shape[1] + col
    again = (torch.diff(key) <= 0) & (torch.diff(projection) == 0)
    if bool(again.any()):
        here = int(projection[torch.nonzero(again)[0]])
        label = projection_label(*weights.declared_name(int(order[here])))
        raise SavedFileError(f"synapses of {label} are not in order, or one is there twice")
    if ("synapse_sign" in saved) != weights.has_own_signs:
        raise SavedFileError("synapse_sign is there exactly where a projection has a sign of its own")
    if "synapse_sign" in saved:
        expected = weights.signs_of(projection, col, order)
        if "perm" in saved:
            expected = expected[saved["perm"].long()]
        if not torch.equal(expected, saved["synapse_sign"]):
            raise SavedFileError("synapse_sign differs from the signs of the regions and projections")


def _is_permutation(index: Tensor) -> bool:
    n = index.numel()
    in_range = n == 0 or 0 <= int(index.min()) <= int(index.max()) < n
    return in_range and bool((torch.bincount(index.long(), minlength=n) == 1).all())


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
