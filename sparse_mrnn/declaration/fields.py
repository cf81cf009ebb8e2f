"""Fields: what may be declared of a region or a projection, each in one place.

`Region` and `Projection` are dataclasses whose fields are made with `declared`: default, kind of value,
meaning and unit. The checks of `RegionGraph`, the models and the JSON Schema of configurations, saved
networks, the columns of SONATA's tables and the cut for ranks all follow from them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import option, shown, true_or_false
from sparse_mrnn.errors import GraphError, suggest

Cell = str | None
ByUnit = Callable[[str, str], NDArray[Any] | None]
"""Read a column of a table of units, by name and numpy kinds ("f", "SO"), for the units of one region; None
if the table does not have it."""
REGION_SIGNS: dict[str | None, int] = {"pos": 1, "neg": -1, None: 0}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Kind:
    """The values that a field takes: their check, their type in JSON, and how tables hold them.

    A table of regions or projections (the types of SONATA) has one text cell for each of ``columns``, the
    endings of the field's column. A table of units has an array for each name in `arrays`.
    """

    json: Any
    columns: tuple[str, ...] = ("",)
    unit = ""
    optional = True

    def check(self, what: str, value: Any, n: int) -> Any:
        """Return the value as a graph keeps it; ``what`` names it, and n is the number of units.

        Raises
        ------
        GraphError
            If the field cannot have this value.
        """
        return None if value is None and self.optional else self.checked(what, value, n)

    def checked(self, what: str, value: Any, n: int) -> Any:
        """Return a value that is given, as `check` does."""
        raise NotImplementedError

    def cells(self, value: Any) -> Sequence[Cell]:
        """Text of the cells that hold a value; None for an empty one."""
        return [None if value is None else str(value)]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        """Columns of a table of units that hold a value, each with ``n`` entries."""
        return {}

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        """Read a value back from its cells and arrays; `check` comes after.

        Raises
        ------
        ValueError
            If a cell does not hold such a value.
        """
        return cells[0]


@dataclass(frozen=True)
class Number(Kind):
    """A finite number, or one for each unit."""

    least: float = -math.inf
    above: bool = False
    optional: bool = False
    by_unit: bool = False
    unit: str = ""

    @property
    def json(self) -> Any:  # type: ignore[override]
        plain: Any = float | list[float] if self.by_unit else float
        return plain | None if self.optional else plain

    def checked(self, what: str, value: Any, n: int) -> Any:
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        fits = array.shape in (((), (n,)) if self.by_unit else ((),)) and bool(np.isfinite(array).all())
        inside = array > self.least if self.above else array >= self.least
        if isinstance(value, str | bytes | bool) or not (fits and inside.all()):
            given = f"an array of shape {array.shape}" if array.ndim else shown(value)
            limit = f" {'above' if self.above else 'of at least'} {self.least:g}"
            wanted = "a finite number" + (limit if self.least > -math.inf else "")
            wanted += f" {self.unit}" if self.unit else ""
            many = f", or {n} of them, one for each unit" if self.by_unit else ""
            raise GraphError(f"{what} is {given}; it must be {wanted}{many}.")
        return float(array) if array.ndim == 0 else array

    def cells(self, value: Any) -> Sequence[Cell]:
        return [None if value is None or isinstance(value, np.ndarray) else repr(float(value))]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        # A number that every unit has stands there for other software; NaN stands for None.
        if not self.by_unit or value is None:
            return {}
        return {column: np.broadcast_to(np.asarray(value, dtype=np.float64), n)}

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        if cells[0] is not None:
            return _number(cells[0])
        values = by_unit(column, "f") if self.by_unit else None
        if values is None or (self.optional and np.isnan(values).all()):
            return _unless_needed(self.optional)
        return values


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number of at least 1, or None."""

    json = int | None

    def checked(self, what: str, value: Any, n: int) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise GraphError(f"{what} is {shown(value)}; it must be a whole number of at least 1.")
        return int(value)

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return None if cells[0] is None else int(cells[0])


