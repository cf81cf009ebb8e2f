"""Matrices as text of numpy, pandas, R, Excel, MRtrix and others; rows and columns may have names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_names import plain_name
from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.delimited_text import (
    COMMENTS,
    UTF16,
    Dialect,
    Preamble,
    TextOptions,
    cells_of,
    decimal_sign,
    is_number,
    likely_delimiter,
    opened,
    preamble,
)  # fmt: skip
from sparse_mrnn.connectome.table_files import GROWTH, SPARED
from sparse_mrnn.errors import ConnectomeError

LOOKED_AT, ENOUGH = 40, 1 << 17
"""First lines that say how a matrix is laid out; eight do if they have so many characters."""
COMPRESSED = (".gz", ".bz2", ".zst")
CORNER_WORDS = {
    "", "id", "name", "names", "neuron", "neurons", "index", "label", "labels", "row", "rows", "cell", "unit",
    "node", "unnamed0", "rownames", "from", "to", "source", "target", "pre", "post", "rootid", "bodyid",
    "skid",
}  # fmt: skip
"""Names of the column of names, as `plain_name` writes them."""


@dataclass(frozen=True)
class TextMatrix:
    """A matrix (rows, columns) as a file has it, the names of both if it has them, and its corner cell."""

    matrix: sp.coo_array
    rows: list[str] | None
    columns: list[str] | None
    corner: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The place of names and numbers among the lines and columns of a file."""

    width: int  # columns, of names as well
    titles: int = 0  # lines above the names of columns, or above the first row
    header: Sequence[str] | None = None  # names of the columns, without a corner cell
    names: bool = False  # the first column has the names of rows
    corner: str = ""
    note: str = ""


def read_text_matrix(file: Path, options: TextOptions) -> TextMatrix:
    """Read a matrix; ``options`` may give delimiter, comment and decimal."""
    data = _content(file)
    lines = _first_lines(data)
    above = preamble(lines, options.comment)
    if above.first == len(lines):
        raise ConnectomeError(f"{file}: the file is empty{' but for comments' if above.comments else ''}.")
    data, lines = _without_preamble(data, lines, above)
    delimiter = options.delimiter or above.delimiter or likely_delimiter(lines)
    runs = delimiter == " " and (b"\t" in data or data[:1] == b" " or data[-1:] == b" " or _has_runs(data))
    dialect = Dialect((), delimiter, 0, comment=above.comment, stated=True, runs=runs)
    data, count = _trimmed(dialect.plain(data, file), delimiter)
    table = [cells_of(line, delimiter) for line in itertools.islice(_lines(data), len(lines))]
    firsts = [line.lstrip().startswith('"') for line in itertools.islice(_lines(data), 2)]
    layout = _layout(file, table, count, quoted=firsts == [True, False])
    decimal = options.decimal
    if decimal is None and delimiter != ",":
        body = table[layout.titles + (layout.header is not None) :]
        numbers = [cell for cells in body for cell in cells[layout.names :]]
        decimal = decimal_sign(numbers, str(file))
    found = _numbers(file, data, count, layout, delimiter, decimal or ".", above)
    return _cut(file, found, layout, above)


def _content(file: Path) -> bytes:
    """Read a file as UTF-8 text with simple ends of lines."""
    data = _unpacked(file) if file.suffix in COMPRESSED else file.read_bytes()
    if data[:2] in UTF16:
        data = _unpacked(file)
    if b"\0" in data[:4096]:
        problem = "this is not UTF-8 text (UTF-16 without a mark, or binary). Save it as UTF-8."
        raise ConnectomeError(f"{file}: {problem}")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.isascii():
        data.decode()  # an error names the byte
    return data


def _unpacked(file: Path) -> bytes:
    most = max(SPARED, GROWTH * file.stat().st_size)
    blocks: list[bytes] = []
    with opened(file) as stream:
        while block := stream.read(16 << 20):
            blocks.append(block)
            if sum(map(len, blocks)) > most:
                problem = f"it unpacks to more than {most:,} bytes"
                raise ConnectomeError(f"{file}: {problem}; this looks like a decompression bomb.")
    return b"".join(blocks)


def _lines(data: bytes) -> Iterator[str]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        yield data[start:end].decode()
        start = end + 1


def _first_lines(data: bytes) -> list[str]:
    """Return the lines to look at: comments and blank lines, and some more."""
    out: list[str] = []
    filled = length = 0
    for line in _lines(data):
        out.append(line)
        if line.strip() and not line.lstrip().startswith(COMMENTS):
            filled, length = filled + 1, length + len(line)
            if filled == LOOKED_AT or (filled > 8 and length > ENOUGH):
                break
    return out


