"""Trained parameters of flyvis, loaded into its network; responses of all networks of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.checks import path_of, whole_number
from sparse_mrnn.connectome.assemble import SIGN_KEYS
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.files.npz import read_npz
from sparse_mrnn.files.torch_file import read_torch_file
from sparse_mrnn.fly_vision.measures import (
    GREY_TIME,
    POLARITY,
    PREFERRED_DIRECTIONS,
    SPEEDS,
    Floats,
    angular_distance,
    flash_responses,
    motion_responses,
)
from sparse_mrnn.fly_vision.network import connected_pairs, load_connectome
from sparse_mrnn.fly_vision.tuning import adapted_state
from sparse_mrnn.models.leaky import mRNN

Pair = tuple[str, str]
ARRAYS = ("types", "source", "target", "bias", "time_constant", "strength")
TENSORS = {"bias": "nodes_bias", "time_constant": "nodes_time_const", "strength": "edges_syn_strength"}
"""Arrays, and the tensors of a flyvis network that they are."""
SCALAR = np.float64(0).__reduce__()[0]
NUMBERS = (
    SCALAR, (SCALAR, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype("f4")), type(np.dtype("f8")),
)  # fmt: skip
"""Needed to read NumPy's numbers, such as the validation loss in a checkpoint."""
CHECKPOINTS = "chkpts"
"""Folder of a flyvis network with its checkpoints."""


@dataclass(frozen=True, eq=False)
class FlyvisParameters:
    """Parameters of one or more networks of flyvis, with the cell types they belong to.

    Parameters
    ----------
    types : tuple of str
        Cell types.
    pairs : tuple of (str, str)
        Source and target type of every connection of types.
    signs : ndarray of int, shape (pairs,), or None
        Sign of the connections: 1 or -1.
    bias : ndarray, shape (models, types)
        Resting potentials.
    time_constant : ndarray, shape (models, types)
        Seconds, as in flyvis.
    strength : ndarray, shape (models, pairs)
        Synapse strengths, at least 0.
    where : str
        Source, for messages.

    Raises
    ------
    ConnectomeError
        If shapes do not fit, a type or pair is there twice, or a number is out of its range.
    """

    types: tuple[str, ...]
    pairs: tuple[Pair, ...]
    signs: NDArray[np.int64] | None
    bias: Floats
    time_constant: Floats
    strength: Floats
    where: str = "the parameters"

    def __post_init__(self) -> None:
        if len(self.bias) == 0:
            raise ConnectomeError(f"{self.where}: there is no model.")
        named: dict[str, tuple[str | Pair, ...]] = {"cell type": self.types, "pair": self.pairs}
        for what, names in named.items():
            if len(set(names)) < len(names):
                twice = next(name for k, name in enumerate(names) if name in names[:k])
                raise ConnectomeError(f"{self.where}: {what} {_shown(twice)} is there twice.")
        for name, of in (("bias", self.types), ("time_constant", self.types), ("strength", self.pairs)):
            array, shape = getattr(self, name), (len(self.bias), len(of))
            if array.shape != shape:
                raise ConnectomeError(f"{self.where}: {name} has shape {array.shape}; expected {shape}.")
            limit = {"bias": -np.inf, "time_constant": np.finfo(float).tiny, "strength": 0.0}[name]
            bad = np.argwhere(~(np.isfinite(array) & (array >= limit)))
            if len(bad):
                model, k = bad[0].tolist()
                wanted = {"bias": "finite", "time_constant": "above 0 s", "strength": "at least 0"}[name]
                value = f"{name} of {_shown(of[k])} is {array[model, k]:g} in model {model}"
                raise ConnectomeError(f"{self.where}: {value}; it must be {wanted}.")
        if self.signs is not None and (
            self.signs.shape != (len(self.pairs),) or not np.isin(self.signs, (1, -1)).all()
        ):
            raise ConnectomeError(f"{self.where}: sign must be 1 or -1 for each of {len(self.pairs)} pairs.")

    def __len__(self) -> int:
        return len(self.bias)


PathLike = str | os.PathLike[str]
Source = PathLike | Mapping[str, ArrayLike] | Sequence[PathLike] | FlyvisParameters
"""Sources of trained parameters: see `read_flyvis_parameters`."""


def _shown(name: str | Pair) -> str:
    return repr(name) if isinstance(name, str) else f"{name[0]} -> {name[1]}"