@dataclass(frozen=True)
class Flag(Kind):
    """True or False."""

    json = bool
    optional = False

    def checked(self, what: str, value: Any, n: int) -> Any:
        return true_or_false(_truth(value), what, GraphError)

    def cells(self, value: Any) -> Sequence[Cell]:
        return [str(int(value))]

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return {"0": False, "1": True}[str(cells[0])]


@dataclass(frozen=True)
class Learnable(Kind):
    """If a value is trained: False, "unit" or "region"; True is one of the two."""

    true: str = "unit"
    json = bool | Literal["unit", "region"]
    optional = False

    def checked(self, what: str, value: Any, n: int) -> Any:
        if isinstance(truth := _truth(value), bool):
            return truth
        meaning = f", True ({self.true!r}) or False"
        word = option(value, ("unit", "region"), what, GraphError, otherwise=meaning)
        return True if word == self.true else word

    def cells(self, value: Any) -> Sequence[Cell]:
        return [value if isinstance(value, str) else str(int(value))]

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return {"0": False, "1": True, "unit": "unit", "region": "region"}[str(cells[0])]


@dataclass(frozen=True)
class Text(Kind):
    """Text, or None; ``lower`` for names that are matched without case."""

    lower: bool = False
    optional: bool = True

    @property
    def json(self) -> Any:  # type: ignore[override]
        return str | None if self.optional else str

    def checked(self, what: str, value: Any, n: int) -> Any:
        if not isinstance(value, str):
            raise GraphError(f"{what} is {shown(value)}; it must be text.")
        return value.lower() if self.lower else value

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return _unless_needed(self.optional) if cells[0] is None else cells[0]


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names, matched without case."""

    options: tuple[str, ...]
    optional = False

    @property
    def json(self) -> Any:  # type: ignore[override]
        return Literal[self.options]

    def checked(self, what: str, value: Any, n: int) -> Any:
        return option(value, self.options, what, GraphError)

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        if cells[0] not in self.options:
            raise ValueError(cells[0])
        return cells[0]


@dataclass(frozen=True)
class Signs(Kind):
    """The sign of a region's outputs: "pos", "neg", None, or +1, -1, 0 for each unit."""

    json = Literal["pos", "neg"] | list[Literal[-1, 0, 1]] | None

    def checked(self, what: str, value: Any, n: int) -> Any:
        if isinstance(value, str):
            otherwise = ", None or +1, -1, 0 for each unit"
            return option(value, ("pos", "neg"), what, GraphError, otherwise=otherwise)
        array = np.asarray(value)
        if array.shape != (n,) or not np.isin(array, (-1, 0, 1)).all():
            raise GraphError(f"{what} must be {n} values of +1, -1 or 0; got shape {array.shape}.")
        return array.astype(np.int8)

    def by_unit(self, value: Any, n: int) -> NDArray[np.int8]:
        """The sign of each unit, shape (n,)."""
        return value if isinstance(value, np.ndarray) else np.full(n, REGION_SIGNS[value], dtype=np.int8)

    def cells(self, value: Any) -> Sequence[Cell]:
        return [None if isinstance(value, np.ndarray) else value or "none"]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        return {column: self.by_unit(value, n)}

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        if cells[0] is None:
            return by_unit(column, "i")
        return {"pos": "pos", "neg": "neg", "none": None}[cells[0]]


@dataclass(frozen=True)
class Bounds(Kind):
    """The least and the largest value, each a number or None; None for neither."""

    unit: str = ""
    json = tuple[float | None, float | None] | None
    columns = ("_low", "_high")

    def checked(self, what: str, value: Any, n: int) -> Any:
        try:
            low, high = (None if end is None else float(end) for end in value)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        ends = [end for end in (low, high) if end is not None]
        if not all(map(math.isfinite, ends)) or ends != sorted(set(ends)):
            pair = f"(least, largest){' in ' if self.unit else ''}{self.unit} or None"
            raise GraphError(f"{what} is {shown(value)}; give {pair}, least < largest.")
        return None if low is None and high is None else (low, high)

    def cells(self, value: Any) -> Sequence[Cell]:
        return [None if end is None else repr(end) for end in value or (None, None)]

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return [None if cell is None else _number(cell) for cell in cells]


