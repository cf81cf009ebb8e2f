"""Shared by the targets: a graph as plain dicts, and plain parses of text by the documented rules."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from fuzz.registry import InvalidInputError, UnjudgedError

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
    """UTF-8 text, or UTF-16 with its mark."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"it is not UTF-{16 if wide else 8}") from error


SIGNS = ("#", "%", "//")
"""Signs of comments."""


def read_csv(data: bytes, delimiter: str, needed: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, each with as many cells as the header; bytes of unread columns may be anything.

    What is above a header, comments and R's names of rows are not judged. Rows that are blank in the needed
    columns are left out, as are surplus blank cells.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    rows = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if "".join(cells).strip()]
    if not rows:
        raise InvalidInputError("it is empty")
    head = [cell.strip() for cell in rows[0]]
    if any(line.strip().startswith(SIGNS) for line in LINE.split(text)) or not set(needed) <= set(head):
        raise UnjudgedError
    if len(rows) > 1 and all(len(row) == len(head) + 1 for row in rows[1:]):
        raise UnjudgedError
    out = []
    for row in rows[1:]:
        if not any(cell.strip() for cell in row[len(head) :]):
            row = row[: len(head)]
        if len(row) < len(head) and not any(head[len(row) :]):
            row = row + [""] * (len(head) - len(row))
        if len(row) != len(head):
            raise InvalidInputError(f"a row has {len(row)} cells, not {len(head)}")
        if any(row[head.index(name)] for name in needed):
            out.append(row)
    return [name or f"(column {k})" for k, name in enumerate(head)], out


def number(cell: str) -> float:
    """A finite number."""
    if re.fullmatch(r"[+-]?[0-9]*,[0-9]+", cell.strip()):
        raise UnjudgedError  # a decimal comma
    if not NUMBER.fullmatch(cell.strip(" \t")) or not math.isfinite(float(cell)):
        raise InvalidInputError(f"{cell!r} is not a finite number")
    return float(cell)


MISSING = {
    "", "na", "n/a", "nan", "null", "none", "nil", "-", "--", ".", "?", "#n/a", "<na>", "missing", "undefined",
}  # fmt: skip


def ids_of(*columns: list[str]) -> list[list[str]]:
    """Ids without blanks around them, none of them missing; 2.0 among numbers is 2."""
    out = [[cell.strip() for cell in column] for column in columns]
    for k, column in enumerate(out):
        for cell in column:
            if cell.lower() in MISSING:
                raise InvalidInputError("an id is missing")
            if re.search("[\udc80-\udcff]", cell):
                raise InvalidInputError("an id is not UTF-8")
        if all(map(NUMBER.fullmatch, column)):
            out[k] = [str(int(float(c))) if re.match(r"[+-]?[0-9]+(\.|[eE])", c) else c for c in column]
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
