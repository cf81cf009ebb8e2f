"""Tables of text, Parquet, Feather or memory: looked at once for their columns, some of which are read."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from sparse_mrnn.connectome.column_names import plain_name
from sparse_mrnn.connectome.column_table import ColumnTable, arrow, listed
from sparse_mrnn.connectome.delimited_text import (
    SAMPLE,
    Dialect,
    Named,
    TextOptions,
    Unnamed,
    decimal_sign,
    explain,
    is_nameless,
    is_number,
    sniff,
)  # fmt: skip
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.files.atomic import reason

OTHER_FORMATS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "Save it as CSV UTF-8, or give pandas.read_excel(path)."),
    **dict.fromkeys((".json", ".jsonl"), "Give the DataFrame that pandas.read_json makes of it."),
    **dict.fromkeys((".zip", ".xz", ".7z", ".tar"), "Unpack it, or pack it as .gz, .bz2 or .zst."),
    **dict.fromkeys((".pkl", ".pickle", ".rds", ".rdata"), "Write it as CSV or Parquet with what made it."),
    **dict.fromkeys((".h5", ".hdf5"), "For SONATA, use read_sonata; else give the DataFrame in it."),
    **dict.fromkeys((".npz", ".npy", ".mtx", ".mat"), "For a matrix, use read_matrix."),
    ".graphml": "Use read_graphml.", ".xml": "For GraphML, use read_graphml.",
    ".gml": "Use from_networkx(networkx.read_gml(path)).",
    ".gexf": "Use from_networkx(networkx.read_gexf(path)).",
    ".net": "For Pajek, use from_networkx(networkx.read_pajek(path)).",
    ".adjlist": "Use from_networkx(networkx.read_adjlist(path, create_using=networkx.DiGraph)).",
    **dict.fromkeys((".tgf", ".lgl", ".dot", ".sif", ".gdf"), "Export it as GraphML and use read_graphml."),
}  # fmt: skip
"""Advice for files of other formats, by suffix."""
GROWTH, SPARED = 300, 64 << 20
"""A file may grow this many times in memory, and always to this many bytes; more is a decompression bomb."""
BINARY = (".parquet", ".feather", ".arrow")
ROOM, OF_TEXT = 64 << 20, 56
"""Bytes that columns no option names may take in memory, and those of a text of Python beside its letters."""
CHUNK = 4 << 20
"""Rows of a Parquet or Feather file whose ids are encoded at a time."""


@dataclass(frozen=True, eq=False)
class TableSource:
    """A table whose columns are known and whose rows are not read yet."""

    source: Any  # path, DataFrame, mapping of columns or pyarrow.Table
    name: str  # in errors: the file's, or the caller's for a table in memory
    columns: tuple[str, ...]
    dialect: Dialect | None = None  # of a text file

    @classmethod
    def of(
        cls, source: Any, name: str, text: TextOptions | None = None, named: Named = lambda cells: False,
        unnamed: Unnamed = lambda rows, comments: None,
    ) -> TableSource:
        """Look at a table: .parquet, .feather and .arrow by suffix; else text, compressed or not.

        ``text``, ``named`` and ``unnamed`` are as in `sniff`.
        """
        text = text or TextOptions()
        if isinstance(source, (str, os.PathLike)):
            path = _existing(Path(source))
            if path.suffix in BINARY:
                return cls(path, path.name, _binary_columns(path))
            if (how := OTHER_FORMATS.get(path.suffix.lower())) is not None:
                raise ConnectomeError(f"{path} is not a table of text, Parquet or Feather. {how}")
            dialect = sniff(path, text, named, unnamed)
            return cls(path, path.name, dialect.columns, dialect)
        if sp.issparse(source):
            raise ConnectomeError(f"{name}: a sparse matrix is not a table; see read_matrix.")
        if isinstance(source, np.ndarray) and source.ndim == 2 and source.dtype.names is None:
            names = text.columns or unnamed(source[:SAMPLE].astype(str).tolist(), ())
            if names is None or len(names) != source.shape[1]:
                problem = f"an array of shape {source.shape} has no names of columns"
                raise ConnectomeError(f"{name}: {problem}; give columns=['source', 'target', 'weight'], say.")
            source = {column: source[:, k] for k, column in enumerate(names)}
        elif isinstance(source, np.ndarray) and source.dtype.names is not None:
            source = {column: source[column] for column in source.dtype.names}
        if is_pandas(source):
            source = _with_index(source)
        if is_dataframe(source):  # it may have columns that arrow cannot hold
            return cls(source, name, tuple(str(column) for column in source.columns))
        if isinstance(source, Mapping):
            return cls(source, name, tuple(source))
        table = _from_memory(source, name)
        return cls(table, name, tuple(table.column_names))

    @property
    def label(self) -> str:
        """Name of the whole table in errors: its path, or the name that the caller gave."""
        return str(self.source) if isinstance(self.source, Path) else f"the table of {self.name}"

    def pick(self, wanted: str | None, usual: Iterable[str], argument: str) -> str | None:
        """Return the column ``wanted``, or the first of the ``usual`` names found in any case, or None."""
        if wanted is not None:
            if wanted not in self.columns:
                problem = f"column {wanted!r} ({argument}=) is missing. {listed(wanted, self.columns)}"
                raise ConnectomeError(f"{self.label}: {problem}")
            return wanted
        plain = {plain_name(column): column for column in reversed(self.columns)}
        return next((plain[plain_name(name)] for name in usual if plain_name(name) in plain), None)

    def recognised(self, wanted: str | None, usual: Sequence[str], argument: str, what: str) -> str:
        """Return the column that an argument names or that has a usual name; refuse a table without it."""
        column = self.pick(wanted, usual, argument)
        if column is None:
            problem = f"no column looks like {what}; name it with {argument}=."
            row = " If that is a row and not a header, name the columns with columns=."
            columns = f"The columns are {self._names()}.{row if self.dialect else ''}"
            raise ConnectomeError(f"{self.label}: {problem} {columns}")
        return column

    def has_numbers(self, column: str) -> bool:
        """Tell if a column has numbers, by its type or its first rows."""
        if self.dialect is not None:
            k, rows = self.columns.index(column), itertools.islice(self.dialect.rows(self.source), SAMPLE)
            cells = [cells[k].strip() for _, cells in rows if len(cells) > k]
            return any(cells) and all(map(is_number, filter(None, cells)))
        if isinstance(self.source, Path):
            kind = _empty(self.source, [column]).schema.field(0).type
        else:
            kind = _from_memory(self.source, self.name, [column]).schema.field(0).type
        types = arrow().types
        return bool(types.is_integer(kind) or types.is_floating(kind))

    def require(self, *needed: str) -> None:
        """Refuse a table without a column that its format has."""
        for column in needed:
            if column not in self.columns:
                problem = f"column {column!r} is missing. The columns are {self._names()}."
                raise ConnectomeError(f"{self.label}: {problem}")

    def _names(self) -> str:
        return ", ".join(map(repr, self.columns))

    def read(
        self, *, ids: Iterable[str], text: Iterable[str] = (), numbers: Iterable[str] = (),
        others: Iterable[str] = (), room: int = 0,
    ) -> ColumnTable:
        """Read columns of ids and numbers, and those of the columns of text that the table has.

        Of ``others``, those that are numbers or text and together take at most ``room`` bytes are read, too.
        """
        found = dict.fromkeys((column for column in text if column in self.columns), "text")
        kinds = {**found, **dict.fromkeys(numbers, "number"), **dict.fromkeys(ids, "id")}
        for column in kinds:
            if self.columns.count(column) > 1:
                raise ConnectomeError(f"{self.name}: column {column!r} is there twice; rename one.")
        more = [c for c in others if c not in kinds and not is_nameless(c) and self.columns.count(c) == 1]
        return self._read(kinds, Others(self._plain(more), room))

    def _plain(self, columns: Sequence[str]) -> list[str]:
        """Select columns whose type is text or numbers."""
        if self.dialect is not None or not columns:
            return list(columns)
        if isinstance(self.source, Path):
            schema = _empty(self.source, list(columns)).schema
            return [field.name for field in schema if _is_plain(field.type)]
        plain = []
        for column in columns:
            with contextlib.suppress(ConnectomeError):  # objects, or a column of another length
                if _is_plain(_from_memory(self.source, self.name, [column]).schema.field(0).type):
                    plain.append(column)
        return plain

    def _read(self, kinds: Mapping[str, str], others: Others) -> ColumnTable:
        if not isinstance(self.source, Path):
            data = _from_memory(self.source, self.name, kinds)
            if others.parts:
                others.add(_from_memory(self.source, self.name, others.parts).combine_chunks())
            data = others.beside(data, self.columns)
            return ColumnTable(self.name, data, known=self.columns, notes=others.notes())
        path = self.source
        if self.dialect is None:
            data = others.beside(_guard(path, lambda: _read_binary(path, kinds, others)), self.columns)
            return ColumnTable(self.name, data, known=self.columns, notes=others.notes())
        dialect = self.dialect if self.dialect.decimal else _with_decimal(self.dialect, path, kinds)
        data = others.beside(_text_table(path, dialect, kinds, others), self.columns)
        notes = (*dialect.notes, *others.notes())
        table = ColumnTable(self.name, data, path, self.dialect, self.columns, notes=notes)
        columns = [table.data.column(column) for column in kinds]  # the others say nothing of a neuron
        if not all(column.null_count for column in columns):
            return table
        return table.only(~np.all([column.is_null().to_numpy() for column in columns], axis=0), "blank rows")


def _is_plain(kind: Any) -> bool:
    """Tell if a type is text or a number."""
    types = arrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    text = types.is_string(kind) or types.is_large_string(kind)
    return bool(text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _size(values: Any) -> int:
    """Estimate the bytes of a column of units: a number or a reference each, and the different texts."""
    if not arrow().types.is_dictionary(values.type):
        return 8 * len(values)
    return 8 * len(values) + int(values.dictionary.nbytes) + OF_TEXT * len(values.dictionary)


def _compact_other(values: Any) -> Any:
    """Encode text as a dictionary, or as numbers if they are many and are written back letter by letter."""
    pa = arrow()
    if not pa.types.is_dictionary(values.type):
        if _is_number_type(values.type) or pa.types.is_boolean(values.type):
            return values
        values = values.dictionary_encode()
    if 2 * len(values.dictionary) <= len(values):
        return values
    for kind in (pa.int64(), pa.float64()):
        with contextlib.suppress(pa.ArrowInvalid):
            text = values.dictionary.cast(pa.string()).take(values.indices)
            numbers = text.cast(kind)
            if pa.compute.all(pa.compute.equal(numbers.cast(pa.string()), text), min_count=0).as_py():
                return numbers
    return values


def _of_parts(parts: Sequence[Any]) -> Any:
    """Join the parts of a column, of numbers or text; None if its text is not UTF-8."""
    pa = arrow()
    label = pa.dictionary(pa.int32(), pa.string())
    kinds = {part.type for part in parts}
    if len(kinds) == 1 and not pa.types.is_dictionary(parts[0].type):
        return pa.chunked_array(parts)
    try:
        texts = [
            pa.DictionaryArray.from_arrays(part.indices.cast(pa.int32()), part.dictionary.cast(pa.string()))
            if pa.types.is_dictionary(part.type) else part.cast(pa.string()).dictionary_encode()
            for part in parts
        ]  # fmt: skip
    except pa.ArrowInvalid:
        return None
    return pa.chunked_array(texts, label).unify_dictionaries()


def _is_number_type(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind))


class Others:
    """The parts read so far of columns that no option names: as many as fit into ``room`` bytes."""

    def __init__(self, columns: Sequence[str], room: int) -> None:
        self.wanted, self.room = tuple(columns), room
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.parts: dict[str, list[Any]] = {column: [] for column in self.wanted}
        self.sizes = dict.fromkeys(self.wanted, 0)

    def add(self, batch: Any) -> None:
        """Take a batch's part of every column; let the largest go until the others fit."""
        for column, parts in self.parts.items():
            values = batch.column(column)
            for part in values.chunks if isinstance(values, arrow().ChunkedArray) else [values]:
                parts.append(_compact_other(part))
                self.sizes[column] += _size(parts[-1])
        for column in _excess(self.sizes, self.room):
            del self.parts[column], self.sizes[column]

    def notes(self) -> tuple[str, ...]:
        """Say which columns did not fit."""
        large = [column for column in self.wanted if column not in self.parts]
        if not large:
            return ()
        names = ", ".join(map(repr, large[:5])) + (f" and {len(large) - 5:,} more" if len(large) > 5 else "")
        why = f"the columns of neurons take more than {ROOM >> 20} MB; without {names}, which keep= can name"
        return (why,)

    def beside(self, data: Any, order: Sequence[str]) -> Any:
        """Add the columns to a table, all in this order."""
        pa = arrow()
        for column, parts in self.parts.items():
            parts = parts or [pa.array([], pa.string())]
            values = _of_parts(parts)
            if values is not None:
                data = data.append_column(column, values)
        there = set(data.column_names)
        return data.select([column for column in order if column in there]) if self.wanted else data


