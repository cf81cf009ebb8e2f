"""Delimited text: its layout, and where exactly it is wrong (a slow second look, only after an error)."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sparse_mrnn.errors import ConnectomeError

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}
COMMENTS = ("#", "%", "//")
"""Signs of comment lines above a table that are recognised without ``comment``."""
HEAD = 1 << 16
"""Bytes in which a header must end."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks, at the start of a text in UTF-16."""
SAMPLE = 200
"""Rows below the header that say how many columns there are."""
NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)", re.ASCII | re.I)
LONGEST = 1 << 28
"""Bytes of a line below the header."""
RUNS = re.compile(rb'("(?:[^"]|"")*")|[ \t]+')
"""Text in quotes, which stays, or blanks, which become one."""


@dataclass(frozen=True)
class Dialect:
    """The layout of a text file."""

    columns: tuple[str, ...]  # a nameless one is called "(column 4)"
    delimiter: str
    skip: int  # lines before the first row
    is_empty: bool = False  # True without any row
    comment: str = ""  # lines that start with it are left out
    stated: bool = False  # by the caller; if not, such a line must not look like a row
    runs: bool = False  # several blanks or tabs delimit as one
    decimal: str = ""  # "": neither stated nor found
    header: bool = True
    comments: tuple[str, ...] = ()  # above the table, without their signs
    notes: tuple[str, ...] = ()  # what else was found, for the report

    @property
    def comment_is_known(self) -> bool:
        """Tell if the sign of comments was given or found."""
        return self.stated or bool(self.comment)

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield line number (from 1) and cells of every row that is not blank."""
        with self.stream(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
            for line, cells in parsed(text, self.delimiter, path):
                if line > self.skip and (len(self.columns) < 2 or len(cells) > 1 or cells[0].strip()):
                    yield line, self.fitted(cells)

    def fitted(self, cells: list[str]) -> list[str]:
        """Cut surplus cells that are blank, and add blank ones for nameless columns."""
        n = len(self.columns)
        if len(cells) > n and not any(cell.strip() for cell in cells[n:]):
            return cells[:n]
        if len(cells) < n and all(is_nameless(name) for name in self.columns[len(cells) :]):
            return cells + [""] * (n - len(cells))
        return cells

    def line_of(self, path: Path, row: int) -> int:
        """Find the line (from 1) of row ``row`` (from 0)."""
        return next((line for k, (line, _) in enumerate(self.rows(path)) if k == row), row + self.skip + 1)

    @contextlib.contextmanager
    def stream(self, path: Path) -> Iterator[Any]:
        """Open a stream of the rows: comments are blank lines there, runs of blanks are one delimiter."""
        with opened(path) as stream:
            if not (self.comment or self.runs):
                yield stream
                return
            skips = itertools.chain([self.skip], itertools.repeat(0))
            lines = _LinesOf(stream, lambda block: self.plain(block, path, next(skips)))
            with io.BufferedReader(lines, 8 << 20) as reader:
                yield reader

    def plain(self, block: bytes, path: Path, skip: int = 0) -> bytes:
        """Blank the comments of lines, and make runs of blanks one; ``skip`` lines are above the rows."""
        sign = self.comment.encode()
        if sign and sign in block:
            lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", block)
            for k, line in enumerate(lines):
                if line.lstrip(b" \t").startswith(sign):
                    text = line.decode(errors="replace").strip()
                    cells = len(cells_of(text, self.delimiter))
                    if k >= skip and not self.stated and 1 < cells == len(self.columns):
                        raise ConnectomeError(
                            f"{path}: the line {text!r:.80} looks like a row and like a comment. Give "
                            f"comment={self.comment!r} to leave such lines out, or comment='' to read them."
                        )
                    lines[k] = line[len(line.rstrip(b"\r\n")) :]
            block = b"".join(lines)
        if not self.runs:
            return block
        if b'"' in block:
            block = RUNS.sub(lambda found: found[1] or b" ", block)
            return re.sub(rb"(?m)^ +| +(?=\r?$)", b"", block)
        letters = np.frombuffer(block.replace(b"\t", b" "), np.uint8)
        blank = letters == ord(" ")
        ends = blank | (letters == ord("\n")) | (letters == ord("\r"))
        blank[:-1] &= ends[1:]  # all but the last of a run, and those at the end of a line
        block = letters[~blank].tobytes().replace(b"\n ", b"\n")
        return (block.replace(b"\r ", b"\r") if b"\r" in block else block).lstrip(b" ")


class _LinesOf(io.RawIOBase):
    """A stream of another one's whole lines, changed block by block."""

    def __init__(self, stream: Any, change: Callable[[bytes], bytes]) -> None:
        self.source, self.change, self.rest, self.ready = stream, change, b"", memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the lines of a block go."""
        while not self.ready:
            block = self.source.read(4 << 20)
            whole = self.rest + block
            end = len(whole) if not block else max(whole.rfind(b"\n"), whole.rfind(b"\r", 0, -1)) + 1
            self.rest = whole[end:]
            if not whole:
                return 0
            if len(self.rest) > LONGEST:
                raise OSError(f"a line is longer than {LONGEST:,} bytes")
            if end:
                self.ready = memoryview(self.change(whole[:end]))
        n = min(len(buffer), len(self.ready))
        buffer[:n] = self.ready[:n]
        self.ready = self.ready[n:]
        return n


def is_nameless(column: str) -> bool:
    """Tell if a column has no name of its own in the file.

    >>> is_nameless("(column 4)"), is_nameless("weight")
    (True, False)
    """
    return re.fullmatch(r"\(column [0-9]+\)", column) is not None


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
def opened(path: Path, text: bool = True) -> Iterator[Any]:
    """Open a binary stream of a file, decompressed by its suffix; damage becomes a ConnectomeError.

    ``text`` in UTF-16 with a byte order mark, such as Excel's "Unicode text", becomes UTF-8.
    """
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            mark = stream.read(2)
        with pa.input_stream(str(path), compression="detect") as stream:
            wide = text and mark in UTF16
            yield pa.transcoding_input_stream(stream, "utf-16", "utf-8") if wide else stream
    except UnicodeError as error:
        raise ConnectomeError(f"{path}: this is not UTF-16 text, as its first bytes say: {error}.") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        damaged = any(word in str(error) for word in ("runcated", "zlib", "inflate"))
        hint = " Download it again." if damaged else ""
        raise ConnectomeError(f"{path}: cannot be read: {error}.{hint}") from None


def first_lines(path: Path) -> list[str]:
    """Read the lines of a text's first 64 KiB, with their ends; a last line that is cut is left out."""
    with opened(path) as stream:
        head = stream.read(HEAD)
    if b"\0" in head:
        advice = "Save it as UTF-8, or give it the suffix of its format."
        raise ConnectomeError(f"{path}: this is not UTF-8 text (UTF-16 without a mark, or binary). {advice}")
    lines = lines_of(head.decode("utf-8-sig", errors="replace"))
    if len(head) == HEAD and len(lines) < 2:
        raise ConnectomeError(f"{path}: the first line is longer than {HEAD:,} bytes.")
    return lines[:-1] if len(head) == HEAD else lines


