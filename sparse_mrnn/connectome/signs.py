"""Signs of neurons or synapses: from transmitters, from a column of signs, or from signed weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import ColumnTable
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.errors import ConnectomeError

Int8 = NDArray[np.int8]
UNKNOWN = 2
MEANING = {1: "excitatory", -1: "inhibitory", 0: "unsigned", UNKNOWN: "sign unknown"}

ALIASES = {
    "ach": "acetylcholine", "cholinergic": "acetylcholine", "glut": "glutamate", "glu": "glutamate",
    "glutamatergic": "glutamate", "gabaergic": "gaba", "da": "dopamine", "dopaminergic": "dopamine",
    "ser": "serotonin", "5ht": "serotonin", "5-ht": "serotonin", "oct": "octopamine", "hist": "histamine",
    "his": "histamine", "gly": "glycine", "tyr": "tyramine",
}  # fmt: skip
NO_TRANSMITTER = {"", "unknown", "unclear", "none", "undefined", "nan", "na"}
MODULATORS = dict.fromkeys(("dopamine", "serotonin", "octopamine", "tyramine", "noradrenaline"), 0)
SIGNS: dict[str, dict[str, int]] = {
    "fly": {"acetylcholine": 1, "gaba": -1, "glutamate": -1, "histamine": -1, **MODULATORS},
    "vertebrate": {"glutamate": 1, "acetylcholine": 1, "gaba": -1, "glycine": -1, **MODULATORS},
}
"""Signs of transmitters, by kind of animal.

