"""Shared by the targets: a graph as plain dicts, and plain parses of text by the documented rules."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from fuzz.registry import InvalidInputError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LINE = re.compile(r"\r\n|\r|\n")


def as_dict(graph: Any) -> dict[str, Any]:
    """Units by region, and the sum of the weights of every connected pair of units."""
    ids = {region.name: region.unit_ids for region in graph.regions()}
    weights: dict[tuple[str, str], float] = defaultdict(float)
    for projection in graph.projections():
        matrix = projection.weights.tocoo()
        for i, j, weight in zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True):
            weights[ids[projection.source][j], ids[projection.target][i]] += weight
    return {"regions": {name: sorted(units) for name, units in ids.items()}, "weights": dict(weights)}


def read_text(data: bytes) -> str:
    """UTF-8 text."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidInputError("it is UTF-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError("it is not UTF-8") from error


def read_csv(data: bytes, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows; every row has as many cells as the header. Bytes of unread columns may be anything."""
    text = data.decode("utf-8-sig", "surrogateescape")
    rows = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if cells]
    while rows and not "".join(rows[0]).strip():
        rows.pop(0)
    if not rows:
        raise InvalidInputError("it is empty")
    head = [cell.strip() for cell in rows[0]]
    for row in rows[1:]:
        if len(row) != len(head):
            raise InvalidInputError(f"a row has {len(row)} cells, not {len(head)}")
    return head, rows[1:]


def number(cell: str) -> float:
    """A finite number."""
    if not NUMBER.fullmatch(cell.strip(" \t")) or not math.isfinite(float(cell)):
        raise InvalidInputError(f"{cell!r} is not a finite number")
    return float(cell)


def ids_of(*columns: list[str]) -> list[list[str]]:
    """Ids without blanks around them; none may be missing, or look like a number that was a float."""
    out = [[cell.strip() for cell in column] for column in columns]
    for column in out:
        if "" in column:
            raise InvalidInputError("an id is missing")
        for cell in column:
            if re.search("[\udc80-\udcff]", cell):
                raise InvalidInputError("an id is not UTF-8")
    return out


def total(source: list[str], target: list[str], weight: list[float]) -> dict[tuple[str, str], float]:
    """Sum of the weights of every pair, without those that are 0."""
    out: dict[tuple[str, str], float] = defaultdict(float)
    for pair, value in zip(zip(source, target, strict=True), weight, strict=True):
        out[pair] += value
    return {pair: value for pair, value in out.items() if value}


def only(folder: Path) -> Path:
    """The one file of a folder."""
    (path,) = folder.iterdir()
    return path