def _excess(sizes: Mapping[str, int], room: int) -> set[str]:
    """Choose the largest columns, of which the others take at most ``room``."""
    total, last = sum(sizes.values()), list(sizes)[::-1]
    out: set[str] = set()
    for column in sorted(last, key=lambda column: -sizes[column]):
        if total <= room:
            break
        out.add(column)
        total -= sizes[column]
    return out


def _with_decimal(dialect: Dialect, path: Path, kinds: Mapping[str, str]) -> Dialect:
    """Find the decimal sign of the columns of numbers, in their first rows."""
    index = [dialect.columns.index(column) for column, kind in kinds.items() if kind == "number"]
    if dialect.delimiter == "," or not index:
        return dialect
    sample = itertools.islice(dialect.rows(path), SAMPLE)
    cells = [cells[k].strip() for _, cells in sample for k in index if k < len(cells)]
    return replace(dialect, decimal=decimal_sign(cells, path.name))


def _text_table(path: Path, dialect: Dialect, kinds: Mapping[str, str], others: Others) -> Any:
    """Read columns of a text file, in up to three ways, of which the first is nearly always right."""
    pa = arrow()
    try:
        try:
            return _read_text(path, dialect, kinds, others)
        except pa.ArrowInvalid:  # perhaps a line break in quotes where a block of the file ends
            return _read_text(path, dialect, kinds, others, line_breaks=True)
    except pa.ArrowException as error:
        columns = [*kinds, *others.wanted]
        rewritten = _rewritten(path, dialect, kinds, columns)
        if rewritten is None:
            explain(path, dialect, kinds, str(error))
    try:
        plain = replace(dialect, columns=tuple(columns), delimiter=",", skip=0)
        return _read_text(path, plain, kinds, others, line_breaks=True, stream=rewritten)
    except pa.ArrowException as error:
        explain(path, dialect, kinds, str(error))