@dataclass(frozen=True)
class UnitIds(Kind):
    """A different name for each unit, or None. A cell says if there are any: "" could be a name."""

    json = list[str] | None

    def checked(self, what: str, value: Any, n: int) -> Any:
        ids = tuple(str(unit) for unit in value)
        if len(ids) != n or len(set(ids)) != n:
            got = f"got {len(ids)}, {len(set(ids))} different"
            raise GraphError(f"{what} must be {n} different names; {got}.")
        return ids

    def cells(self, value: Any) -> Sequence[Cell]:
        return [str(int(value is not None))]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        return {column.removesuffix("s"): list(value or [""] * n)}

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        return by_unit(column.removesuffix("s"), "SO") if {"0": False, "1": True}[str(cells[0])] else None


@dataclass(frozen=True)
class Positions(Kind):
    """A position for each unit, shape (n, dimensions), or None; a column of its own for each dimension."""

    json = list[list[float]] | None

    def checked(self, what: str, value: Any, n: int) -> Any:
        where = np.array(value, dtype=np.float64)
        if where.ndim != 2 or len(where) != n or not np.isfinite(where).all():
            raise GraphError(f"{what} must be finite, of shape ({n}, dimensions); got {where.shape}.")
        return where

    def cells(self, value: Any) -> Sequence[Cell]:
        return [str(0 if value is None else value.shape[1])]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        return {} if value is None else {axis_name(k): value[:, k] for k in range(value.shape[1])}

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        if not re.fullmatch("[0-9]{1,3}", str(cells[0])):
            raise ValueError(cells[0])
        axes = [by_unit(axis_name(k), "f") for k in range(int(str(cells[0])))]
        if any(axis is None for axis in axes):
            raise ValueError(cells[0])
        return np.stack(axes, axis=1) if axes else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class UnitTable(Kind):
    """Columns by name, each with a text or a number for every unit, or None.

    Text is an object array of str, "" where it is missing; numbers are int64, or float64 with NaN where they
    are missing. The cell has the names of the columns and their types.
    """

    json = dict[str, list[str | int | float | None]] | None

    def checked(self, what: str, value: Any, n: int) -> Any:
        try:
            columns = {str(name): unit_column(values) for name, values in dict(value).items()}
        except (TypeError, ValueError):
            problem = "must be columns by name, each of text or of numbers"
            raise GraphError(f"{what} {problem}; got {shown(value)}.") from None
        for name, array in columns.items():
            if array.shape != (n,):
                raise GraphError(f"{what}: column {name!r} must have {n} values; got shape {array.shape}.")
            if name in ("", *UNIT_LABELS):
                raise GraphError(f"{what}: a column cannot be called {name!r}; rename it.")
        return columns or None

    def cells(self, value: Any) -> Sequence[Cell]:
        kinds = {name: array.dtype.kind for name, array in (value or {}).items()}
        return [None if value is None else json.dumps(kinds)]

    def arrays(self, column: str, value: Any, n: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
        return {
            _table_column(name): array.tolist() if array.dtype.kind == "O" else array
            for name, array in (value or {}).items()
        }

    def parse(self, column: str, cells: Sequence[Cell], by_unit: ByUnit) -> Any:
        if cells[0] is None:
            return None
        found = {}
        for name, kind in dict(json.loads(cells[0])).items():
            found[name] = by_unit(_table_column(name), {"O": "SO", "i": "i", "f": "f"}[kind])
            if found[name] is None:
                raise ValueError(cells[0])
        return found


UNIT_LABELS = ("region", "unit_id")
"""Columns that every table of units has; the others are of `UnitTable`."""


def unit_column(values: Any) -> NDArray[Any]:
    """Make a column of `UnitTable` of values of one kind, None among them.

    Raises
    ------
    ValueError
        If they are neither text nor numbers.

    Examples
    --------
    >>> unit_column(["KC", None]).tolist(), unit_column([2, None]).tolist(), unit_column([2, 3]).dtype
    (['KC', ''], [2.0, nan], dtype('int64'))
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        array = np.asarray(values, dtype=object)  # numpy made text of a mixture
        listed = [None if value is None or value != value else value for value in array.tolist()]
        if array.ndim != 1:
            raise ValueError("not one value per unit")
        if all(isinstance(value, int | float | None) for value in listed) and any(listed):
            array = np.array([math.nan if value is None else value for value in listed])
        elif all(isinstance(value, str | bool | None) for value in listed):
            array = np.array(["" if value is None else str(value) for value in listed], dtype=object)
        else:
            raise ValueError("neither text nor numbers")
    if array.dtype.kind == "b" or (array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63):
        array = array.astype(np.str_).astype(object)
    return array.astype({"O": object, "f": np.float64}.get(array.dtype.kind, np.int64))


def _table_column(name: str) -> str:
    """Name of a column in a file, where a slash would make a group of it."""
    return f"column_{quote(name, safe=' ')}"


def axis_name(k: int) -> str:
    """Column of a position's coordinate: x, y, z, position_3, ....

    >>> axis_name(0), axis_name(3)
    ('x', 'position_3')
    """
    return "xyz"[k] if k < 3 else f"position_{k}"


def _truth(value: Any) -> Any:
    """Return 0 and 1 as False and True, and any other value as it is."""
    return bool(value) if isinstance(value, bool | np.bool_ | int) and value in (0, 1) else value


def _number(cell: str) -> float:
    if not NUMBER.fullmatch(cell):
        raise ValueError(cell)
    return float(cell)


def _unless_needed(optional: bool) -> None:
    if not optional:
        raise ValueError("a value is missing")


@dataclass(frozen=True)
class Field:
    """A declared field: its values, its meaning in a phrase, if inputs have it, and what tables call it."""

    name: str
    default: Any
    kind: Kind
    doc: str
    inputs: bool
    column: str

    @property
    def unit(self) -> str:
        """Unit of its numbers, such as ms."""
        return self.kind.unit

    @property
    def columns(self) -> list[str]:
        """Its columns in a table of regions or projections."""
        return [self.column + ending for ending in self.kind.columns]

    def cells(self, value: Any) -> dict[str, Cell]:
        """Its cells in such a table."""
        return dict(zip(self.columns, self.kind.cells(value), strict=True))


def declared(
    default: Any, kind: Kind, doc: str, *, inputs: bool = False, column: str | None = None, repr: bool = True
) -> Any:
    """Declare a field of `Region` or `Projection`; arguments as of `Field`."""
    about = {"kind": kind, "doc": doc, "inputs": inputs, "column": column}
    return dataclasses.field(default=default, repr=repr, metadata=about)


def fields_of(declaration: type[Any]) -> dict[str, Field]:
    """The declared fields of `Region` or `Projection`, by name.

    Examples
    --------
    >>> from sparse_mrnn.declaration.regions import Region
    >>> fields_of(Region)["tau"].unit
    'ms'
    """
    return {
        f.name: Field(f.name, f.default, **{**f.metadata, "column": f.metadata["column"] or f.name})
        for f in dataclasses.fields(declaration)
        if f.metadata
    }


def checked(fields: Mapping[str, Field], where: str, given: Mapping[str, Any], n: int = 0) -> dict[str, Any]:
    """Check the values of fields of a region of n units; those that are not given have their defaults.

    ``where`` is the region or projection, as errors name it.

    Raises
    ------
    GraphError
        If a value does not fit its field, or a field is not known.
    """
    for name in given:
        if name not in fields:
            raise GraphError(f"{where}: unknown field {name!r}. {suggest(name, fields, what='fields')}")
    every = {name: given.get(name, field.default) for name, field in fields.items()}
    return {name: fields[name].kind.check(f"{where}: {name}", value, n) for name, value in every.items()}
