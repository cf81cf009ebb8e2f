"""Delimited text: its dialect, and where exactly it is wrong (a slow second look, only after an error)."""

from __future__ import annotations

import contextlib
import csv
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sparse_mrnn.errors import ConnectomeError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}
NULLS = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA",
    "NULL", "NaN", "n/a", "nan", "null",
}  # fmt: skip
"""What pyarrow takes for a missing value."""


@dataclass(frozen=True)
class Dialect:
    """How a text file is laid out."""

    columns: tuple[str, ...]
    delimiter: str
    skip: int  # lines before the first row
    is_empty: bool = False  # whether there are no rows

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Line number (from 1) and cells of every row that is not blank."""
        with opened(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
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
        damaged = any(word in str(error) for word in ("runcated", "zlib", "inflate"))
        hint = " Download it again." if damaged else ""
        raise ConnectomeError(f"{path}: cannot be read: {error}.{hint}") from None


def sniff(path: Path, delimiter: str | None = None, columns: Sequence[str] | None = None) -> Dialect:
    """Find delimiter and column names from the first lines.

    Without ``delimiter``, it is whichever of comma, tab, semicolon, bar and blank splits the first line into
    most cells. ``columns`` are the names for a file without a header line.
    """
    with opened(path) as stream:
        head = stream.read(1 << 16)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
        advice = "Save it as UTF-8, or give it the suffix of its format."
        raise ConnectomeError(f"{path}: this is no UTF-8 text (UTF-16 or binary). {advice}")
    text = head.decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    if len(head) == 1 << 16:
        lines = lines[:-1]  # the last one may be cut
    first = next((k for k, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ConnectomeError(f"{path}: the file is empty.")
    if delimiter is None:
        cells = {d: float(lines[first].count(d)) for d in DELIMITERS}
        cells[" "] = 0.5 * (" " in lines[first].strip())
        delimiter = max(cells, key=lambda d: cells[d])
    if len(delimiter) != 1:
        problem = f"the delimiter is {delimiter!r}; it must be one character, such as ',' or '\\t'."
        raise ConnectomeError(f"{path}: {problem}")
    parsed = [tuple(row) for row in csv.reader(lines[first:], delimiter=delimiter) if row]
    if columns is not None:
        names, skip = tuple(columns), first
        if len(parsed[0]) != len(names):
            problem = f"{len(parsed[0])} columns, but {len(names)} names are given (columns=)."
            raise ConnectomeError(f"{path}, line {first + 1}: {problem}")
    else:
        names, skip, parsed = tuple(name.strip() for name in parsed[0]), first + 1, parsed[1:]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConnectomeError(f"{path}, line {first + 1}: column {repeated[0]!r} is there twice; rename one.")
    other = max((d for d in DELIMITERS if d != delimiter), key=lines[first].count)
    if len(names) == 1 and other in lines[first].strip():
        chosen = DELIMITERS.get(delimiter, repr(delimiter))
        raise ConnectomeError(
            f"{path}, line {first + 1}: with {chosen} as delimiter there is one column, {names[0]!r}. "
            f"The delimiter looks like a {DELIMITERS[other]}; give delimiter={other!r}."
        )
    return Dialect(names, delimiter, skip, is_empty=not parsed)


def explain(path: Path, dialect: Dialect, kinds: Mapping[str, str], reason: str) -> NoReturn:
    """Refuse a file with line and column of what pyarrow stumbled over, in columns of "number" or "text"."""
    index = {column: dialect.columns.index(column) for column in kinds}
    for line, cells in dialect.rows(path):
        if len(cells) != len(dialect.columns):
            problem = f"{len(cells)} columns where the header has {len(dialect.columns)}: {cells!r:.80}."
            raise ConnectomeError(f"{path.name}, line {line}: {problem}")
        for column, k in index.items():
            value, where = cells[k].strip(), f"{path.name}, line {line}, column {column!r}"
            if kinds[column] == "number" and value not in NULLS and not is_number(value):
                raise ConnectomeError(f"{where}: {value!r} is no number.")
            if "\ufffd" in value:
                raise ConnectomeError(f"{where}: {value!r} is not UTF-8 text.")
    raise ConnectomeError(f"{path}: {reason}")


def is_number(text: str) -> bool:
    """Whether Python reads some text as a floating-point number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