def _without_preamble(data: bytes, lines: list[str], above: Preamble) -> tuple[bytes, list[str]]:
    start = sum(len(line.encode()) + 1 for line in lines[: above.first])
    sign = above.comment
    return data[start:], [ln for ln in lines[above.first :] if not (sign and ln.lstrip().startswith(sign))]


def _trimmed(data: bytes, delimiter: str) -> tuple[bytes, int]:
    """Cut blank lines, and those of delimiters alone at the end; return how many lines are left, too."""
    blank = b" \n" if delimiter == "\t" else b" \t\n"
    firsts = {data[start] for start in _starts(data)}
    if not firsts.isdisjoint(blank):  # lines that may be blank
        data = re.sub(rb"(?m)^[ \t]*\n", b"", data) if delimiter != "\t" else re.sub(rb"(?m)^ *\n", b"", data)
    kept = _end(data, blank)
    start = data.rfind(b"\n", 0, kept) + 1
    while start and delimiter != " " and not data[start:kept].strip(delimiter.encode() + b' \t"'):
        kept = start - 1
        start = data.rfind(b"\n", 0, kept) + 1
    return data if len(data) - kept < 2 else data[:kept], data.count(b"\n", 0, kept) + 1


def _starts(data: bytes) -> Iterable[int]:
    """Find where lines start."""
    end = data.find(b"\n")
    if 0 <= end < 256:  # perhaps of many short lines
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
        yield from (start for start in (0, *(ends + 1).tolist()) if start < len(data))
        return
    start = 0
    while start < len(data):
        yield start
        end = data.find(b"\n", start)
        start = len(data) if end < 0 else end + 1


def _has_runs(data: bytes) -> bool:
    """Tell if two blanks or ends of lines are beside each other."""
    blank = np.frombuffer(data, np.uint8) <= ord(" ")
    return bool((blank[1:] & blank[:-1]).any())


def _end(data: bytes, blank: bytes) -> int:
    """Find the end of a text without blanks after it, of which `bytes.rstrip` would make a copy."""
    kept = len(data)
    while kept:
        part = data[max(kept - 4096, 0) : kept]
        kept -= len(part) - len(part.rstrip(blank))
        if part.rstrip(blank):
            break
    return kept


def _layout(file: Path, table: list[list[str]], count: int, quoted: bool) -> Layout:
    """Tell names from numbers. ``count`` are the lines, of which the table has the first.

    ``quoted`` says that the first line is in quotes and the next is not.
    """
    widths = [len(cells) for cells in table]
    full = width = max(widths[1:] or widths, key=lambda n: (widths.count(n), n))
    filled = max((k for cells in table for k, cell in enumerate(cells, start=1) if cell), default=0)
    if not filled:
        raise ConnectomeError(f"{file}: there are no numbers, only empty cells.")
    if filled < width:  # Excel's trailing columns
        table, width = [cells[:filled] for cells in table], filled
    titles = 0
    while titles < len(table) - 1 and _is_title(table[titles], width, count - titles):
        titles += 1
    head, rest = table[titles], table[titles + 1 :]
    rows = count - titles  # lines with that of the names of columns
    at = Layout(full, titles, note=_note(table[:titles]))
    text = [not is_number(cell) and bool(cell) for cell in head]
    texts_below = any(not is_number(cells[0]) and cells[0] for cells in rest if cells)
    firsts = [cells[0] for cells in rest if cells]
    if len(head) == width - 1 and rest:  # R's, whose names of rows have no header
        counted = [str(k) for k in range(1, len(firsts) + 1)]
        cornered = any(sign in head[0] for sign in "/\\>")  # it says what rows and columns are
        alike = len(head) > 1 and firsts in (counted, list(head[: len(firsts)]))
        if alike or (texts_below and not cornered):
            return replace(at, header=head, names=True)
    if len(head) != width and any(text):
        problem = f"the line of names has {len(head)} cells, but most lines have {width}"
        raise ConnectomeError(f"{file}: {problem}. Name every column.")
    if any(text[1:]) or (len(head) == 1 and text[0]):
        corner = plain_name(head[0]) in CORNER_WORDS or any(sign in head[0] for sign in "/\\>")
        names = texts_below or not head[0] or (rows == width and corner)
        return replace(at, header=head[names:], names=names, corner=head[0] if names else "")
    numbers = [cell for cell in head[1:] if cell]
    whole = len(set(numbers)) == len(head) - 1 and all(map(_is_id, numbers))
    same = bool(numbers) and list(map(_as_id, numbers)) == list(map(_as_id, firsts[: len(numbers)]))
    if not head[0] and (whole or (same and not _blank_diagonal(rest))) and rest and len(head) > 1:
        if numbers == firsts[: len(numbers)] and _blank_diagonal(rest) and rows == width:
            problem = "the first line may be names or numbers: its first cell and the diagonal are blank"
            raise ConnectomeError(f"{file}: {problem}. Write 0 into blank cells, or a name into the corner.")
        return replace(at, header=head[1:], names=True)
    if text[0]:
        if texts_below and rows == width - 1:
            return replace(at, names=True)
        names = texts_below or rows == width
        return replace(at, header=head[names:], names=names, corner=head[0] if names else "")
    if texts_below:
        return replace(at, names=True)
    said = "there is a line more than columns, so the first line was read as names"
    different = len(set(head)) == width and (quoted or (all(map(_is_id, head)) and _zero_diagonal(rest)))
    if rows == width + 1 and (_are_ids(head) or different):
        return replace(at, header=head, note="; ".join(filter(None, (at.note, said))))
    if rows == width - 1 and _are_ids([head[0], *firsts]):
        said = "there is a column more than lines, so the first column was read as names"
        return replace(at, names=True, note="; ".join(filter(None, (at.note, said))))
    return at