def lines_of(text: str) -> list[str]:
    """Split text into lines with their ends."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)


def cells_of(line: str, delimiter: str) -> list[str]:
    """Split one line into trimmed cells; blanks delimit as a run.

    >>> cells_of(' "a b"  c\\t1 ', " ")
    ['a b', 'c', '1']
    """
    if delimiter == " ":
        line = re.sub(r'("(?:[^"]|"")*")|[ \t]+', lambda found: found[1] or " ", line).strip()
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a cell that is too long, or a null byte
        return []


def likely_delimiter(lines: Sequence[str]) -> str:
    """Find which of comma, tab, semicolon, bar and blank splits most lines into most cells alike."""
    found: dict[str, float] = {}
    some = [line for line in lines if line.strip()][:50]
    some = some[: max(5, HEAD // max(map(len, some), default=1))]
    for delimiter in DELIMITERS:
        widths = Counter(len(cells_of(line, delimiter)) for line in some)
        found[delimiter] = max(((width - 1) * count for width, count in widths.items()), default=0)
    blank = found.pop(" ")
    best = max(found, key=lambda delimiter: found[delimiter])
    if best == "\t" and blank > found[best] > 0:  # blanks and tabs mixed, between numbers
        cells = [cell for line in some[-20:] for cell in cells_of(line, " ")]
        return " " if all(map(is_number, cells)) else best
    return best if found[best] or not blank else " "


@dataclass(frozen=True)
class Preamble:
    """The lines above a table: how many there are, comments among them, and what they say."""

    first: int  # lines before the first that is not a comment
    comment: str  # "": there is none
    comments: tuple[str, ...]  # without their signs
    delimiter: str | None  # by Excel's line "sep=;"


def preamble(lines: Sequence[str], comment: str | None) -> Preamble:
    """Look at blank lines, comments (`COMMENTS` if ``comment`` is None) and a line "sep=" above a table."""
    sign, delimiter, comments = comment or "", None, []
    k = 0
    for k, line in enumerate(lines):
        text = line.strip()
        if k == 0 and (said := re.fullmatch(r'"?sep=(.|\\t)"?', line.strip("\r\n"))):
            delimiter = said[1].replace("\\t", "\t")
            continue
        if not sign and comment is None:
            sign = next((s for s in COMMENTS if text.startswith(s)), "")
        if sign and text.startswith(sign):
            comments.append(text[len(sign) :].strip())
        elif text:
            break
    else:
        k = len(lines)
    return Preamble(k, sign, tuple(comments), delimiter)


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The arguments of an importer that say how a text file is laid out; None: found in the file."""

    delimiter: str | None = None
    columns: Sequence[str] | None = None  # names of a file without a header line
    comment: str | None = None  # "": no line is a comment
    decimal: str | None = None


