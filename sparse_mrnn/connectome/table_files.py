"""Reading tables: text, Parquet, Feather and DataFrames become one kind of column table."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_mrnn.connectome.column_table import ColumnTable, arrow, listed
from sparse_mrnn.connectome.delimited_text import Dialect, explain, opened, sniff
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.files.atomic import reason

GROWTH, SPARED = 300, 64 << 20
"""A file may grow this many times in memory, and always to this many bytes; more is a decompression bomb."""


BINARY = (".parquet", ".feather", ".arrow")


def pick(
    columns: Sequence[str], label: str, wanted: str | None, usual: Iterable[str], argument: str
) -> str | None:
    """The column ``wanted``, or the first of the ``usual`` names that is there in any case, or None."""
    if wanted is not None:
        if wanted not in columns:
            problem = f"there is no column {wanted!r} ({argument}=). {listed(wanted, columns)}"
            raise ConnectomeError(f"{label}: {problem}")
        return wanted
    lower = {column.strip().lower(): column for column in reversed(columns)}
    return next((lower[name] for name in usual if name in lower), None)


def require(columns: Sequence[str], label: str, *needed: str) -> None:
    """Refuse a table without a column that its format has."""
    for column in needed:
        if column not in columns:
            names = ", ".join(map(repr, columns))
            raise ConnectomeError(f"{label}: there is no column {column!r}. The columns are {names}.")


def header(source: Any, delimiter: str | None = None, columns: Sequence[str] | None = None) -> list[str]:
    """Names of a table's columns, without reading the rest of it."""
    if not isinstance(source, (str, os.PathLike)):
        if isinstance(source, Mapping):
            return list(source)
        if _is_dataframe(source):  # it may have columns that arrow cannot hold
            return [str(column) for column in source.columns]
        return list(_from_memory(source, "table").column_names)
    path = _existing(Path(source))
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return list(_guard(path, lambda: pyarrow.parquet.read_schema(path).names))
    if path.suffix in BINARY:
        return list(_guard(path, lambda: arrow().ipc.open_file(arrow().memory_map(str(path))).schema.names))
    return list(sniff(path, delimiter, columns).columns)


def read(
    source: Any,
    *,
    ids: Iterable[str],
    text: Iterable[str] = (),
    numbers: Iterable[str] = (),
    name: str = "table",
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
) -> ColumnTable:
    """Read columns of ids, text and numbers of a path, DataFrame, mapping of lists or pyarrow.Table.

    .parquet, .feather and .arrow by their suffix; anything else is text, compressed or not (.gz, .bz2, .zst).
    Errors call a table that is no file ``name``; ``delimiter`` and ``columns`` are as in `sniff`.
    """
    pa = arrow()
    kinds = {**dict.fromkeys(text, "text"), **dict.fromkeys(numbers, "number"), **dict.fromkeys(ids, "id")}
    known = tuple(header(source, delimiter, columns))
    for column in kinds:
        if known.count(column) > 1:
            raise ConnectomeError(f"{name}: column {column!r} is there twice; rename one.")
    if not isinstance(source, (str, os.PathLike)):
        return ColumnTable(name, _from_memory(source, name, kinds), known=known)
    path = Path(source)
    if path.suffix in BINARY:
        return ColumnTable(path.name, _guard(path, lambda: _read_binary(path, list(kinds))), known=known)
    dialect = sniff(path, delimiter, columns)
    try:
        try:
            data = _read_text(path, dialect, kinds)
        except pa.ArrowInvalid:  # perhaps a line break in quotes where a block of the file ends
            data = _read_text(path, dialect, kinds, line_breaks=True)
    except pa.ArrowException as error:
        explain(path, dialect, kinds, str(error))
    return ColumnTable(path.name, data, path, dialect, known)


def _read_binary(path: Path, columns: list[str]) -> Any:
    """Columns of a Parquet or Feather file, checked before compiled code trusts their offsets and indices."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(path)
        _refuse_growth(path, file.metadata.num_rows * 8 * len(columns))
        data = file.read(columns=columns)
    else:
        import pyarrow.feather

        data = pyarrow.feather.read_table(path, columns=columns)
    data.validate(full=True)  # before its size is asked for, which reads offsets
    _refuse_growth(path, data.nbytes)
    return data


def _refuse_growth(path: Path, in_memory: int) -> None:
    size = path.stat().st_size
    if in_memory > max(SPARED, GROWTH * size):
        problem = f"{size:,} bytes hold {in_memory:,} or more"
        raise ConnectomeError(f"{path}: {problem}; this looks like a decompression bomb.")


def _read_text(path: Path, dialect: Dialect, kinds: Mapping[str, str], line_breaks: bool = False) -> Any:
    pa = arrow()
    label = pa.dictionary(pa.int32(), pa.string())
    arrow_types = {"number": pa.float64(), "text": label, "id": pa.string()}
    types = {column: arrow_types[kind] for column, kind in kinds.items()}
    if dialect.is_empty:
        return pa.table({column: pa.array([], kind) for column, kind in types.items()})
    options = (
        pa.csv.ReadOptions(column_names=list(dialect.columns), skip_rows=dialect.skip, block_size=8 << 20),
        pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=line_breaks),
        pa.csv.ConvertOptions(
            column_types=types, include_columns=list(types), strings_can_be_null=True, null_values=[""]
        ),
    )
    total = 0
    chunks: dict[str, list[Any]] = {column: [] for column in kinds}
    with opened(path) as stream:
        for batch in pa.csv.open_csv(stream, *options):
            total += batch.nbytes
            _refuse_growth(path, total)
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


def _is_dataframe(source: Any) -> bool:
    return hasattr(source, "columns") and hasattr(source, "to_numpy")


def _existing(path: Path) -> Path:
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:  # such as the text of a table in place of its path
        raise ConnectomeError(f"{str(path)[:80]!r} is no path of a table's file: {reason(error)}.") from None
    if not there:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        what = "is a folder" if path.is_dir() else "does not exist"
        hint = suggest(path.name, beside, what="files there")
        raise ConnectomeError(f"{path} {what}; a table's file is needed. {hint}")
    if path.stat().st_size == 0:
        raise ConnectomeError(f"{path}: the file is empty.")
    return path


def _from_memory(source: Any, name: str, wanted: Collection[str] | None = None) -> Any:
    """The columns of a table that is no file, or those wanted of them."""
    pa = arrow()
    try:
        if _is_dataframe(source) and wanted is not None:
            source = source[[column for column in source.columns if str(column) in wanted]]
        elif isinstance(source, Mapping):
            source = {c: values for c, values in source.items() if wanted is None or c in wanted}
        if hasattr(source, "to_records"):  # pandas; its index is no column
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