def _rewritten(path: Path, dialect: Dialect, kinds: Mapping[str, str], columns: Sequence[str]) -> Any:
    """Write rows that lack nameless columns, or have surplus blank ones, as text without them; else None."""
    index, n = [dialect.columns.index(column) for column in columns], len(dialect.columns)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for _, cells in dialect.rows(path):
        if len(cells) != n or any("\ufffd" in cells[k] for k in index[: len(kinds)]):
            return None
        writer.writerow([cells[k] for k in index])
    return arrow().BufferReader(text.getvalue().encode())


def _binary_columns(path: Path) -> tuple[str, ...]:
    pa = arrow()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return tuple(_guard(path, lambda: pyarrow.parquet.read_schema(path).names))
    return tuple(_guard(path, lambda: pa.ipc.open_file(pa.memory_map(str(path))).schema.names))


def _read_binary(path: Path, kinds: Mapping[str, str], others: Others) -> Any:
    """Read columns of a Parquet or Feather file by record batches; ids and labels become dictionaries.

    Offsets are checked before compiled code trusts them.
    """
    pa = arrow()
    chunks: list[Any] = []
    waiting: list[Any] = []
    total = 0

    def encode() -> None:
        columns = {}
        for column, kind in kinds.items():
            values = pa.chunked_array([batch.column(column) for batch in waiting]).combine_chunks()
            plain = not (pa.types.is_dictionary(values.type) or pa.types.is_nested(values.type))
            columns[column] = values.dictionary_encode() if plain and kind != "number" else values
        chunks.append(pa.table(columns))
        waiting.clear()
        pa.default_memory_pool().release_unused()

    for batch in _batches(path, [*kinds, *others.wanted]):
        batch.validate(full=True)  # before its size is asked for, which reads offsets
        total += batch.nbytes
        _refuse_growth(path, total)
        others.add(batch)
        waiting.append(batch.select(list(kinds)))
        if sum(batch.num_rows for batch in waiting) >= CHUNK:
            encode()
    if waiting or not chunks:
        waiting = waiting or [_empty(path, list(kinds))]
        encode()
    return pa.concat_tables(chunks).unify_dictionaries()


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    """Yield the record batches of some columns."""
    pa = arrow()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(path)
        _refuse_growth(path, file.metadata.num_rows * 8 * len(columns))
        yield from file.iter_batches(batch_size=1 << 18, columns=columns, use_threads=False)
        return
    with pa.OSFile(str(path)) as stream:  # a memory map would count as memory of the process
        schema = pa.ipc.open_file(stream).schema
        fields = sorted(schema.get_field_index(column) for column in columns)
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        file = pa.ipc.open_file(stream, options=options)
        for k in range(file.num_record_batches):
            yield file.get_batch(k)