def _is_title(cells: Sequence[str], width: int, rows: int) -> bool:
    """Tell if a line says what the file is: it has few cells, and no number."""
    filled = [cell for cell in cells if cell]
    if any(map(is_number, filled)) and len(cells) > 1:
        return False
    if len(cells) == width - 1 and rows == width:  # R's header of one name
        return False
    if width <= 2 and len(cells) == width and filled:  # a name for the one column
        return False
    return width > 1 and len(filled) < max(2, width / 2)


def _note(titles: Sequence[Sequence[str]]) -> str:
    said = " | ".join(" ".join(filter(None, cells)) for cells in titles)
    return f"the lines above the matrix were left out: {said!r:.120}" if titles else ""


def _as_id(cell: str) -> str:
    """Write 12.0 as 12."""
    return re.sub(r"\.0*$", "", cell)


def _is_id(cell: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,18}", cell) is not None


def _are_ids(cells: Sequence[str]) -> bool:
    """Tell if numbers are names: 0, 1, 2, ..., large and different ones, or four and more that ascend."""
    counted = [[str(k + first) for k in range(len(cells))] for first in (0, 1)]
    ids = all(map(_is_id, cells)) and len(set(cells)) == len(cells)
    ascending = ids and all(int(low) < int(high) for low, high in itertools.pairwise(cells))
    large = ids and all(int(cell) > 10**5 for cell in cells)
    return large or (len(cells) > 2 and list(cells) in counted) or (len(cells) > 3 and ascending)


def _blank_diagonal(rows: Sequence[Sequence[str]]) -> bool:
    return all(k + 1 < len(cells) and not cells[k + 1] for k, cells in enumerate(rows))


def _zero_diagonal(rows: Sequence[Sequence[str]]) -> bool:
    diagonal = [cells[k] if k < len(cells) else "1" for k, cells in enumerate(rows)]
    return len(rows) > 2 and not any(cell.strip("0.") for cell in diagonal)


@dataclass(frozen=True)
class _Cells:
    """The cells of a matrix that are not 0, names of rows, blank cells by column, and the lines read."""

    row: NDArray[Any]
    col: NDArray[Any]
    value: NDArray[np.float64]
    names: list[str] | None
    blank: NDArray[np.int64]
    lines: int