In the fly's central brain glutamate inhibits through GluCl channels (Liu & Wilson, PNAS 2013, 110:10294),
histamine through HisCl; in vertebrates glutamate excites. Modulators have no sign.
"""

SIGN_WORDS = {
    **dict.fromkeys(("1", "+1", "1.0", "pos", "exc", "excitatory", "excitatory_neuron", "e"), 1),
    **dict.fromkeys(("-1", "-1.0", "neg", "inh", "inhibitory", "inhibitory_neuron", "i"), -1),
    **dict.fromkeys(("0", "0.0", "nonneuron"), 0),
}


@dataclass(frozen=True)
class Signs:
    """Signs of all neurons, or of all edge rows where every synapse has its own; how many came from where."""

    values: Int8
    per_synapse: bool
    tally: dict[str, int]


def canonical(transmitter: str) -> str:
    """Return a transmitter's full lower-case name.

    >>> canonical(" ACH"), canonical("GABA")
    ('acetylcholine', 'gaba')
    """
    name = transmitter.strip().lower()
    return ALIASES.get(name, name)


def sign_map(signs: str | Mapping[str, int] | None) -> dict[str, int]:
    """Return the mapping of transmitter to sign that the caller asks for."""
    if signs is None:
        raise ConnectomeError(
            "transmitters need signs=: 'fly', 'vertebrate' or a mapping such as {'acetylcholine': 1, "
            "'gaba': -1, 'glutamate': -1}; glutamate excites in vertebrates and mostly inhibits in the fly."
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


def of_labels(labels: list[str], settings: ImportSettings) -> tuple[Int8, list[str]]:
    """Give each label its sign (or `UNKNOWN`), and list the labels whose transmitters disagree."""
    out = np.full(len(labels), UNKNOWN, dtype=np.int8)
    several: list[str] = []
    if settings.transmitter is None:
        for k, label in enumerate(labels):
            if label.lower() not in SIGN_WORDS:
                problem = f"{label!r} is not a sign; use 1, -1, 0, pos, neg, exc or inh."
                raise ConnectomeError(f"column {settings.sign!r}: {problem}")
            out[k] = SIGN_WORDS[label.lower()]
        return out, several
    known = sign_map(settings.signs)
    for k, label in enumerate(labels):
        parts = [part for part in re.split(r"[,;/|+&]", label) if part.strip().lower() not in NO_TRANSMITTER]
        signs = {known[name] for name in map(canonical, parts) if name in known}
        if len(signs) > 1:
            several.append(label)
        elif signs:
            out[k] = signs.pop()
    return out, several


def signs_of(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> Signs:
    """Give all neurons their signs, or with ``sign_per="synapse"`` all edge rows."""
    column, per_synapse = settings.transmitter or settings.sign, settings.sign_per == "synapse"
    if tables.neurons is not None and column is not None and tables.has(column):
        everyone = np.ones(rows.neurons - rows.added, dtype=bool)
        signs, tally = _of_column(tables.neurons, column, settings, everyone, "neurons")
        if rows.added:
            tally["neurons without a row in the neuron table: sign unknown"] = rows.added
        signs = _without_unknown(rows.of_table(signs, UNKNOWN), settings, lambda k: f"neuron {rows.ids[k]}")
        return Signs(signs[rows.source] if per_synapse else signs, per_synapse, tally)
    if column is not None:
        signs, tally = _of_column(tables.edges, tables.edges.need(column), settings, rows.kept, "connections")
    elif (rows.weight < 0).any():
        signs = np.sign(rows.weight).astype(np.int8)
        tally = {"neurons by the sign of their weights": rows.neurons}
    elif settings.counts:
        signs = np.full(len(rows.source), UNKNOWN, dtype=np.int8)
        tally = {"neurons: no transmitter or sign column, so their sign is unknown": rows.neurons}
    else:
        signs = np.ones(len(rows.source), dtype=np.int8)
        tally = {"neurons: all weights are positive": rows.neurons}
    if per_synapse:
        signs = _without_unknown(signs, settings, lambda k: f"edge row {k}", rows.kept)
    else:
        signs = _by_neuron(signs, rows, settings, tally)
    return Signs(signs, per_synapse, tally)


def _of_column(
    table: ColumnTable, column: str, settings: ImportSettings, counted: NDArray[np.bool_], what: str
) -> tuple[Int8, dict[str, int]]:
    """The sign of every row, and how many of the rows that count have which label."""
    codes, labels = table.labels(column)
    of_label, several = of_labels(labels, settings)
    for label in several:
        hit = np.flatnonzero((codes == labels.index(label)) & counted)
        if len(hit) and settings.mixed != "free":
            raise ConnectomeError(
                f"{table.location(int(hit[0]), column)}: {label!r} names transmitters of different sign "
                f"({len(hit):,} {what}). Correct the table, or leave such neurons unsigned with mixed='free'."
            )
        of_label[labels.index(label)] = 0
    signs = np.concatenate([of_label, [UNKNOWN]]).astype(np.int8)[codes]
    tally: dict[str, int] = {}
    unsure = np.zeros(len(codes), dtype=bool)
    if settings.confidence is not None:
        value = table.numbers_or_nan(settings.confidence, "confidence")
        least = settings.min_confidence
        unsure = ~(value >= least) & (codes >= 0)
        signs[unsure] = UNKNOWN
        counts, missing = unsure & counted, np.isnan(value)
        why = f"{settings.confidence} below {least:g}, so the sign is unknown"
        tally[f"{what}: {why}"] = int((counts & ~missing).sum())
        tally[f"{what} without a {settings.confidence}: sign unknown"] = int((counts & missing).sum())
    elif settings.min_confidence > 0:
        problem = f"{table.name} has no confidence column; name it with confidence=."
        raise ConnectomeError(f"min_confidence is given, but {problem}")
    count = np.bincount(codes[counted & ~unsure] + 1, minlength=len(labels) + 1)
    for k, label in enumerate(labels):
        tally[f"{what}: {column} {label!r}, {MEANING[int(of_label[k])]}"] = int(count[k + 1])
    tally[f"{what} without a {column}: sign unknown"] = int(count[0])
    return signs, tally


def _without_unknown(
    signs: Int8, settings: ImportSettings, name: Callable[[int], str], counted: Any = True
) -> Int8:
    """Replace unknown signs as ``unknown_sign`` says."""
    unknown = signs == UNKNOWN
    refused = np.flatnonzero(unknown & counted)
    if settings.unknown_sign == "error" and len(refused):
        problem = f"its sign is not known ({len(refused):,} are not)"
        raise ConnectomeError(f"{name(refused[0])}: {problem}. Choose unknown_sign='free', 'pos' or 'neg'.")
    replacement = {"free": 0, "pos": 1, "neg": -1, "error": 0}[settings.unknown_sign]
    return np.where(unknown, replacement, signs).astype(np.int8)


def _by_neuron(by_row: Int8, rows: EdgeRows, settings: ImportSettings, tally: dict[str, int]) -> Int8:
    """Derive the sign of each neuron from the signs of its synapses."""
    n, size, total = rows.neurons, np.abs(rows.weight), {}
    for sign in (1, -1, 0):
        counted = rows.kept & (by_row == sign)
        total[sign] = np.bincount(rows.source[counted], size[counted], n)
    mixed = np.flatnonzero((total[1] > 0) & (total[-1] > 0))
    if len(mixed):
        k = mixed[0]
        if settings.mixed == "error":
            synapses = f"{total[1][k]:g} excitatory and {total[-1][k]:g} inhibitory synapses"
            raise ConnectomeError(
                f"neuron {rows.ids[k]} has {synapses} ({len(mixed):,} neurons are mixed). Choose "
                "mixed='majority' or mixed='free', or sign_per='synapse' for a sign of every synapse."
            )
        how = "sign of most" if settings.mixed == "majority" else "unsigned"
        tally[f"neurons whose synapses disagree: {how}"] = len(mixed)
    signs = np.sign(total[1] - total[-1]).astype(np.int8)
    if settings.mixed == "free":
        signs[mixed] = 0
    signs[(total[1] == 0) & (total[-1] == 0) & (total[0] == 0)] = UNKNOWN
    return _without_unknown(signs, settings, lambda k: f"neuron {rows.ids[k]}")