def _empty(path: Path, columns: list[str]) -> Any:
    """Make a record batch without rows, with the types of a file that has none."""
    pa = arrow()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(path)
    else:
        schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
    fields = [schema.field(column) for column in columns]
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in fields], schema=pa.schema(fields))


def _refuse_growth(path: Path, in_memory: int) -> None:
    size = path.stat().st_size
    if in_memory > max(SPARED, GROWTH * size):
        problem = f"{size:,} bytes hold {in_memory:,} or more"
        raise ConnectomeError(f"{path}: {problem}; this looks like a decompression bomb.")


def _read_text(
    path: Path, dialect: Dialect, kinds: Mapping[str, str], others: Others, line_breaks: bool = False,
    stream: Any = None,
) -> Any:
    """Read columns of a text file, or of a stream of its rows, block by block."""
    pa = arrow()
    label = pa.dictionary(pa.int32(), pa.string())
    arrow_types = {"number": pa.float64(), "text": label, "id": pa.string()}
    types = {column: arrow_types[kind] for column, kind in kinds.items()}
    more = dict.fromkeys(others.wanted, pa.dictionary(pa.int32(), pa.binary()))
    others.clear()
    if dialect.is_empty:
        return pa.table({column: pa.array([], kind) for column, kind in types.items()})
    options = (
        pa.csv.ReadOptions(column_names=list(dialect.columns), skip_rows=dialect.skip, block_size=8 << 20),
        pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=line_breaks),
        pa.csv.ConvertOptions(
            column_types=types | more, include_columns=[*types, *more], strings_can_be_null=True,
            null_values=[""], decimal_point=dialect.decimal or ".",
        ),
    )
    total = 0
    chunks: dict[str, list[Any]] = {column: [] for column in kinds}
    with dialect.stream(path) if stream is None else contextlib.nullcontext(stream) as rows:
        for batch in pa.csv.open_csv(rows, *options):
            total += batch.nbytes
            _refuse_growth(path, total)
            others.add(batch)
            for column, kind in kinds.items():
                values = batch.column(column)
                chunks[column].append(_compact(values) if kind == "id" else values)
    for column, kind in kinds.items():
        if kind == "id" and len({chunk.type for chunk in chunks[column]}) > 1:
            chunks[column] = [chunk.cast(pa.string()).dictionary_encode() for chunk in chunks[column]]
    table = pa.table({column: pa.chunked_array(parts) for column, parts in chunks.items()})
    return table.unify_dictionaries()