def read_flyvis_parameters(
    source: Source, *, connectome: str | os.PathLike[str] | None = None
) -> FlyvisParameters:
    """Read trained parameters of flyvis: arrays with the names of types, or checkpoints of an installation.

    Parameters
    ----------
    source : path, mapping of arrays, or sequence of paths
        An .npz file or a mapping with the arrays "types" (types,), "source" and "target" (pairs,), "bias" and
        "time_constant" (models, types), "strength" (models, pairs) and, if given, "sign" (pairs,). Or a
        checkpoint of flyvis, the folder of a network (flow/0000/000) or of an ensemble (flow/0000), or a list
        of those. Nothing in a checkpoint but tensors and numbers is read.
    connectome : path, optional
        The file of `read_flyvis`. Checkpoints need it: they have parameters in its order, without names.

    Raises
    ------
    ConnectomeError
        If a file cannot be read, arrays are missing or do not fit, or a folder has no or several checkpoints.

    Examples
    --------
    >>> found = read_flyvis_parameters({
    ...     "types": ["R1", "L1"], "source": ["R1"], "target": ["L1"],
    ...     "bias": [[0.5, 0.4]], "time_constant": [[0.02, 0.03]], "strength": [[0.01]]})
    >>> len(found), found.pairs
    (1, (('R1', 'L1'),))
    """
    if isinstance(source, FlyvisParameters):
        return source
    if isinstance(source, Mapping):
        return _from_arrays(source, "the arrays")
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        files = [file for part in source for file in _checkpoints(path_of(part, "source", ConnectomeError))]
        return _from_checkpoints(files, connectome)
    path = path_of(source, "source", ConnectomeError)
    if path.suffix == ".npz":
        return _from_arrays(read_npz(path, ConnectomeError), str(path))
    return _from_checkpoints(_checkpoints(path), connectome)


def _from_arrays(arrays: Mapping[str, ArrayLike], where: str) -> FlyvisParameters:
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise ConnectomeError(f"{where}: there is no array {missing[0]!r}; it takes {', '.join(ARRAYS)}.")
    names: dict[str, list[str]] = {}
    for name in ("types", "source", "target"):
        array = np.asarray(arrays[name])
        if array.ndim != 1 or array.dtype.kind != "U":
            raise ConnectomeError(f"{where}: {name} must be a list of cell types.")
        names[name] = array.tolist()
    if len(names["source"]) != len(names["target"]):
        count = f"{len(names['source'])} sources and {len(names['target'])} targets"
        raise ConnectomeError(f"{where}: there are {count}; a pair has one of each.")
    numbers = {}
    for name in TENSORS:
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "fiu" or array.ndim != 2:
            raise ConnectomeError(f"{where}: {name} must be an array of numbers with a row for each model.")
        numbers[name] = array.astype(np.float64)
    sign = np.asarray(arrays["sign"]) if "sign" in arrays else None
    if sign is not None and sign.dtype.kind not in "fi":
        raise ConnectomeError(f"{where}: sign must be 1 or -1 for each pair.")
    pairs = tuple(zip(names["source"], names["target"], strict=True))
    return FlyvisParameters(tuple(names["types"]), pairs, sign, **numbers, where=where)


def _checkpoints(path: Path) -> list[Path]:
    """The checkpoint file of a path, or those of the networks in a folder, by name."""
    if not path.is_dir():
        return [path]
    if not (path / CHECKPOINTS).is_dir():
        networks = sorted(part for part in path.iterdir() if (part / CHECKPOINTS).is_dir())
        if not networks:
            problem = f"neither the folder nor one in it has {CHECKPOINTS!r}, as networks of flyvis do"
            raise ConnectomeError(f"{path}: {problem}.")
        return [file for network in networks for file in _checkpoints(network)]
    files = sorted((path / CHECKPOINTS).glob("chkpt_*"))
    if len(files) != 1:
        problem = f"there are {len(files)} checkpoints in {path / CHECKPOINTS}"
        raise ConnectomeError(f"{problem}; give the file of one, or a list with a file for each network.")
    return files


