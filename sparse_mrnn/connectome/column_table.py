"""ColumnTable: the columns of a table as ids, numbers and labels, with errors that say where."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.delimited_text import COMMENTS, Dialect, decimal_sign, is_nameless, is_number
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, suggest

Codes = NDArray[np.int32]
INTEGER = r"^(0|-?[1-9][0-9]*)$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
WHOLE = r"^-?[0-9]+(\.0*)?$|^-?[0-9](\.[0-9]{1,3})?[eE]\+?[0-9]{1,2}$"
"""Integers as software writes floats that hold them exactly; with more digits, 1.23457e+11 has lost some."""
SCIENTIFIC = re.compile(r"-?[0-9]\.([0-9]+)[eE]\+?([0-9]+)")
MISSING = frozenset(
    [
        "na", "n/a", "n.a.", "n.a", "#n/a", "#n/a n/a", "#na", "<na>", "na_integer_", "na_character_", "nan",
        "-nan", "+nan", "nat", "null", "(null)", "<null>", "[null]", "none", "nil", "missing", "undefined",
        "\\n", "#value!", "#ref!", "#div/0!", "#name?", "#null!", "#num!", "1.#ind", "-1.#ind", "1.#qnan",
        "-1.#qnan", ".", "..", "-", "--", "?", "_", "*",
    ]
)  # fmt: skip
"""Words of R, pandas, Excel, SQL and people for an id that is missing, in lower case."""
NO_NUMBER = {"na", "n/a", "null", "none", "unknown"}


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
    """The neuron ids of a column: the distinct ones (pyarrow, int64 or text), and which one each row has.

    A row whose id is missing has the code -1.
    """

    values: Any
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def rows(self) -> Any:
        """The id of every row, as a pyarrow array; null if it is missing."""
        pa = arrow()
        return self.values.take(pa.array(self.codes, mask=self.codes < 0))


def comparable(*columns: Ids) -> list[Ids]:
    """Give ids one type: integers, or text if any of the columns is text."""
    text = arrow().string()
    some_text = any(ids.values.type == text for ids in columns)
    return [Ids(ids.values.cast(text), ids.codes) for ids in columns] if some_text else list(columns)


@dataclass(eq=False)
class ColumnTable:
    """Columns with their origin, so that an error can name file, line and column."""

    name: str  # the file, or what the caller calls the DataFrame
    data: Any  # a pyarrow.Table
    path: Path | None = None  # of a text file, to find the line of a row
    dialect: Dialect | None = None
    known: tuple[str, ...] = ()  # columns that there are, read or not; what an error lists
    origin: NDArray[np.int64] | None = None  # the row of the file that each row was, if some were left out
    names: bool = False  # ids are names that no software wrote for a missing one, such as nodes of a graph
    notes: tuple[str, ...] = ()  # on how the file was read
    dropped: dict[str, int] = field(default_factory=dict)  # how many rows were left out, by reason
    rows: int = -1
    forgotten: frozenset[str] = frozenset()  # columns that were read and are not kept
    joined: Mapping[str, tuple[ColumnTable, NDArray[np.int64]]] = field(default_factory=dict)
    """The table that each joined column came from, and its row there for each row here (-1: none)."""

    def __post_init__(self) -> None:
        self.rows = int(self.data.num_rows)
        self.forgotten = self.forgotten - set(self.columns)

    def __len__(self) -> int:
        return self.rows

    @property
    def rows_read(self) -> int:
        """Rows before some were left out."""
        return self.rows + sum(self.dropped.values())

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.data.column_names)

    @property
    def not_read(self) -> tuple[str, ...]:
        """The names of columns that there are and that were not read."""
        read = {*self.columns, *self.forgotten}
        return tuple(column for column in self.known if column not in read and not is_nameless(column))

    def location(self, row: int, column: str) -> str:
        """Say where a value is: file, line (or row) and column."""
        missing = ""
        if column in self.joined:
            table, rows = self.joined[column]
            if rows[row] >= 0:
                return table.location(int(rows[row]), column)
            missing = f" (without a row in {table.name})"
        row = row if self.origin is None else int(self.origin[row])
        at = f"row {row}"
        if self.path is not None and self.dialect is not None:
            at = f"line {self.dialect.line_of(self.path, row)}"
        return f"{self.name}, {at}{missing}, column {column!r}"

    def only(self, kept: NDArray[np.bool_], reason: str) -> ColumnTable:
        """Leave out some rows, which are counted under a reason."""
        if kept.all():
            return self
        origin = np.flatnonzero(kept) if self.origin is None else self.origin[kept]
        dropped = {**self.dropped, reason: int((~kept).sum())}
        joined = {column: (table, rows[kept]) for column, (table, rows) in self.joined.items()}
        data = self.data.filter(arrow().array(kept))
        return replace(self, data=data, origin=origin, dropped=dropped, joined=joined)

    def with_ids(self, column: str, missing: str) -> ColumnTable:
        """Leave out rows without an id, if ``missing`` (the setting ``missing_ids``) allows it."""
        kept = self.ids(column, missing).codes >= 0
        return self.only(kept, f"rows of {self.name} without a neuron's id")

    def forget(self, columns: Collection[str]) -> None:
        """Let go of columns that were read, and of their memory."""
        self.forgotten |= set(self.columns).intersection(columns)
        self.data = self.data.select([column for column in self.columns if column not in columns])
        arrow().default_memory_pool().release_unused()

    def need(self, column: str) -> str:
        """Return the column's name; if the table lacks it, raise an error that lists the columns."""
        if column in self.columns:
            return column
        hint = listed(column, self.known or self.columns)
        raise ConnectomeError(f"{self.name}: column {column!r} is missing. {hint}")

    def ids(self, column: str, missing: str = "error") -> Ids:
        """Read ids: as integers if each is written like one (no leading zeros), else as trimmed text.

        ``missing`` is the setting ``missing_ids``.
        """
        pa = arrow()
        kind, where = self.data.column(self.need(column)).type, f"{self.name}, column {column!r}"
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if not (numeric or kind in text):
            raise ConnectomeError(f"{where}: ids are of type {kind}; they must be integers or text.")
        values, codes = self._distinct(column)
        if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
            values = self._exact(values, column, kind)
        elif not pa.types.is_integer(values.type):
            missing = "error" if self.names else missing
            values, codes = self._without_words(*self._unwrapped(values, codes), column, missing)
            self._refuse_comments(values, codes, column)
            values, codes = self._whole(values, codes, column)
        if missing == "error" and (codes < 0).any():
            row, count = int(np.argmax(codes < 0)), int((codes < 0).sum())
            problem = f"the id is missing ({count:,} are)"
            advice = "Fill it in, or leave out such rows, which are counted, with missing_ids='drop'."
            raise ConnectomeError(f"{self.location(row, column)}: {problem}. {advice}")
        used = np.bincount(codes[codes >= 0] if missing != "error" else codes, minlength=len(values)) > 0
        if not used.all():  # categories of a DataFrame that no row has
            number = np.append(np.where(used, np.cumsum(used) - 1, -1), -1).astype(np.int32)
            values, codes = values.filter(pa.array(used)), number[codes]
        if not (pa.types.is_integer(values.type) or _all_match(values, INTEGER)):
            return Ids(values, codes)
        try:
            values = values.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits
            return Ids(values.cast(pa.string()), codes)
        return self._without_unsegmented(Ids(values, codes), column, missing)

    def _exact(self, values: Any, column: str, kind: Any) -> Any:
        """Convert floats to the integers they are, and refuse those that may have lost digits."""
        pa = arrow()
        most = {pa.float16(): 2**11, pa.float32(): 2**24}.get(kind, 2**53)
        try:
            whole = values.cast(pa.int64())
            if pa.compute.all(pa.compute.less_equal(pa.compute.abs(whole), most - 1), min_count=0).as_py():
                return whole
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        raise ConnectomeError(
            f"{self.name}, column {column!r}: ids are floating-point numbers, which lose the last digits of "
            f"64-bit ids. Read the table again with dtype={{{column!r}: 'int64'}} (pandas; 'Int64' with "
            "gaps), or as text."
        )

    def _without_words(self, values: Any, codes: Codes, column: str, missing: str) -> tuple[Any, Codes]:
        """Give the code -1 to rows whose id is a word for a missing one."""
        if missing == "keep" or self.names:
            return values, codes
        pa = arrow()
        words = pa.compute.is_in(pa.compute.utf8_lower(values), value_set=pa.array(sorted(MISSING)))
        words = words.to_numpy(zero_copy_only=False)
        if not words.any():
            return values, codes
        number = np.append(np.where(words, -1, np.cumsum(~words) - 1), -1).astype(np.int32)
        if missing == "error" and (number[codes] < 0).any():
            row = int(np.argmax(number[codes] < 0))
            what = "" if codes[row] < 0 else f", {values[int(codes[row])].as_py()!r}"
            count = int((number[codes] < 0).sum())
            raise ConnectomeError(
                f"{self.location(row, column)}: the id is missing{what} ({count:,} are). "
                "Leave out such rows, which are counted, with missing_ids='drop'; if it is a neuron's name, "
                "give missing_ids='keep'."
            )
        return values.filter(pa.array(~words)), number[codes]

    def _unwrapped(self, values: Any, codes: Codes) -> tuple[Any, Codes]:
        """Take the text of formulas, ="720575940623374218", by which Excel is kept from rounding ids."""
        pa = arrow()
        pattern = r'^="[^"]*"$'
        if not len(values) or not _all_match(values, pattern):
            return values, codes
        plain = pa.compute.utf8_slice_codeunits(values, 2, -1).dictionary_encode()
        index = np.append(plain.indices.to_numpy(), -1).astype(np.int32)
        return plain.dictionary, index[codes]

    def _refuse_comments(self, values: Any, codes: Codes, column: str) -> None:
        """Refuse ids at the start of a line that look like comments, unless ``comment`` was given."""
        if self.dialect is None or self.dialect.comment_is_known or self.dialect.columns[0] != column:
            return
        pa = arrow()
        for sign in COMMENTS:
            found = pa.compute.starts_with(values, sign).to_numpy(zero_copy_only=False)
            if found.any():
                row = int(np.argmax(np.append(found, False)[codes]))
                raise ConnectomeError(
                    f"{self.location(row, column)}: the line starts with {sign!r}. Give comment={sign!r} to "
                    "leave such lines out, or comment='' if it belongs to an id."
                )

    def _whole(self, values: Any, codes: Codes, column: str) -> tuple[Any, Codes]:
        """Write ids such as 12.0 as integers; refuse numbers with a point or exponent that lost digits."""
        pa = arrow()
        compute = pa.compute
        floating = compute.match_substring_regex(values, r"^[+-]?[0-9]+(\.|[eE])")
        floating = floating.to_numpy(zero_copy_only=False)
        if not floating.any() or not _all_match(values, NUMBER):
            return values, codes
        texts, whole = values.to_pylist(), compute.match_substring_regex(values, WHOLE).to_pylist()
        pairs = zip(texts, whole, strict=True)
        exact = [
            (w or _has_all_digits(t)) and float(t).is_integer() and abs(float(t)) < 2**53 for t, w in pairs
        ]
        wrong = np.append(np.array([not e for e in exact]) & floating, False)[codes]
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConnectomeError(
                f"{self.location(row, column)}: the id {texts[int(codes[row])]} was written as a "
                "floating-point number, so its last digits may be lost. Export the table again with ids as "
                f"integers or text (pandas: dtype={{{column!r}: 'int64'}}, or 'Int64' with gaps)."
            )
        cells = zip(texts, exact, floating.tolist(), strict=True)
        texts = [str(int(float(t))) if f and e else t for t, e, f in cells]
        unified = pa.array(texts, pa.string()).dictionary_encode()
        index = np.append(unified.indices.to_numpy(), -1).astype(np.int32)
        return unified.dictionary, index[codes]

    def _without_unsegmented(self, ids: Ids, column: str, missing: str) -> Ids:
        """Give the code -1 to rows with CAVE's root id 0, a place that belongs to no neuron."""
        if missing == "keep" or not re.search(r"root_?id$", column.strip(), re.IGNORECASE):
            return ids
        zero = ids.values.index(0).as_py()
        if zero < 0:
            return ids
        number = np.arange(len(ids.values) + 1, dtype=np.int32)
        number[zero:] -= 1
        number[[zero, -1]] = -1
        pa = arrow()
        kept = pa.array(np.arange(len(ids.values)) != zero)
        return Ids(ids.values.filter(kept), number[ids.codes])

    def is_whole(self, column: str) -> bool:
        """Tell if a column is of an integer type."""
        return bool(arrow().types.is_integer(self.data.column(self.need(column)).type))

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Read the finite numbers of a column."""
        pa = arrow()
        values = self.data.column(self.need(column))
        kind = values.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            text = self._cast(values.combine_chunks(), column, pa.string())
            number = pa.compute.match_substring_regex(pa.compute.utf8_trim_whitespace(text), NUMBER)
            if pa.compute.any(pa.compute.invert(number)).as_py():
                row = int(pa.compute.index(number, False).as_py())
                raise ConnectomeError(f"{self.location(row, column)}: {text[row].as_py()!r} is not a number.")
            values = pa.chunked_array([self._cast(text, column, pa.float64())])
        numbers, start = np.empty(len(values)), 0
        for chunk in values.chunks:  # without a copy of them all
            numbers[start : start + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
            start += len(chunk)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            what = "the number is missing or NaN" if np.isnan(numbers[bad[0]]) else "the number is infinite"
            where = self.location(int(bad[0]), column)
            raise ConnectomeError(f"{where}: {what} ({len(bad):,} are). Remove the row or fill it in.")
        return numbers

    def numbers_or_nan(self, column: str, what: str) -> NDArray[np.float64]:
        """Read the numbers of a column; missing ones are NaN. Errors call one ``what``."""
        pa, data = arrow(), self.data.column(self.need(column))
        if pa.types.is_floating(data.type) or pa.types.is_integer(data.type):
            whole: NDArray[np.float64] = data.cast(pa.float64(), safe=False).to_numpy().copy()
            return whole
        codes, labels = self.labels(column)
        decimal = "." if self.dialect is None or self.dialect.delimiter == "," else self.dialect.decimal
        if (decimal or decimal_sign(labels, f"{self.name}, column {column!r}")) == ",":
            labels = [label.replace(",", ".") for label in labels]
        labels = ["nan" if label.lower() in NO_NUMBER else label for label in labels]
        for code in (k for k, label in enumerate(labels) if not is_number(label)):
            where = self.location(int(np.argmax(codes == code)), column)
            raise ConnectomeError(f"{where}: the {what} {labels[code]!r:.80} is not a number.")
        numbers: NDArray[np.float64] = np.array([*map(float, labels), np.nan])[codes]
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


def _has_all_digits(text: str) -> bool:
    """Tell if a number such as 1.200000e+01 has a digit for each place of the integer."""
    found = SCIENTIFIC.fullmatch(text)
    return found is not None and len(found[1]) >= int(found[2])


def _all_match(texts: Any, pattern: str) -> bool:
    compute = arrow().compute
    return bool(compute.all(compute.match_substring_regex(texts, pattern), min_count=0).as_py())


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
