"""ColumnTable: the columns of a table as ids, numbers and labels, with errors that say where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.delimited_text import Dialect
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, suggest

Codes = NDArray[np.int32]
INTEGER = r"^(0|-?[1-9][0-9]*)$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def arrow() -> Any:
    """Return pyarrow, or raise an error that says how to install it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
    except ImportError:
        install = "install it with: pip install 'sparse-mrnn[connectome]'"
        raise MissingExtraError(f"importing connectomes needs pyarrow; {install}") from None
    return pyarrow


@dataclass(frozen=True, eq=False)
class Ids:
    """The neuron ids of a column: the distinct ones (pyarrow, int64 or text), and which one each row has."""

    values: Any
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def rows(self) -> Any:
        """The id of every row, as a pyarrow array."""
        return self.values.take(arrow().array(self.codes))


def comparable(*columns: Ids) -> list[Ids]:
    """Give ids one type: integers, or text if any of the columns is text."""
    text = arrow().string()
    some_text = any(ids.values.type == text for ids in columns)
    return [Ids(ids.values.cast(text), ids.codes) for ids in columns] if some_text else list(columns)


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Columns with their origin, so that an error can name file, line and column."""

    name: str  # the file, or what the caller calls the DataFrame
    data: Any  # a pyarrow.Table
    path: Path | None = None  # of a text file, to find the line of a row
    dialect: Dialect | None = None
    known: tuple[str, ...] = ()  # columns that there are, read or not; what an error lists

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.data.column_names)

    @property
    def not_read(self) -> tuple[str, ...]:
        """The names of columns that there are and that were not read."""
        return tuple(column for column in self.known if column not in self.columns)

    def location(self, row: int, column: str) -> str:
        """Say where a value is: file, line (or row) and column."""
        if self.path is not None and self.dialect is not None:
            return f"{self.name}, line {self.dialect.line_of(self.path, row)}, column {column!r}"
        return f"{self.name}, row {row}, column {column!r}"

    def need(self, column: str) -> str:
        """Return the column's name; if the table lacks it, raise an error that lists the columns."""
        if column in self.columns:
            return column
        hint = listed(column, self.known or self.columns)
        raise ConnectomeError(f"{self.name}: column {column!r} is missing. {hint}")

    def ids(self, column: str) -> Ids:
        """Read ids: as integers if each is written like one (no leading zeros), else as trimmed text."""
        pa = arrow()
        kind, where = self.data.column(self.need(column)).type, f"{self.name}, column {column!r}"
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            raise ConnectomeError(
                f"{where}: ids are floating-point numbers, which lose the last digits of 64-bit ids. Read "
                f"the table again with dtype={{{column!r}: 'int64'}} (pandas; 'Int64' with gaps), or as text."
            )
        text = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
        if not (pa.types.is_integer(kind) or kind in text):
            raise ConnectomeError(f"{where}: ids are of type {kind}; they must be integers or text.")
        values, codes = self._distinct(column)
        missing = np.flatnonzero(codes < 0)
        if len(missing):
            problem = f"the id is missing ({len(missing)} are). Remove the row or fill it in."
            raise ConnectomeError(f"{self.location(int(missing[0]), column)}: {problem}")
        used = np.bincount(codes, minlength=len(values)) > 0
        if not used.all():  # categories of a DataFrame that no row has
            values, codes = values.filter(pa.array(used)), (np.cumsum(used, dtype=np.int32) - 1)[codes]
        if not pa.types.is_integer(values.type):
            self._refuse_floats(values, codes, column)
            if not pa.compute.all(pa.compute.match_substring_regex(values, INTEGER), min_count=0).as_py():
                return Ids(values, codes)
        try:
            return Ids(values.cast(pa.int64()), codes)
        except pa.ArrowInvalid:  # beyond 64 bits
            return Ids(values.cast(pa.string()), codes)

    def _refuse_floats(self, values: Any, codes: Codes, column: str) -> None:
        """Refuse text of numbers only, one of them with a decimal point or exponent: it was a float once."""
        compute = arrow().compute
        floating = compute.match_substring_regex(values, r"^[+-]?[0-9]+(\.|[eE])")
        floating = floating.to_numpy(zero_copy_only=False)
        if floating.any() and compute.all(compute.match_substring_regex(values, NUMBER)).as_py():
            row = int(np.flatnonzero(floating[codes])[0])
            value = values[int(codes[row])].as_py()
            raise ConnectomeError(
                f"{self.location(row, column)}: the id {value} was written as a floating-point number, so "
                "its last digits may be lost. Export the table again with ids as integers or text (pandas: "
                f"dtype={{{column!r}: 'int64'}}, or 'Int64' with gaps)."
            )

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Read the finite numbers of a column."""
        pa = arrow()
        values = self.data.column(self.need(column)).combine_chunks()
        kind = values.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            text = self._cast(values, column, pa.string())
            number = pa.compute.match_substring_regex(pa.compute.utf8_trim_whitespace(text), NUMBER)
            if pa.compute.any(pa.compute.invert(number)).as_py():
                row = int(pa.compute.index(number, False).as_py())
                raise ConnectomeError(f"{self.location(row, column)}: {text[row].as_py()!r} is not a number.")
            values = text
        numbers: NDArray[np.float64] = self._cast(values, column, pa.float64()).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            what = "the number is missing or NaN" if np.isnan(numbers[bad[0]]) else "the number is infinite"
            where = self.location(int(bad[0]), column)
            raise ConnectomeError(f"{where}: {what} ({len(bad):,} are). Remove the row or fill it in.")
        return numbers

    def labels(self, column: str) -> tuple[Codes, list[str]]:
        """Read a column as codes into a sorted list of labels; null, empty and blank cells are -1."""
        pa = arrow()
        values, codes = self._distinct(column)
        if pa.types.is_floating(values.type):  # integers with gaps, as pandas keeps them
            whole = values.cast(pa.int64(), safe=False)
            if pa.compute.all(pa.compute.equal(whole.cast(values.type), values)).as_py():
                values = whole
        names = self._cast(values, column, pa.string()).to_pylist()
        labels = sorted(set(names))
        index = {label: k for k, label in enumerate(labels)}
        lookup = np.array([*(index[name] for name in names), -1], dtype=np.int32)
        return lookup[codes], labels

    def _distinct(self, column: str) -> tuple[Any, Codes]:
        """Return the different values of a column (text trimmed), and which one each row has; -1 if none."""
        pa = arrow()
        data = self.data.column(self.need(column)).combine_chunks()
        if not (pa.types.is_dictionary(data.type) or pa.types.is_primitive(data.type)):
            data = self._cast(data, column, pa.string())
        if not pa.types.is_dictionary(data.type):
            data = data.dictionary_encode()
        codes = data.indices.cast(pa.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
        entries = data.dictionary
        if pa.types.is_floating(entries.type):
            entries = entries.cast(pa.float64())  # arrow cannot compare 16-bit numbers
            entries = pa.compute.if_else(pa.compute.is_nan(entries), None, entries)
        elif not pa.types.is_integer(entries.type):
            text = pa.compute.utf8_trim_whitespace(self._cast(entries, column, pa.string()))
            entries = pa.compute.if_else(pa.compute.equal(text, ""), None, text)
        values = pa.compute.unique(entries).drop_null()
        if len(values) == len(entries):  # as they nearly always are; else the rows of a table are many
            return values, codes
        index = pa.compute.index_in(entries, value_set=values).fill_null(-1).to_numpy(zero_copy_only=False)
        return values, np.append(index, np.int32(-1))[codes]

    def _cast(self, values: Any, column: str, kind: Any) -> Any:
        pa = arrow()
        try:
            return values.cast(kind, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            problem = f"values of type {values.type} cannot be read as {kind}."
            raise ConnectomeError(f"{self.name}, column {column!r}: {problem}") from None


def dictionary_column(index: NDArray[Any], values: Sequence[str]) -> Any:
    """Make a pyarrow column of text as indices into a list of values: no text is copied."""
    pa = arrow()
    codes = pa.array(index.astype(np.int32, copy=False))
    return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))


def listed(column: str, columns: Sequence[str]) -> str:
    """Say, after a missing column, which is similar and which there are."""
    hint = suggest(column, columns, what="columns")
    names = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
    return hint if hint.startswith("Known") else f"{hint} The columns are {names}."