def _compact(ids: Any) -> Any:
    """Text as integers if each is plainly one: positive, without a leading zero; else as a dictionary."""
    pa = arrow()
    try:
        integers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return ids.dictionary_encode()
    least = pa.compute.min(integers).as_py()
    plain = least is not None and least > 0 and not pa.compute.any(pa.compute.starts_with(ids, "0")).as_py()
    return integers if plain else ids.dictionary_encode()


def is_pandas(source: Any) -> bool:
    """Tell if a source is a data frame of pandas, which has an index."""
    return hasattr(source, "to_records")


def is_dataframe(source: Any) -> bool:
    """Tell if a source is a data frame of any library."""
    return hasattr(source, "columns") and hasattr(source, "to_numpy")


def _with_index(frame: Any) -> Any:
    """Make columns of the levels of a data frame's index that have names of their own."""
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=named) if named else frame


def _existing(path: Path) -> Path:
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:  # such as the text of a table in place of its path
        raise ConnectomeError(f"{str(path)[:80]!r} is not a table's path: {reason(error)}.") from None
    if not there:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        what = "is a folder" if path.is_dir() else "does not exist"
        hint = suggest(path.name, beside, what="files there")
        raise ConnectomeError(f"{path} {what}; a table's file is needed. {hint}")
    if path.stat().st_size == 0:
        raise ConnectomeError(f"{path}: the file is empty.")
    return path


def _from_memory(source: Any, name: str, wanted: Collection[str] | None = None) -> Any:
    """Convert a table in memory to Arrow, all of it or the columns wanted."""
    pa = arrow()
    try:
        if is_dataframe(source) and wanted is not None:
            source = source[[column for column in source.columns if str(column) in wanted]]
        elif isinstance(source, Mapping):
            source = {c: values for c, values in source.items() if wanted is None or c in wanted}
        if is_pandas(source):  # an index without a name is not a column
            data = pa.Table.from_pandas(source, preserve_index=False)
        else:
            data = source if isinstance(source, pa.Table) else pa.table(source)
    except (TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException) as error:
        problem = f"a {type(source).__name__} cannot be read as a table: {error}."
        advice = "Give a path, a DataFrame or a pyarrow table with columns of one type and length."
        raise ConnectomeError(f"{name}: {problem} {advice}") from None
    return data if wanted is None else data.select([c for c in data.column_names if c in wanted])


def _guard(path: Path, action: Any) -> Any:
    pa = arrow()
    try:
        return action()
    except ConnectomeError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise ConnectomeError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from None