def _from_checkpoints(files: list[Path], connectome: str | os.PathLike[str] | None) -> FlyvisParameters:
    if not files:
        raise ConnectomeError("source is an empty list; give at least one checkpoint.")
    if connectome is None:
        problem = "a checkpoint has no names of cell types; give connectome=, the file of read_flyvis"
        raise ConnectomeError(f"{files[0]}: {problem}.")
    spec = load_connectome(Path(connectome))
    types = tuple(node["name"] for node in spec["nodes"])
    pairs = connected_pairs(spec, str(connectome))
    sign_of = {(edge["src"], edge["tar"]): int(edge["alpha"]) for edge in spec["edges"]}
    signs = np.array([sign_of[pair] for pair in pairs], dtype=np.int64)
    sizes = {"bias": len(types), "time_constant": len(types), "strength": len(pairs), "sign": len(pairs)}
    parts: dict[str, list[Floats]] = {name: [] for name in TENSORS}
    for file in files:
        content = read_torch_file(file, ConnectomeError, allowed=NUMBERS)
        tensors = content.get("network") if isinstance(content, Mapping) else None
        if not isinstance(tensors, Mapping):
            raise ConnectomeError(f"{file}: there is no state dict 'network', as in flyvis' checkpoints.")
        for name, tensor in {**TENSORS, "sign": "edges_sign"}.items():
            own = tensors.get(tensor)
            if (
                not isinstance(own, torch.Tensor)
                or not own.is_floating_point()
                or own.layout != torch.strided
            ):
                raise ConnectomeError(f"{file}: the state dict 'network' has no tensor {tensor!r}.")
            if tuple(own.shape) != (sizes[name],):
                problem = f"{tensor} has shape {tuple(own.shape)}, and {connectome} needs ({sizes[name]},)"
                raise ConnectomeError(f"{file}: {problem}; it is of another connectome.")
            array = own.detach().double().numpy()
            if name != "sign":
                parts[name].append(array)
            elif len(other := np.flatnonzero(array != signs)):
                problem = f"the sign of {_shown(pairs[other[0]])} is not that in {connectome}"
                raise ConnectomeError(f"{file}: {problem}; it is of another connectome.")
    where = str(files[0]) if len(files) == 1 else f"{len(files)} checkpoints"
    numbers = {name: np.stack(own) for name, own in parts.items()}
    return FlyvisParameters(types, tuple(pairs), signs, **numbers, where=where)


# ---------------------------------------------------------------- into a network


@torch.no_grad()
def load_flyvis_parameters(
    net: mRNN, source: Source, model: int = 0, *, connectome: str | os.PathLike[str] | None = None
) -> None:
    """Give a network the trained parameters of one of flyvis.

    Biases become tonic inputs and initial states, time constants those of the regions, strengths the gains of
    pairs of types. Either all are set or none.

    Parameters
    ----------
    net : mRNN
        Made of ``read_flyvis(path, extent, share=True)``, with an extent of at least 2, at which every pair
        of types has a synapse.
    source, connectome
        See `read_flyvis_parameters`.
    model : int
        Number of the network in an ensemble, from 0.

    Raises
    ------
    ConnectomeError
        If the source cannot be read, has no such model, or is of another network: its cell types, pairs or
        signs differ.
    ConfigError
        If a time constant is not above ``net.dt``.

    References
    ----------
    Lappalainen et al., Nature 634, 1132 (2024).
    """
    _load(net, read_flyvis_parameters(source, connectome=connectome), model)


def flyvis_networks(
    net: mRNN, source: Source, *, connectome: str | os.PathLike[str] | None = None
) -> Iterator[tuple[int, mRNN]]:
    """Go through an ensemble: number of the model, and ``net`` with its parameters.

    It is the same network each time, whose parameters change.

    Parameters
    ----------
    net, source, connectome
        See `load_flyvis_parameters`, also for what is raised.
    """
    parameters = read_flyvis_parameters(source, connectome=connectome)
    for model in range(len(parameters)):
        _load(net, parameters, model)
        yield model, net


@torch.no_grad()
def _load(net: mRNN, parameters: FlyvisParameters, model: int) -> None:
    where, last = parameters.where, len(parameters) - 1
    whole_number(model, "model", ConnectomeError, least=0)
    if model > last:
        raise ConnectomeError(f"{where}: there is no model {model}; it has 0..{last}.")
    names = net.hid_regions
    _same(names, parameters.types, f"{where}: cell types", "the network's regions")
    weights = net.weights("recurrent")
    own = [(source, target) for source, target, _, _ in weights.gain_names]
    _same([_shown(p) for p in own], [_shown(p) for p in parameters.pairs], f"{where}: pairs", "the network's")
    gains, biases = weights.gains, net.bias
    if gains is None or biases is None or (gains.numel(), biases.numel()) != (len(own), len(names)):
        problem = "the network does not train one gain for each pair and one bias for each type"
        raise ConnectomeError(f"{problem}; make it with read_flyvis(..., share=True).")
    order = [parameters.pairs.index(pair) for pair in own]
    if parameters.signs is not None:
        for (source, target, key, _), sign in zip(weights.gain_names, parameters.signs[order], strict=True):
            if key != SIGN_KEYS[int(sign)]:
                problem = f"{source} -> {target} is {SIGN_KEYS[int(sign)]}, and {key} in the network"
                raise ConnectomeError(f"{where}: {problem}; they are of another connectome.")
    at = [parameters.types.index(name) for name in names]
    taus = 1000 * parameters.time_constant[model, at]
    net.set_time_constants(dict(zip(names, taus.tolist(), strict=True)))
    biases.copy_(torch.from_numpy(parameters.bias[model, at]))
    sizes = torch.from_numpy(np.diff(net.layout().ptr)).to(biases.device)
    net.initial_x.copy_(biases.repeat_interleave(sizes))
    if net.init is not None:
        net.init.copy_(net.initial_x[net.init_units])
    gains.copy_(torch.from_numpy(parameters.strength[model, order]))