def sniff(
    path: Path,
    options: TextOptions,
    named: Named = lambda cells: False, unnamed: Unnamed = lambda rows, comments: None,
) -> Dialect:
    """Find delimiter, comments, header and columns from the first lines.

    ``named`` says whether cells are a header that the caller understands; ``unnamed`` names the columns of
    rows without a header, below some comments, or returns None if it cannot.
    """
    lines = first_lines(path)
    above = preamble(lines, options.comment)
    if above.first == len(lines):
        raise ConnectomeError(f"{path}: the file is empty{' but for comments' if above.comments else ''}.")
    sign = above.comment
    body = [line for line in lines[above.first :] if not (sign and line.strip().startswith(sign))]
    if body and re.fullmatch(r"\S+ \S+ \{.*\}\s*", body[0]):
        how = "from_networkx(networkx.read_edgelist(path, create_using=networkx.DiGraph))"
        raise ConnectomeError(f"{path}: an edge list of networkx with attributes; read it with {how}.")
    delimiter = options.delimiter or above.delimiter or likely_delimiter(body)
    if options.delimiter == "" or len(delimiter.encode()) != 1 or delimiter in '"\r\n\0':
        problem = f"the delimiter is {options.delimiter!r}; it must be one character, such as ',' or '\\t'."
        raise ConnectomeError(f"{path}: {problem}")
    runs = delimiter == " " and any(re.search(r"^[ \t]|  |\t|[ \t]\r?\n?$", line) for line in body)
    dialect = Dialect(
        (), delimiter, 0, comment=above.comment, stated=options.comment is not None, runs=runs,
        decimal=options.decimal or "",
    )  # fmt: skip
    text = dialect.plain("".join(lines[above.first :]).encode(), path).decode(errors="replace")
    found = itertools.islice(parsed(lines_of(text), delimiter, path), SAMPLE + 50)
    rows = [(k + above.first, [cell.strip() for cell in cells]) for k, cells in found]
    while rows and not any(rows[0][1]):
        rows.pop(0)
    if not rows:
        raise ConnectomeError(f"{path}: the file is empty.")
    names, skip, notes, header = _columns(path, lines, rows, above, dialect, options, named, unnamed)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConnectomeError(f"{path}, line {skip}: column {repeated[0]!r} is there twice; rename one.")
    is_empty = not any(line > skip for line, _ in rows)
    if above.comments:
        said = " | ".join(above.comments)
        notes = (f"lines that start with {above.comment!r} were left out: {said!r:.120}", *notes)
    return replace(
        dialect, columns=tuple(names), skip=skip, is_empty=is_empty, header=header, comments=above.comments,
        notes=notes,
    )  # fmt: skip


Found = tuple[list[str], int, tuple[str, ...], bool]
Named = Callable[[Sequence[str]], bool]
Unnamed = Callable[[Sequence[Sequence[str]], Sequence[str]], Sequence[str] | None]


