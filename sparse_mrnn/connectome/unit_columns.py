"""Columns of the neuron table as those of the network's units, and as values of the units."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import INTEGER, ColumnTable, arrow
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.connectome.settings import UNIT_VALUES, ImportSettings
from sparse_mrnn.declaration.fields import UNIT_LABELS, Number
from sparse_mrnn.errors import ConnectomeError

Column = NDArray[Any]
CODE = r"[+-]?(0[0-9]|[0-9]{16,}$)"
"""Digits that a float would not keep: a leading zero, or too many."""


def unit_columns(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> dict[str, Column]:
    """Make the columns that units keep, for all neurons; "" or NaN without a value.

    The table lets go of them.
    """
    if tables.neurons is None:
        return {}
    found = {}
    wanted = tables.neurons.columns if settings.keep is None else settings.neuron_columns()
    for name in tables.neurons.columns:
        nested = arrow().types.is_nested(tables.neurons.data.column(name).type)
        if name != tables.neuron and name in wanted and not nested:
            values = rows.of_table(_values(tables.neurons, name, bool(rows.added)))
            found[f"{name} (table)" if name in UNIT_LABELS else name] = values
            tables.neurons.forget([name])  # its memory, as there may be hundreds of columns
    return found


def unit_values(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> dict[str, Column]:
    """Read the values of ``of_units`` for all neurons, shape (neurons,) or (neurons, dimensions).

    Those of neurons that are not selected may be missing or wrong.
    """
    found: dict[str, Column] = {}
    for name, columns in settings.value_columns.items():
        if tables.neurons is None:
            problem = f"{name} is a column of the neuron table, and there is none"
            raise ConnectomeError(f"{tables.label}: of_units: {problem}; give neurons=.")
        table = tables.neurons
        read: list[tuple[str, Column]] = []
        for column in columns:
            lists = _lists(table, column, name) if name == "positions" else None
            several = [table.numbers_or_nan(column, name)] if lists is None else list(lists.T)
            read += [(column, numbers) for numbers in several]
        values = [_checked_numbers(table, column, name, rows, numbers) for column, numbers in read]
        found[name] = np.stack(values, axis=1) if name == "positions" else values[0]
    return found


def _lists(table: ColumnTable, column: str, name: str) -> Column | None:
    """Read a column of lists of numbers, such as [1, 2, 3], shape (rows, numbers); None if it has none."""
    pa, data = arrow(), table.data.column(table.need(column))
    cells: list[Any]
    codes: NDArray[Any]
    if pa.types.is_nested(data.type):
        codes, cells = np.arange(len(data)), data.to_pylist()
    else:
        codes, labels = table.labels(column)
        if not any(label[0] in "[(" for label in labels):
            return None
        cells = [re.split(r"[\s,;]+", label.strip("[]() \t")) for label in labels] + [None]
    width = max((len(cell) for cell in cells if cell is not None), default=0)
    lists = np.full((len(cells), width), np.nan)
    for k, cell in enumerate(cells):
        try:
            lists[k] = np.nan if cell is None else np.array(cell, dtype=np.float64).reshape(width)
        except (TypeError, ValueError):
            where = table.location(int(np.flatnonzero(codes == k)[0]), column)
            raise ConnectomeError(f"{where}: the {name} {cell!r:.80} are not {width} numbers.") from None
    return np.asarray(lists[codes])


def _checked_numbers(table: ColumnTable, column: str, name: str, rows: EdgeRows, numbers: Column) -> Column:
    """Extend numbers to all neurons; refuse one that ``name`` may not have, if its neuron is selected."""
    numbers = rows.of_table(numbers)
    kind = UNIT_VALUES[name]
    fits, wanted = np.isfinite(numbers), "finite"
    if isinstance(kind, Number) and np.isfinite(kind.least):
        fits &= numbers > kind.least if kind.above else numbers >= kind.least
        wanted += f" and {'above' if kind.above else 'at least'} {kind.least:g}"
    wrong = np.flatnonzero(rows.selected & ~fits)
    if not len(wrong):
        return numbers
    k, what = int(wrong[0]), "position" if name == "positions" else name
    if k >= rows.neurons - rows.added:
        where, problem = f"neuron {rows.ids[k]}", f"{table.name} has no row for it, so its {what} is missing"
    else:
        where = table.location(k, column)
        problem = f"the {what} is missing" if np.isnan(numbers[k]) else f"the {what} is {numbers[k]:g}"
    advice = f"Every neuron that is kept needs a number that is {wanted}; fill it in, or leave neurons out"
    raise ConnectomeError(f"{where}: {problem} ({len(wrong):,} are wrong). {advice} with select=.")


def _values(table: ColumnTable, name: str, gaps: bool) -> Column:
    """Read a column: integers, other numbers, or text if a cell is neither.

    With ``gaps``, some neurons have no row; integers are floats then, or text if these would lose digits.
    """
    pa, data = arrow(), table.data.column(name)
    if pa.types.is_dictionary(data.type) and _is_numeric(data.type.value_type):
        data = data.cast(data.type.value_type)
    if _is_numeric(data.type):
        whole = pa.types.is_integer(data.type) and not data.null_count and not gaps
        with contextlib.suppress(pa.ArrowInvalid):  # an integer that the type cannot hold
            return np.asarray(data.cast(pa.int64() if whole else pa.float64()).to_numpy())
    codes, labels = table.labels(name)
    gaps = gaps or bool((codes < 0).any())
    if labels and all(re.match(INTEGER, label) for label in labels):
        most = max(abs(int(label)) for label in labels)
        if most < (2**53 if gaps else 2**63):
            kind = np.float64 if gaps else np.int64
            return np.array([*map(int, labels), np.nan if gaps else 0], dtype=kind)[codes]
    elif labels and all(is_number(label) and not re.match(CODE, label) for label in labels):
        return np.array([*map(float, labels), np.nan])[codes]
    return np.array([*labels, ""], dtype=object)[codes]


def _is_numeric(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind))
