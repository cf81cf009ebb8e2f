"""Columns of the neuron table as those of the network's units."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import INTEGER, ColumnTable, arrow
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.declaration.fields import UNIT_LABELS

Column = NDArray[Any]
CODE = r"[+-]?(0[0-9]|[0-9]{16,}$)"
"""Digits that a float would not keep: a leading zero, or too many."""


def unit_columns(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> dict[str, Column]:
    """Make the columns that units keep, for all neurons; "" or NaN without a value. The table lets go of them."""
    if tables.neurons is None:
        return {}
    found = {}
    wanted = tables.neurons.columns if settings.keep is None else settings.neuron_columns()
    for name in tables.neurons.columns:
        if name != tables.neuron and name in wanted:
            values = rows.of_table(_values(tables.neurons, name, bool(rows.added)))
            found[f"{name} (table)" if name in UNIT_LABELS else name] = values
            tables.neurons.forget([name])  # its memory, as there may be hundreds of columns
    return found


def _values(table: ColumnTable, name: str, gaps: bool) -> Column:
    """Read a column: integers, other numbers, or text if a cell is neither.

    With ``gaps``, some neurons have no row. Integers with gaps are floats, or text if these would lose digits.
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