def _columns(
    path: Path, lines: Sequence[str], rows: list[tuple[int, list[str]]], above: Preamble, dialect: Dialect,
    options: TextOptions, named: Named, unnamed: Unnamed,
) -> Found:
    """Find the columns' names, the lines above the first row, notes, and if there is a header."""
    first_line, first = rows[0]
    widths = Counter(len(cells) for _, cells in rows[1 : SAMPLE + 1]) or Counter([len(first)])
    width = max(widths, key=lambda n: (widths[n], n))
    where = f"{path}, line {first_line - _lines_of_row(first) + 1}"
    if options.columns is not None:
        names = list(options.columns)
        kept = _without_blank_ends([cells for _, cells in rows])
        if len(kept[0]) != len(names) and len(first) != len(names):
            problem = f"{len(kept[0])} columns, but {len(names)} names are given (columns=)."
            raise ConnectomeError(f"{where}: {problem}")
        names += [f"(column {k})" for k in range(len(names) + 1, len(first) + 1)]
        return names, first_line - _lines_of_row(first), (), False
    _refuse_open_quote(lines[above.first :], dialect.delimiter, where)
    at = next((k for k, (_, cells) in enumerate(rows[:50]) if named(cells)), None)
    numbers = [_are_numbers(cells) for _, cells in rows[at or 0 :]]
    if at is not None and len(numbers) > 1 and all(numbers) and not _counted(rows[at][1]):
        raise _no_header(where, first)
    if at is None:
        commented = cells_of(above.comments[-1], dialect.delimiter) if above.comments else []
        if commented and len(commented) == len(first) and named(commented):
            return _named(commented), first_line - _lines_of_row(first), (), True
        at = _header_row(rows, width, where, dialect.delimiter)
    if at is None:
        return _headerless(where, rows, above.comments, unnamed)
    line, header = rows[at]
    notes: tuple[str, ...] = ()
    if at:
        titles = " | ".join(filter(None, (" ".join(filter(None, cells)) for _, cells in rows[:at])))
        notes = (f"the lines above the header were left out: {titles!r:.120}",)
    below = [cells for _, cells in rows[at + 1 :]]
    names = _named(header)
    if below and all(len(cells) == len(header) + 1 for cells in below):
        if not any(cells[-1] for cells in below):
            names.append(f"(column {len(names) + 1})")
        elif _are_row_names(below, lines, dialect.delimiter):
            names = ["(row names)", *names]
        else:
            problem = f"the header has {len(header)} columns, but the rows have {len(header) + 1}"
            advice = "name every column in the header, or give columns= for a file without one"
            raise ConnectomeError(f"{path}, line {line}: {problem}; {advice}.")
    other = max((d for d in DELIMITERS if d != dialect.delimiter), key=lines[line - 1].count)
    if len(names) == 1 and other in lines[line - 1].strip() and options.delimiter is not None:
        chosen = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
        raise ConnectomeError(
            f"{path}, line {line}: with {chosen} as delimiter there is one column, {names[0]!r}. "
            f"The delimiter looks like a {DELIMITERS[other]}; give delimiter={other!r}."
        )
    return names, line, notes, True


def _lines_of_row(cells: Sequence[str]) -> int:
    return 1 + sum(len(split_lines(cell)) - 1 for cell in cells)


def _named(cells: Sequence[str]) -> list[str]:
    return [cell or f"(column {k})" for k, cell in enumerate(cells, start=1)]


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(map(is_number, filter(None, cells))) and any(cells)


def _counted(cells: Sequence[str]) -> bool:
    """Tell if cells are 0, 1, 2, ..., as pandas names columns."""
    numbered = [str(k) for k in range(len(cells))]
    return list(cells) == numbered or (not cells[0] and list(cells[1:]) == numbered[:-1])