def _numbers(
    file: Path, data: bytes, count: int, layout: Layout, delimiter: str, decimal: str, above: Preamble
) -> _Cells:
    """Read the numbers, block by block, of a text of ``count`` lines."""
    pa = arrow()
    start = 0
    for _ in range(layout.titles + (layout.header is not None)):
        end = data.find(b"\n", start)
        start = len(data) if end < 0 else end + 1
    if start >= len(data):
        raise ConnectomeError(f"{file}: there are names of columns, but no rows.")
    body = memoryview(data)[start:]
    width, first = layout.width, int(layout.names)
    columns = [str(k) for k in range(width)]
    types = {name: pa.string() if k < first else pa.float64() for k, name in enumerate(columns)}
    quoted = b'"' in data  # without quotes, it is parsed faster
    longest = 4 * max(len(data) // count, 1)
    options = (
        pa.csv.ReadOptions(column_names=columns, block_size=max(8 << 20, longest), use_threads=False),
        pa.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False),
        pa.csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, null_values=["", '""'] if quoted else [""],
            decimal_point=decimal,
        ),
    )
    parts: list[tuple[int, NDArray[np.intp] | None, NDArray[np.float64]]] = []  # where None: all are not 0
    names: list[str] | None = [] if layout.names else None
    blank, lines = np.zeros(width - first, dtype=np.int64), 0
    try:
        for batch in pa.csv.open_csv(pa.BufferReader(pa.py_buffer(body)), *options):
            if names is not None:
                names += [("" if name is None else name).strip() for name in batch.column(0).to_pylist()]
            if width > first:
                numbers = batch.select(columns[first:]) if first else batch
                values = numbers.to_tensor(null_to_nan=True).to_numpy().ravel()
                there = np.flatnonzero(values)
                if np.isnan(values[there]).any():  # blank cells, or the word nan
                    blank += [column.null_count for column in numbers.columns]
                    full = [column.fill_null(0) for column in numbers.columns]
                    values = pa.RecordBatch.from_arrays(full, columns[first:]).to_tensor().to_numpy().ravel()
                    there = np.flatnonzero(values)
                all_there = len(there) == len(values)
                parts.append((lines, None, values) if all_there else (lines, there, values[there]))
            lines += batch.num_rows
    except pa.ArrowException as error:
        return _by_cells(file, data[start:], layout, delimiter, decimal, above, error)
    if not parts:
        raise ConnectomeError(f"{file}: there are names of rows, but no numbers.")
    value, columns_read = np.concatenate([value for *_, value in parts]), np.int32(width - first)
    if all(there is None for _, there, _ in parts):
        every = np.repeat(np.arange(lines, dtype=np.int32), columns_read)
        across = np.tile(np.arange(columns_read, dtype=np.int32), lines)
        return _Cells(every, across, value, names, blank, lines)
    rows, cols = [], []
    for start, which, values in parts:
        index = np.arange(len(values), dtype=np.int32) if which is None else which.astype(np.int32)
        row, col = np.divmod(index, columns_read)
        rows.append(row + np.int32(start))
        cols.append(col)
    return _Cells(np.concatenate(rows), np.concatenate(cols), value, names, blank, lines)


def _by_cells(
    file: Path, body: bytes, layout: Layout, delimiter: str, decimal: str, above: Preamble, error: Exception
) -> _Cells:
    """Read the numbers cell by cell, which names the first that is wrong."""
    first = int(layout.names)
    row: list[int] = []
    col: list[int] = []
    value: list[float] = []
    names, blank = [], np.zeros(layout.width - first, dtype=np.int64)
    lines = 0
    before = layout.titles + (layout.header is not None)
    numbers = itertools.islice(_filled(file, delimiter, above), before, None)
    for number, line in zip(numbers, _lines(body), strict=False):
        cells = cells_of(line, delimiter)
        where = f"{file}, line {number}"
        if len(cells) != layout.width:
            problem = f"{len(cells)} columns, but most lines have {layout.width}."
            raise ConnectomeError(f"{where}: {problem}")
        names += cells[:first]
        for c, cell in enumerate(cells[first:]):
            plain = cell.replace(",", ".") if decimal == "," else cell
            if not cell:
                blank[c] += 1
            elif not is_number(plain):
                raise ConnectomeError(f"{where}, column {c + first + 1}: {cell!r:.80} is not a number.")
            elif float(plain):
                row.append(lines)
                col.append(c)
                value.append(float(plain))
        lines += 1
    if not lines:
        raise ConnectomeError(f"{file}: {error}")
    entries = np.array(row, int), np.array(col, int), np.array(value, float)
    return _Cells(*entries, names if first else None, blank, lines)


def _filled(file: Path, delimiter: str, above: Preamble) -> Iterator[int]:
    """Yield the numbers (from 1) of the lines that are neither blank nor comments."""
    for number, line in enumerate(_lines(_content(file)), start=1):
        is_comment = above.comment and line.lstrip(" \t").startswith(above.comment)
        if number > above.first and line.strip(" " if delimiter == "\t" else " \t") and not is_comment:
            yield number


def _cut(file: Path, found: _Cells, layout: Layout, above: Preamble) -> TextMatrix:
    """Leave out trailing columns that are blank, and put names and notes to a matrix."""
    first, width = int(layout.names), layout.width
    columns = None
    if layout.header is not None:
        columns = [*layout.header, *[""] * (width - first - len(layout.header))]
    used = width - first
    while used and found.blank[used - 1] == found.lines and not (columns and columns[used - 1]):
        used -= 1
    columns = columns and columns[:used]
    for what, names in (("column", columns), ("row", found.names)):
        for k, name in enumerate(names or ()):
            if not name:
                raise ConnectomeError(f"{file}: {what} {k + 1} has no name; name all of them, or none.")
    matrix = sp.coo_array((found.value, (found.row, found.col)), shape=(found.lines, used))
    notes = []
    if above.comments:
        said = " | ".join(above.comments)
        notes.append(f"lines that start with {above.comment!r} were left out: {said!r:.120}")
    if layout.note:
        notes.append(layout.note)
    if blank := int(found.blank[:used].sum()):
        notes.append(f"{blank:,} blank cells were taken as 0")
    return TextMatrix(matrix, found.names, columns, layout.corner, tuple(notes))