def _same(own: Sequence[str], given: Sequence[str], what: str, whose: str) -> None:
    missing, more = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    if missing or more:
        parts = ((missing, "missing"), (more, "not in the network"))
        listed = ((", ".join(names[:5] + ["..."] * (len(names) > 5)), verb) for names, verb in parts)
        told = [f"{names} {verb}" for names, verb in listed if names]
        raise ConnectomeError(f"{what} are not {whose}: {'; '.join(told)}.")


# ---------------------------------------------------------------- responses of an ensemble


@dataclass(frozen=True, eq=False)
class EnsembleResponses:
    """The measures of Lappalainen et al. of every network of an ensemble.

    Parameters
    ----------
    regions : tuple of str
        Cell types with a unit in the central column.
    levels : ndarray, shape (2,)
        Light behind the edges: 0 dark (OFF), 1 bright (ON).
    preferred, selectivity : ndarray, shape (models, regions, 2)
        Preferred direction, degrees, and direction selectivity index; see `MotionResponses`.
    flash_index : ndarray, shape (models, regions)
        See `FlashResponses`.
    """

    regions: tuple[str, ...]
    levels: Floats
    preferred: Floats
    selectivity: Floats
    flash_index: Floats

    def rows(self) -> list[dict[str, Any]]:
        """One table: a row for each model and region, for a data frame of pandas, say."""
        return [
            {
                "model": model, "region": name, "flash_index": self.flash_index[model, k],
                "preferred_off": self.preferred[model, k, 0], "preferred_on": self.preferred[model, k, 1],
                "selectivity_off": self.selectivity[model, k, 0],
                "selectivity_on": self.selectivity[model, k, 1],
            }
            for model in range(len(self.flash_index)) for k, name in enumerate(self.regions)
        ]  # fmt: skip

    def direction_errors(self, known: Mapping[str, float] = PREFERRED_DIRECTIONS) -> dict[str, Floats]:
        """Distance from known preferred directions, degrees, an array (models,) for each type.

        Types that are ON by `POLARITY` (T4) are judged by bright edges, the others (T5) by dark ones.
        """
        found = {}
        for name in (name for name in known if name in self.regions):
            level = 1 if POLARITY.get(name, -1) > 0 else 0
            found[name] = angular_distance(self.preferred[:, self.regions.index(name), level], known[name])
        return found

    def right_polarity(self, known: Mapping[str, int] = POLARITY) -> Floats:
        """Share of the known types whose flash response index has the known sign, shape (models,)."""
        names = [name for name in known if name in self.regions]
        index = self.flash_index[:, [self.regions.index(name) for name in names]]
        share: Floats = (np.sign(index) == [known[name] for name in names]).mean(axis=1)
        return share


def ensemble_responses(
    net: mRNN,
    source: Source,
    regions: Sequence[str] | None = None,
    *,
    connectome: str | os.PathLike[str] | None = None,
    speeds: Sequence[float] = SPEEDS,
    radius: int = 6,
) -> EnsembleResponses:
    """Responses of every network of an ensemble to moving edges and flashes.

    Parameters
    ----------
    net, source, connectome
        See `load_flyvis_parameters`, also for what is raised. ``net`` keeps the last model's parameters.
    regions, speeds, radius
        See `motion_responses` and `flash_responses`.
    """
    rows = []
    for _, one in flyvis_networks(net, source, connectome=connectome):
        rest = adapted_state(one, duration=GREY_TIME)
        motion = motion_responses(one, regions, speeds=speeds, rest=rest)
        flashes = flash_responses(one, regions, radius=radius, rest=rest)
        rows.append((motion.preferred_directions(), motion.selectivity(), flashes.index()))
    columns = (np.stack(part) for part in zip(*rows, strict=True))
    return EnsembleResponses(motion.regions, motion.levels, *columns)
