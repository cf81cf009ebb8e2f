"""Columns of the neuron table as those of the network's units."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import INTEGER, ColumnTable, arrow
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.declaration.fields import UNIT_LABELS

Column = NDArray[Any]


def unit_columns(tables: ConnectomeTables, rows: EdgeRows) -> dict[str, Column]:
    """Read the columns of the neuron table that were read, for all neurons; "" or NaN without a value."""
    if tables.neurons is None:
        return {}
    found = {}
    for name in tables.neurons.columns:
        if name != tables.neuron:
            values = _values(tables.neurons, name)
            if rows.added and values.dtype.kind == "i":
                values = values.astype(np.float64)
            missing = "" if values.dtype.kind == "O" else np.nan
            found[f"{name} (table)" if name in UNIT_LABELS else name] = rows.of_table(values, missing)
    return found


def _values(table: ColumnTable, name: str) -> Column:
    """Read a column: integers, other numbers, or text if a cell is neither."""
    pa, data = arrow(), table.data.column(name)
    if pa.types.is_integer(data.type) and not data.null_count:
        return np.asarray(data.to_numpy()).astype(np.int64)
    if pa.types.is_integer(data.type) or pa.types.is_floating(data.type):
        return np.asarray(data.cast(pa.float64()).to_numpy())
    codes, labels = table.labels(name)
    short = all(len(label) < 19 for label in labels)
    if labels and short and all(re.match(INTEGER, label) for label in labels):
        kind = np.float64 if (codes < 0).any() else np.int64
        return np.array([*map(int, labels), 0 if kind is np.int64 else np.nan], dtype=kind)[codes]
    zeros = any(re.match("[+-]?0[0-9]", label) for label in labels)
    if labels and short and not zeros and all(map(is_number, labels)):
        return np.array([*map(float, labels), np.nan])[codes]
    return np.array([*labels, ""], dtype=object)[codes]
