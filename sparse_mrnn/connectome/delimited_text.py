"""Delimited text: its dialect, and the exact place of what is wrong with it (a slow second look, only after an error)."""

from __future__ import annotations

import contextlib
import csv
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sparse_mrnn.errors import ConnectomeError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}
NULLS = {
    "",
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "n/a",
    "nan",
    "null",
}
"""What pyarrow takes for a missing value."""


@dataclass(frozen=True)
class Dialect:
    """How a text file is laid out.

    Parameters
    ----------
    columns : tuple of str
    delimiter : str
    skip : int
        Lines before the first row.
    sample : tuple of rows
        The first rows.
    """

    columns: tuple[str, ...]
    delimiter: str
    skip: int
    sample: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

    def looks_integer(self, column: str) -> bool:
        """Whether the first rows have integers in a column."""
        at = self.columns.index(column)
        values = [row[at].strip() for row in self.sample if len(row) > at and row[at].strip() not in NULLS]
        return bool(values) and all(value.lstrip("+-").isdigit() for value in values)

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Line number (from 1) and cells of every row that is not blank."""
        with opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="") as text:
            reader = csv.reader(text, delimiter=self.delimiter)
            for cells in reader:
                if reader.line_num > self.skip and cells:
                    yield reader.line_num, cells

    def line_of(self, path: Path, row: int) -> int:
        """Line (from 1) of row ``row`` (from 0)."""
        return next((line for k, (line, _) in enumerate(self.rows(path)) if k == row), row + self.skip + 1)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A binary stream of a file, decompressed by its suffix; damage becomes a ConnectomeError."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        hint = " Download it again." if "runcated" in str(error) or "zlib" in str(error) or "inflate" in str(error) else ""
        raise ConnectomeError(f"{path}: cannot be read: {error}.{hint}") from None


def sniff(path: Path, delimiter: str | None = None, columns: Sequence[str] | None = None) -> Dialect:
    """Find delimiter and column names from the first lines.

    Parameters
    ----------
    path : Path
    delimiter : str, optional
        Default: whichever of comma, tab, semicolon, bar and blank splits the first line into most cells.
    columns : sequence of str, optional
        Names, for a file without a header line.

    Raises
    ------
    ConnectomeError
        If the file has no rows, a header with repeats, or is no text.
    """
    with opened(path) as stream:
        head = stream.read(1 << 16)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
        raise ConnectomeError(f"{path}: this is no UTF-8 text (UTF-16 or binary). Save it as UTF-8, or give it the suffix of its format.")
    text = head.decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    if len(head) == 1 << 16:
        lines = lines[:-1]  # the last one may be cut
    first = next((k for k, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ConnectomeError(f"{path}: the file is empty.")
    if delimiter is None:
        delimiter = max(DELIMITERS, key=lambda d: lines[first].count(d) if d != " " else 0.5 * (" " in lines[first].strip()))
    if len(delimiter) != 1:
        raise ConnectomeError(f"{path}: the delimiter is {delimiter!r}; it must be one character, such as ',' or '\\t'.")
    parsed = [tuple(row) for row in csv.reader(lines[first : first + 1001], delimiter=delimiter) if row]
    if columns is not None:
        names, skip = tuple(columns), first
        if len(parsed[0]) != len(names):
            raise ConnectomeError(f"{path}, line {first + 1}: {len(parsed[0])} columns, but {len(names)} names are given (columns=).")
    else:
        names, skip, parsed = tuple(name.strip() for name in parsed[0]), first + 1, parsed[1:]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConnectomeError(f"{path}, line {first + 1}: column {repeated[0]!r} is there twice; rename one.")
    other = max((d for d in DELIMITERS if d != delimiter), key=lines[first].count)
    if len(names) == 1 and other in lines[first].strip():
        raise ConnectomeError(
            f"{path}, line {first + 1}: with {DELIMITERS.get(delimiter, repr(delimiter))} as delimiter there is one column, {names[0]!r}. "
            f"The delimiter looks like a {DELIMITERS[other]}; give delimiter={other!r}."
        )
    return Dialect(names, delimiter, skip, tuple(parsed))


def explain(path: Path, dialect: Dialect, roles: Mapping[str, str], reason: str) -> set[str]:
    """Find what pyarrow stumbled over. Returns columns of ids that are text; raises for anything else.

    Raises
    ------
    ConnectomeError
        With line and column of the first wrong value.
    """
    integer = {column for column, role in roles.items() if role == "id" and dialect.looks_integer(column)}
    places = {column: dialect.columns.index(column) for column in roles}
    text_ids: set[str] = set()
    for line, cells in dialect.rows(path):
        if len(cells) != len(dialect.columns):
            raise ConnectomeError(
                f"{path.name}, line {line}: {len(cells)} columns where the header has {len(dialect.columns)}: {cells!r:.80}."
            )
        for column, at in places.items():
            value = cells[at].strip()
            if value in NULLS:
                continue
            if roles[column] == "number" and not _number(value):
                raise ConnectomeError(f"{path.name}, line {line}, column {column!r}: {value!r} is no number.")
            if column in integer and not (value.lstrip("+-").isdigit() and -(2**63) <= int(value) < 2**63):
                if _number(value) and not value.lstrip("+-").isdigit():
                    float_id(f"{path.name}, line {line}, column {column!r}", value, column)
                text_ids.add(column)
            if "\ufffd" in value:
                raise ConnectomeError(f"{path.name}, line {line}, column {column!r}: {value!r} is not UTF-8 text.")
    if not text_ids:
        raise ConnectomeError(f"{path}: {reason}")
    return text_ids


def float_id(place: str, value: str, column: str) -> NoReturn:
    """Refuse an id written as a floating-point number."""
    raise ConnectomeError(
        f"{place}: the id {value} was written as a floating-point number, so its last digits may be lost. "
        f"Export the table again with ids as integers or text (pandas: dtype={{{column!r}: 'int64'}}, or 'Int64' with gaps)."
    )


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
