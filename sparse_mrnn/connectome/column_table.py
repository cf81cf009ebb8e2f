"""Reading tables of neurons and edges: CSV, TSV, Parquet, Feather and DataFrames become one kind of column table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.delimited_text import Dialect, explain, float_id, opened, sniff
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, suggest

GROWTH, SPARED = 300, 2 << 30
"""A compressed text may become this many times larger, and always this many bytes; more is taken for a decompression bomb."""


def arrow() -> Any:
    """pyarrow, or an error that says how to install it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
    except ImportError:
        raise MissingExtraError("importing connectomes needs pyarrow; install it with: pip install 'sparse-mrnn[connectome]'") from None
    return pyarrow


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Columns and where they come from, so that an error can name file, line and column.

    Parameters
    ----------
    name : str
        The file, or what the caller calls the DataFrame.
    data : pyarrow.Table
    path : Path, optional
        Of a text file, to find the line of a row.
    dialect : Dialect, optional
        Of a text file.
    known : tuple of str
        Columns the source has, read or not; what an error lists.
    """

    name: str
    data: Any
    path: Path | None = None
    dialect: Dialect | None = None
    known: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.data.column_names)

    def location(self, row: int, column: str) -> str:
        """Where a value is: file, line (or row) and column."""
        if self.path is not None and self.dialect is not None:
            return f"{self.name}, line {self.dialect.line_of(self.path, row)}, column {column!r}"
        return f"{self.name}, row {row}, column {column!r}"

    def need(self, column: str) -> str:
        """The column's name as the table has it.

        Raises
        ------
        ConnectomeError
            If there is no such column; the message lists those there are.
        """
        if column in self.columns:
            return column
        raise ConnectomeError(f"{self.name}: there is no column {column!r}. {_listed(column, self.known or self.columns)}")

    def ids(self, column: str) -> Any:
        """Ids as a pyarrow array: int64, or text without surrounding blanks.

        Raises
        ------
        ConnectomeError
            If they are floating-point numbers, or one is missing.
        """
        pa = arrow()
        values = self.data.column(self.need(column)).combine_chunks()
        kind = values.type
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            raise ConnectomeError(
                f"{self.name}, column {column!r}: ids are floating-point numbers, which lose the last digits of 64-bit ids. Read the "
                f"table again with dtype={{{column!r}: 'int64'}} (pandas; 'Int64' where rows have no id), or as text."
            )
        if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = _trimmed(values)
            self._refuse_floats(values, column)
        elif pa.types.is_integer(kind):
            values = values.cast(pa.string() if kind == pa.uint64() else pa.int64())
        else:
            raise ConnectomeError(f"{self.name}, column {column!r}: ids are of type {kind}; they must be integers or text.")
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise ConnectomeError(f"{self.location(row, column)}: the id is missing ({values.null_count} are). Remove the row or fill it in.")
        return values

    def _refuse_floats(self, values: Any, column: str) -> None:
        """Text that is numbers throughout, one of them with a decimal point or exponent, was a float once."""
        compute = arrow().compute
        once = compute.drop_null(compute.unique(values))
        numeric = compute.match_substring_regex(once, r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")
        floating = compute.match_substring_regex(once, r"^[+-]?\d+(\.|[eE])")
        if len(once) and compute.all(numeric).as_py() and compute.any(floating).as_py():
            value = once.filter(floating)[0].as_py()
            float_id(self.location(compute.index(values, value).as_py(), column), value, column)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Finite numbers of a column.

        Raises
        ------
        ConnectomeError
            If one is missing, NaN, infinite or no number.
        """
        pa = arrow()
        values = self.data.column(self.need(column)).combine_chunks()
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
            text = values.cast(pa.string())
            try:
                values = text.cast(pa.float64())
            except pa.ArrowInvalid:
                row, value = next((k, v) for k, v in enumerate(text.to_pylist()) if v is not None and not _is_number(v))
                raise ConnectomeError(f"{self.location(row, column)}: {value!r} is no number.") from None
        found: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~np.isfinite(found))
        if len(bad):
            what = "the number is missing or NaN" if np.isnan(found[bad[0]]) else "the number is infinite"
            raise ConnectomeError(f"{self.location(int(bad[0]), column)}: {what} ({len(bad):,} are). Remove the row or fill it in.")
        return found

    def labels(self, column: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column as codes into a sorted list of labels; -1 where there is none (null, empty or blank)."""
        pa = arrow()
        values = self.data.column(self.need(column)).combine_chunks()
        if pa.types.is_floating(values.type):  # a column of integers with gaps, as pandas keeps it
            whole = values.cast(pa.int64(), safe=False)
            values = whole if pa.compute.all(pa.compute.equal(whole.cast(values.type), values)).as_py() in (True, None) else values
        if not pa.types.is_dictionary(values.type):
            values = values.cast(pa.string()).dictionary_encode()
        names = [str(v).strip() if v is not None else "" for v in values.dictionary.to_pylist()]
        known = sorted(set(names) - {""})
        place = {name: k for k, name in enumerate(known)}
        lookup = np.array([*(place.get(name, -1) for name in names), -1], dtype=np.int32)
        codes = values.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        return lookup[codes], known


def _trimmed(values: Any) -> Any:
    pa = arrow()
    if pa.types.is_dictionary(values.type):
        entries = pa.compute.utf8_trim_whitespace(values.dictionary.cast(pa.string()))
        values = entries.take(values.indices)
    else:
        values = pa.compute.utf8_trim_whitespace(values.cast(pa.string()))
    return pa.compute.if_else(pa.compute.equal(values, ""), pa.scalar(None, pa.string()), values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(column: str, columns: Sequence[str]) -> str:
    hint = suggest(column, columns, what="columns")
    listed = ", ".join(repr(name) for name in columns[:20]) + (", ..." if len(columns) > 20 else "")
    return hint if hint.startswith("Known") else f"{hint} The columns are {listed}."


def pick(table: Sequence[str], name: str, given: str | None, known: Iterable[str], argument: str) -> str | None:
    """The column ``given``, or the first of ``known`` names that is there, whatever its case; None if none is.

    Raises
    ------
    ConnectomeError
        If ``given`` is not there.
    """
    if given is not None:
        if given not in table:
            raise ConnectomeError(f"{name}: there is no column {given!r} ({argument}=). {_listed(given, table)}")
        return given
    lower = {column.strip().lower(): column for column in reversed(table)}
    return next((lower[option] for option in known if option in lower), None)


def header(source: Any, delimiter: str | None = None, columns: Sequence[str] | None = None) -> list[str]:
    """Names of a table's columns, without reading the rest of it."""
    pa = arrow()
    if not isinstance(source, (str, os.PathLike)):
        if hasattr(source, "columns") and hasattr(source, "to_numpy"):  # a DataFrame may have columns that arrow cannot hold
            return [str(column) for column in source.columns]
        return list(_from_memory(source, "table").column_names)
    path = _existing(Path(source))
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return list(_guard(path, lambda: pyarrow.parquet.read_schema(path)).names)
    if path.suffix in (".feather", ".arrow"):
        return list(_guard(path, lambda: pa.ipc.open_file(pa.memory_map(str(path)))).schema.names)
    return list(sniff(path, delimiter, columns).columns)


def read(
    source: Any,
    wanted: Mapping[str, str] | None = None,
    *,
    name: str = "table",
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
) -> ColumnTable:
    """Read a table.

    Parameters
    ----------
    source : path, DataFrame or pyarrow.Table
        .parquet, .feather and .arrow by their suffix; anything else is text, compressed or not (.gz, .bz2, .zst).
    wanted : mapping of column to "id", "number" or "label", optional
        Columns to read. None: all, as labels.
    name : str
        What errors call a table that is no file.
    delimiter, columns
        As in `sniff`.

    Raises
    ------
    ConnectomeError
        If the file is missing, empty, damaged, or a value is of the wrong kind.
    """
    pa = arrow()
    if not isinstance(source, (str, os.PathLike)):
        known = tuple(header(source))
        if wanted is not None and hasattr(source, "columns") and hasattr(source, "to_numpy"):
            source = source[[c for c in source.columns if c in wanted]]
        data = _from_memory(source, name)
        return ColumnTable(name, data if wanted is None else data.select([c for c in data.column_names if c in wanted]), known=known)
    path = _existing(Path(source))
    some = None if wanted is None else list(wanted)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        data = _guard(path, lambda: pyarrow.parquet.read_table(path, columns=some))
        return ColumnTable(path.name, data, known=tuple(header(path)))
    if path.suffix in (".feather", ".arrow"):
        import pyarrow.feather

        data = _guard(path, lambda: pyarrow.feather.read_table(path, columns=some))
        return ColumnTable(path.name, data, known=tuple(header(path)))
    dialect = sniff(path, delimiter, columns)
    roles = dict.fromkeys(dialect.columns, "label") if wanted is None else dict(wanted)
    try:
        data = _read_text(path, dialect, roles)
    except pa.ArrowInvalid as error:
        text_ids = explain(path, dialect, roles, str(error))  # raises, unless ids are text after all
        data = _read_text(path, dialect, {column: "text" if column in text_ids else role for column, role in roles.items()})
    return ColumnTable(path.name, data, path, dialect, dialect.columns)


def _read_text(path: Path, dialect: Dialect, roles: Mapping[str, str]) -> Any:
    pa = arrow()
    label = pa.dictionary(pa.int32(), pa.string())
    kinds = {"number": pa.float64(), "label": label, "text": label}
    types = {c: (pa.int64() if dialect.looks_integer(c) else label) if role == "id" else kinds[role] for c, role in roles.items()}
    options = (
        pa.csv.ReadOptions(column_names=list(dialect.columns), skip_rows=dialect.skip, block_size=8 << 20),
        pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=False),
        pa.csv.ConvertOptions(column_types=types, include_columns=list(roles), strings_can_be_null=True),
    )
    if not dialect.sample:
        return pa.table({column: pa.array([], kind) for column, kind in types.items()})
    size, total, batches = path.stat().st_size, 0, []
    with opened(path) as stream:
        for batch in pa.csv.open_csv(stream, *options):
            total += batch.nbytes
            if total > max(SPARED, GROWTH * size):
                raise ConnectomeError(f"{path}: {size:,} compressed bytes hold more than {total:,}; this looks like a decompression bomb.")
            batches.append(batch)
    return pa.Table.from_batches(batches).unify_dictionaries()


def _existing(path: Path) -> Path:
    if not path.is_file():
        there = path.parent.iterdir() if path.parent.is_dir() else ()
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConnectomeError(f"{path} {what}; a table's file is needed. {suggest(path.name, (p.name for p in there), what='files there')}")
    if path.stat().st_size == 0:
        raise ConnectomeError(f"{path}: the file is empty.")
    return path


def _from_memory(source: Any, name: str) -> Any:
    pa = arrow()
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, Mapping):
        return pa.table(dict(source))
    try:
        if hasattr(source, "to_records"):  # pandas; its index is no column
            return pa.Table.from_pandas(source, preserve_index=False)
        return pa.table(source)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise ConnectomeError(f"{name}: a path, a DataFrame or a pyarrow table is needed, not {type(source).__name__}: {error}.") from None


def _guard(path: Path, action: Any) -> Any:
    pa = arrow()
    try:
        return action()
    except (pa.ArrowException, OSError) as error:
        raise ConnectomeError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from None
