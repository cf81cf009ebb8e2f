"""Signs of neurons or synapses: from transmitters, from a column of signs, or from signed weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import ColumnTable
from sparse_mrnn.connectome.settings import Settings
from sparse_mrnn.errors import ConnectomeError

Int8 = NDArray[np.int8]
UNKNOWN = 2

ALIASES = {
    "ach": "acetylcholine", "cholinergic": "acetylcholine", "glut": "glutamate", "glu": "glutamate", "glutamatergic": "glutamate",
    "gabaergic": "gaba", "da": "dopamine", "ser": "serotonin", "5ht": "serotonin", "5-ht": "serotonin", "oct": "octopamine",
    "hist": "histamine", "his": "histamine", "gly": "glycine", "tyr": "tyramine", "dopaminergic": "dopamine",
}  # fmt: skip
NO_TRANSMITTER = {"", "unknown", "unclear", "none", "undefined", "nan", "na"}
MODULATORS = dict.fromkeys(("dopamine", "serotonin", "octopamine", "tyramine", "noradrenaline"), 0)
SIGNS: dict[str, dict[str, int]] = {
    "fly": {"acetylcholine": 1, "gaba": -1, "glutamate": -1, "histamine": -1, **MODULATORS},
    "vertebrate": {"glutamate": 1, "acetylcholine": 1, "gaba": -1, "glycine": -1, **MODULATORS},
}
"""What transmitters do. In the fly's central brain glutamate inhibits through GluCl channels (Liu & Wilson, PNAS 2013, 110:10294),
histamine through HisCl; in vertebrates glutamate excites. Modulators have no fixed sign."""

WORDS = {
    "1": 1,
    "+1": 1,
    "1.0": 1,
    "pos": 1,
    "exc": 1,
    "excitatory": 1,
    "-1": -1,
    "-1.0": -1,
    "neg": -1,
    "inh": -1,
    "inhibitory": -1,
    "0": 0,
    "0.0": 0,
}


@dataclass(frozen=True)
class Signs:
    """Signs found: one per neuron, or one per edge row (the other is None), and how many came from where."""

    neurons: Int8 | None
    edges: Int8 | None
    tally: dict[str, int]


def canonical(transmitter: str) -> str:
    """A transmitter's full lower-case name.

    >>> canonical(" ACH"), canonical("GABA")
    ('acetylcholine', 'gaba')
    """
    name = transmitter.strip().lower()
    return ALIASES.get(name, name)


def sign_map(signs: str | Mapping[str, int] | None) -> dict[str, int]:
    """The mapping of transmitter to sign a caller asks for.

    Raises
    ------
    ConnectomeError
        If there is none, or a sign is not +1, -1 or 0.
    """
    if signs is None:
        raise ConnectomeError(
            "transmitters need signs=: 'fly', 'vertebrate' or a mapping such as {'acetylcholine': 1, 'gaba': -1, 'glutamate': -1}; "
            "glutamate excites in vertebrates and mostly inhibits in the fly."
        )
    if isinstance(signs, str):
        if signs not in SIGNS:
            raise ConnectomeError(f"signs is {signs!r}; use {', '.join(map(repr, SIGNS))}, or a mapping.")
        return SIGNS[signs]
    out: dict[str, int] = {}
    for name, sign in signs.items():
        if sign not in (-1, 0, 1):
            raise ConnectomeError(f"signs[{name!r}] is {sign!r}; it must be +1, -1 or 0.")
        out[canonical(name)] = int(sign)
    return out


def of_labels(labels: list[str], settings: Settings) -> tuple[Int8, list[str]]:
    """Sign of each label of a transmitter or sign column (`UNKNOWN` if it has none), and those naming several transmitters."""
    out = np.full(len(labels), UNKNOWN, dtype=np.int8)
    several: list[str] = []
    if settings.transmitter is None:
        for k, label in enumerate(labels):
            if label.lower() not in WORDS:
                raise ConnectomeError(f"column {settings.sign!r}: {label!r} is no sign; use 1, -1, 0, pos or neg.")
            out[k] = WORDS[label.lower()]
        return out, several
    known = sign_map(settings.signs)
    for k, label in enumerate(labels):
        names = [canonical(part) for part in re.split(r"[,;/|+&]", label) if part.strip().lower() not in NO_TRANSMITTER]
        found = {known[name] for name in names if name in known}
        if len(found) > 1:
            several.append(label)
        elif found:
            out[k] = found.pop()
    return out, several


def find_signs(
    neurons: ColumnTable | None,
    edges: ColumnTable,
    extra: int,
    source: NDArray[np.int32],
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
    ids: list[str] | NDArray[np.object_],
    settings: Settings,
) -> Signs:
    """Signs of all neurons, or with ``sign_per="synapse"`` of all edge rows.

    Parameters
    ----------
    neurons, edges : ColumnTable
    extra : int
        Neurons after those of the table, which have no row there.
    source, weight : ndarray, shape (edge rows,)
        Presynaptic neuron and weight of every edge row.
    used : ndarray of bool, shape (edge rows,)
        Rows that count.
    ids : sequence, shape (neurons,)
        For messages.
    settings : Settings

    Raises
    ------
    ConnectomeError
        For mixed or unknown signs, where they are not allowed.
    """
    column = settings.transmitter or settings.sign
    n = len(ids)
    if column is not None and neurons is not None and column in neurons.columns:
        signs, tally = _column(neurons, column, settings, np.ones(n - extra, dtype=bool), "neurons")
        signs = np.concatenate([signs, np.full(extra, UNKNOWN, dtype=np.int8)])
        if extra:
            tally["neurons without a row in the neuron table: sign unknown"] = extra
        signs = _settle(signs, settings, lambda k: f"neuron {ids[k]}", tally)
        if settings.sign_per == "neuron":
            return Signs(signs, None, tally)
        return Signs(None, signs[source], tally)
    if column is not None:
        by_edge, tally = _column(edges, edges.need(column), settings, used, "connections")
    elif (weight < 0).any():
        by_edge, tally = np.sign(weight).astype(np.int8), {"neurons by the sign of their weights": n}
    elif settings.counts:
        by_edge, tally = (
            np.full(len(source), UNKNOWN, dtype=np.int8),
            {"neurons: no transmitter or sign column, so their sign is unknown": n},
        )
    else:
        by_edge, tally = np.ones(len(source), dtype=np.int8), {"neurons: all weights are positive": n}
    if settings.sign_per == "synapse":
        return Signs(None, _settle(by_edge, settings, lambda k: f"edge row {k}", tally, used), tally)
    return Signs(_by_neuron(by_edge, source, weight, used, ids, settings, tally), None, tally)


def _column(table: ColumnTable, column: str, settings: Settings, used: NDArray[np.bool_], what: str) -> tuple[Int8, dict[str, int]]:
    codes, labels = table.labels(column)
    of_label, several = of_labels(labels, settings)
    for label in several:
        hit = np.flatnonzero((codes == labels.index(label)) & used)
        if len(hit) and settings.mixed != "free":
            raise ConnectomeError(
                f"{table.location(int(hit[0]), column)}: {label!r} names transmitters of different sign ({len(hit):,} {what}). "
                "Correct the table, or leave such neurons unsigned with mixed='free'."
            )
        of_label[labels.index(label)] = 0
    signs = np.concatenate([of_label, [UNKNOWN]]).astype(np.int8)[codes]
    tally: dict[str, int] = {}
    low = np.zeros(len(codes), dtype=bool)
    if settings.confidence is not None and settings.confidence in table.columns:
        value = np.nan_to_num(_numbers_or_nan(table, settings.confidence), nan=-np.inf)
        low = (value < settings.min_confidence) & (codes >= 0)
        signs[low] = UNKNOWN
        tally[f"{what}: {settings.confidence} below {settings.min_confidence:g}, so the sign is unknown"] = int((low & used).sum())
    elif settings.min_confidence > 0:
        raise ConnectomeError(f"min_confidence is given, but {table.name} has no confidence column; name it with confidence=.")
    count = np.bincount(codes[used & ~low] + 1, minlength=len(labels) + 1)
    for k, label in enumerate(labels):
        meaning = {1: "excitatory", -1: "inhibitory", 0: "unsigned", UNKNOWN: "sign unknown"}[int(of_label[k])]
        tally[f"{what}: {column} {label!r}, {meaning}"] = int(count[k + 1])
    tally[f"{what} without a {column}: sign unknown"] = int(count[0])
    return signs, tally


def _numbers_or_nan(table: ColumnTable, column: str) -> NDArray[np.float64]:
    """Numbers of a column; where they are missing, NaN."""
    codes, labels = table.labels(column)
    try:
        values = np.array([*(float(label) for label in labels), np.nan])
    except ValueError:
        raise ConnectomeError(f"{table.name}, column {column!r}: a confidence is no number.") from None
    found: NDArray[np.float64] = values[codes]
    return found


def _settle(signs: Int8, settings: Settings, name: object, tally: dict[str, int], used: NDArray[np.bool_] | None = None) -> Int8:
    """Replace unknown signs as the caller wants."""
    unknown = signs == UNKNOWN if used is None else (signs == UNKNOWN) & used
    if settings.unknown_sign == "error" and unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        raise ConnectomeError(
            f"{name(first)}: its sign is not known ({int(unknown.sum()):,} are not). "  # type: ignore[operator]
            "Choose unknown_sign='free', 'pos' or 'neg'."
        )
    return np.where(signs == UNKNOWN, {"free": 0, "pos": 1, "neg": -1, "error": 0}[settings.unknown_sign], signs).astype(np.int8)


def _by_neuron(
    by_edge: Int8,
    source: NDArray[np.int32],
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
    ids: list[str] | NDArray[np.object_],
    settings: Settings,
    tally: dict[str, int],
) -> Int8:
    """One sign per neuron from those of its synapses."""
    n, size = len(ids), np.abs(weight)
    total = {sign: np.bincount(source[used & (by_edge == sign)], size[used & (by_edge == sign)], n) for sign in (1, -1, 0)}
    mixed = np.flatnonzero((total[1] > 0) & (total[-1] > 0))
    if len(mixed):
        k = mixed[0]
        if settings.mixed == "error":
            raise ConnectomeError(
                f"neuron {ids[k]} has {total[1][k]:g} excitatory and {total[-1][k]:g} inhibitory synapses "
                f"({len(mixed):,} neurons are mixed). "
                "Choose mixed='majority' or mixed='free', or sign_per='synapse' for a sign of every synapse."
            )
        how = "sign of most" if settings.mixed == "majority" else "unsigned"
        tally[f"neurons whose synapses disagree: {how}"] = len(mixed)
    signs = np.sign(total[1] - total[-1]).astype(np.int8)
    if settings.mixed == "free":
        signs[mixed] = 0
    silent = (total[1] == 0) & (total[-1] == 0) & (total[0] == 0)
    signs[silent] = UNKNOWN
    return _settle(signs, settings, lambda k: f"neuron {ids[k]}", tally)
