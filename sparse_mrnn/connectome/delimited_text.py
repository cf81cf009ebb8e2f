"""Delimited text: its dialect, and where exactly it is wrong (a slow second look, only after an error)."""

from __future__ import annotations

import contextlib
import csv
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sparse_mrnn.errors import ConnectomeError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}
HEAD = 1 << 16
"""Bytes in which a header must end."""
NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)", re.ASCII | re.I)


@dataclass(frozen=True)
class Dialect:
    """The layout of a text file."""

    columns: tuple[str, ...]
    delimiter: str
    skip: int  # lines before the first row
    is_empty: bool = False  # True without any row

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield line number (from 1) and cells of every row that is not blank."""
        with opened(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
            for line, cells in parsed(text, self.delimiter, path):
                if line > self.skip:
                    yield line, cells

    def line_of(self, path: Path, row: int) -> int:
        """Find the line (from 1) of row ``row`` (from 0)."""
        return next((line for k, (line, _) in enumerate(self.rows(path)) if k == row), row + self.skip + 1)


def split_lines(text: str) -> list[str]:
    """Split lines as csv and pyarrow do; str.splitlines also takes form feeds and others for ends.

    >>> split_lines("a\\x0cb\\r\\nc")
    ['a\\x0cb', 'c']
    """
    return re.split(r"\r\n|\r|\n", text)


def parsed(text: Any, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number (from 1; the last line of a row) and cells of every row that is not blank."""
    reader = csv.reader(text, delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ConnectomeError(f"{path}, line {reader.line_num}: {error}.") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a binary stream of a file, decompressed by its suffix; damage becomes a ConnectomeError."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        damaged = any(word in str(error) for word in ("runcated", "zlib", "inflate"))
        hint = " Download it again." if damaged else ""
        raise ConnectomeError(f"{path}: cannot be read: {error}.{hint}") from None


def first_lines(path: Path) -> list[str]:
    """Read the lines of a text's first 64 KiB, with their ends; a last line that is cut is left out."""
    with opened(path) as stream:
        head = stream.read(HEAD)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
        advice = "Save it as UTF-8, or give it the suffix of its format."
        raise ConnectomeError(f"{path}: this is not UTF-8 text (UTF-16 or binary). {advice}")
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", head.decode("utf-8-sig", errors="replace"))
    if len(head) == HEAD and len(lines) < 2:
        raise ConnectomeError(f"{path}: the first line is longer than {HEAD:,} bytes.")
    return lines[:-1] if len(head) == HEAD else lines


def likely_delimiter(lines: Sequence[str]) -> str:
    """Find which of comma, tab, semicolon, bar and blank splits the first line into most cells."""
    cells = {d: len(next(csv.reader(lines[:1], delimiter=d), [])) - 1.0 for d in DELIMITERS}
    cells[" "] = 0.5 * (" " in lines[0].strip())
    return max(cells, key=lambda delimiter: cells[delimiter])


def sniff(path: Path, delimiter: str | None = None, columns: Sequence[str] | None = None) -> Dialect:
    """Find delimiter and column names from the first lines; ``columns`` names those without header."""
    lines = first_lines(path)
    first = next((k for k, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ConnectomeError(f"{path}: the file is empty.")
    where = f"{path}, line {first + 1}"
    delimiter = likely_delimiter(lines[first:]) if delimiter is None else delimiter
    if len(delimiter.encode()) != 1 or delimiter in '"\r\n\0':
        problem = f"the delimiter is {delimiter!r}; it must be one character, such as ',' or '\\t'."
        raise ConnectomeError(f"{path}: {problem}")
    rows = parsed(lines[first:], delimiter, path)
    ends, cells = next(rows, (1, [""]))
    if columns is None:
        _refuse_open_quote(lines[first:], delimiter, where)
        names, skip = tuple(name.strip() for name in cells), first + ends
    else:
        names, skip = tuple(columns), first
        if len(cells) != len(names):
            problem = f"{len(cells)} columns, but {len(names)} names are given (columns=)."
            raise ConnectomeError(f"{where}: {problem}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConnectomeError(f"{where}: column {repeated[0]!r} is there twice; rename one.")
    other = max((d for d in DELIMITERS if d != delimiter), key=lines[first].count)
    if len(names) == 1 and other in lines[first].strip():
        chosen = DELIMITERS.get(delimiter, repr(delimiter))
        raise ConnectomeError(
            f"{where}: with {chosen} as delimiter there is one column, {names[0]!r}. "
            f"The delimiter looks like a {DELIMITERS[other]}; give delimiter={other!r}."
        )
    return Dialect(names, delimiter, skip, is_empty=columns is None and next(rows, None) is None)


def _refuse_open_quote(lines: Sequence[str], delimiter: str, where: str) -> None:
    """Refuse a header with a quote that no other closes: it would swallow the rows."""
    try:
        next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise ConnectomeError(f"{where}: a quote in the header is not closed.") from None


def explain(path: Path, dialect: Dialect, kinds: Mapping[str, str], reason: str) -> NoReturn:
    """Refuse a file with line and column of what pyarrow stumbled over, in columns of "number" or others."""
    index = {column: dialect.columns.index(column) for column in kinds}
    for line, cells in dialect.rows(path):
        if len(cells) != len(dialect.columns):
            problem = f"{len(cells)} columns, but the header has {len(dialect.columns)}: {cells!r:.80}."
            raise ConnectomeError(f"{path.name}, line {line}: {problem}")
        for column, k in index.items():
            value, where = cells[k].strip(), f"{path.name}, line {line}, column {column!r}"
            if kinds[column] == "number" and value and not is_number(value):
                raise ConnectomeError(f"{where}: {value!r:.80} is not a number.")
            if "\ufffd" in value:
                raise ConnectomeError(f"{where}: {value!r:.80} is not UTF-8 text.")
    raise ConnectomeError(f"{path}: {reason}")


def is_number(text: str) -> bool:
    """Tell if text is a decimal number as other software reads one, too (Python's float also takes 1_0).

    >>> [is_number(text) for text in ("-1.5e3", "nan", "1_0", "")]
    [True, True, False, False]
    """
    return NUMBER.fullmatch(text) is not None