def _without_blank_ends(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Cut trailing columns that are blank in all rows."""
    used = max((k for cells in rows for k, cell in enumerate(cells, start=1) if cell), default=0)
    return [cells[:used] for cells in rows]


def _header_row(
    rows: Sequence[tuple[int, list[str]]], width: int, where: str, delimiter: str
) -> int | None:
    """Find the row of the header if none has names that are known; None if there is no header."""
    for k, (_, cells) in enumerate(rows[:50]):
        filled = [cell for cell in cells if cell]
        nameless = len(cells) == width and not cells[0] and all(cells[1:])  # pandas' names of rows
        few = len(filled) < min(2, width) and not nameless
        if len(rows) > k + 1 and few and not any(map(is_number, filled)):
            continue  # a title
        if _counted(cells) and len(rows) > 1 and len(cells) > 1:
            if not cells[0]:
                return k
            if len(cells) > 2 or delimiter == ",":
                pandas = "the names that pandas gives to columns, which source= and target= take"
                raise _no_header(where, cells, f" (or like {pandas})")
        return None if any(map(is_number, filled)) else k
    return 0


def _no_header(where: str, cells: Sequence[str], also: str = "") -> ConnectomeError:
    names = ["row"] if len(cells) > 3 and cells[0] in ("0", "1") else []
    names += ["source", "target", "weight", "time", "other"][: len(cells) - len(names)]
    such = f"columns={names}" if len(names) == len(cells) else f"columns=[{', '.join(map(repr, names))}, ...]"
    return ConnectomeError(
        f"{where}: the first line, {', '.join(cells)!r:.60}, looks like a row{also}, not like a header. If "
        f"it is one, name all {len(cells)} columns in the order of the file with columns= (on the command "
        f"line --columns), with 'source', 'target' and 'weight' where these are: {such}, say."
    )


def _headerless(
    where: str, rows: Sequence[tuple[int, list[str]]], comments: Sequence[str], unnamed: Unnamed
) -> Found:
    """Name the columns of rows without a header, if the caller knows them."""
    names = unnamed(_without_blank_ends([cells for _, cells in rows]), comments)
    if names is None:
        raise _no_header(where, rows[0][1])
    columns = [*names, *(f"(column {k})" for k in range(len(names) + 1, len(rows[0][1]) + 1))]
    note = f"there is no header: the columns were taken as {', '.join(names)}"
    return columns, rows[0][0] - _lines_of_row(rows[0][1]), (note,), False


def _are_row_names(rows: Sequence[Sequence[str]], lines: Sequence[str], delimiter: str) -> bool:
    """Tell if first cells are names of rows, for which the header has no name: 1, 2, ..., or quoted (of R).

    The header of pandas begins with a blank if blanks delimit; it counts from 0.
    """
    firsts = [cells[0] for cells in rows]
    start = 0 if delimiter == " " and lines[-len(rows) - 1].startswith(" ") else 1
    if firsts == [str(k + start) for k in range(len(firsts))]:
        return True
    quoted = all(line.lstrip().startswith('"') for line in lines[-len(rows) :])
    return quoted and len(set(firsts)) == len(firsts)


def _refuse_open_quote(lines: Sequence[str], delimiter: str, where: str) -> None:
    """Refuse a header with a quote that no other closes: it would swallow the rows."""
    try:
        next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise ConnectomeError(f"{where}: a quote in the header is not closed.") from None


def decimal_sign(cells: Sequence[str], where: str) -> str:
    """Find the decimal sign of numbers in a file whose delimiter is not a comma.

    >>> decimal_sign(["1,5", "12"], "edges.csv"), decimal_sign(["1.5"], "edges.csv")
    (',', '.')
    """
    commas = [cell for cell in cells if "," in cell]
    number = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?|[+-]?\d+(,\d{3})+(\.\d*)?")
    if not all(map(number.fullmatch, commas)):
        return "."  # some are no numbers either way, which an error then says
    if not commas:
        return "."
    thousands = all(re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", cell) for cell in commas)
    if thousands or any("." in cell for cell in cells):
        problem = f"{commas[0]!r:.40} may have a decimal comma or a thousands separator"
        raise ConnectomeError(f"{where}: {problem}. Give decimal=',' or write numbers without separators.")
    return ","


def explain(path: Path, dialect: Dialect, kinds: Mapping[str, str], reason: str) -> NoReturn:
    """Refuse a file with line and column of what pyarrow stumbled over, in columns of "number" or others."""
    index = {column: dialect.columns.index(column) for column in kinds}
    for line, cells in dialect.rows(path):
        if len(cells) != len(dialect.columns):
            header = "the header has" if dialect.header else "the first line has"
            problem = f"{len(cells)} columns, but {header} {len(dialect.columns)}: {cells!r:.80}."
            sign = next((s for s in COMMENTS if cells[0].strip().startswith(s)), None)
            advice = "" if sign is None else f" If it is a comment, give comment={sign!r}."
            raise ConnectomeError(f"{path.name}, line {line}: {problem}{advice}")
        for column, k in index.items():
            value, where = cells[k].strip(), f"{path.name}, line {line}, column {column!r}"
            plain = value.replace(",", ".") if dialect.decimal == "," else value
            if kinds[column] == "number" and value and not is_number(plain):
                advice = " Write it without thousands separators; a decimal comma needs decimal=','."
                advice = advice if "," in value else ""
                raise ConnectomeError(f"{where}: {value!r:.80} is not a number.{advice}")
            if "\ufffd" in value:
                raise ConnectomeError(f"{where}: {value!r:.80} is not UTF-8 text.")
    raise ConnectomeError(f"{path}: {reason}")


def is_number(text: str) -> bool:
    """Tell if text is a decimal number as other software reads one, too (Python's float also takes 1_0).

    >>> [is_number(text) for text in ("-1.5e3", "nan", "1_0", "")]
    [True, True, False, False]
    """
    return NUMBER.fullmatch(text) is not None
