"""Checks of what a user gives: numbers, options, names and paths, made Python's own."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sparse_mrnn.errors import SparseMRNNError, suggest

Error = type[SparseMRNNError]
Seed: TypeAlias = int | np.random.SeedSequence | np.random.Generator
"""A seed as numpy's default_rng takes it; a generator is used, and advances, as it is."""
LARGEST, LARGEST_SEED = 2**63 - 1, 2**128 - 1


def whole_number(value: Any, what: str, error: Error, *, least: int = 1, most: int = LARGEST) -> int:
    """Check a whole number from ``least`` to ``most``; return it as an int.

    Raises
    ------
    error
        If it is not.

    Examples
    --------
    >>> from sparse_mrnn.errors import ShapeError
    >>> whole_number(np.int64(3), "batch", ShapeError)
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        number = None
    if number is None or not least <= number <= most:
        limit = f"at most {most}" if number is not None and number > most else f"at least {least}"
        raise error(f"{what} is {shown(value)}; it must be a whole number of {limit}.")
    return number


def seed_number(value: Any, error: Error) -> int:
    """Check a seed, a whole number from 0 up to 128 bits; return it as an int.

    Raises
    ------
    error
        If it is not.

    Examples
    --------
    >>> from sparse_mrnn.errors import ConfigError
    >>> seed_number(np.uint8(7), ConfigError)
    7
    """
    return whole_number(value, "seed", error, least=0, most=LARGEST_SEED)


def real_number(value: Any, what: str, error: Error) -> int | float:
    """Check a finite number; return it as an int or a float.

    Raises
    ------
    error
        If it is not.

    Examples
    --------
    >>> from sparse_mrnn.errors import StimulusError
    >>> real_number(np.float32(0.5), "start", StimulusError)
    0.5
    """
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)) or np.ndim(value) != 0:
            raise TypeError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise error(f"{what} is {shown(value)}; it must be a finite number.") from None
    return value if type(value) is int else number


def true_or_false(value: Any, what: str, error: Error) -> bool:
    """Check True or False; a number is refused, because it may be meant for another argument.

    Raises
    ------
    error
        If it is neither.

    Examples
    --------
    >>> from sparse_mrnn.errors import ConfigError
    >>> true_or_false(np.True_, "noise", ConfigError)
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{what} is {shown(value)}; use True or False.")
    return bool(value)


def name_text(value: Any) -> str | None:
    """Return the text of a name: text itself, the digits of an integer (ids of neurons are such), else None.

    >>> name_text("AVAL"), name_text(np.int64(720575940653971835)), name_text(0.5)
    ('AVAL', '720575940653971835', None)
    """
    if isinstance(value, str):
        return str(value)
    try:
        return None if isinstance(value, bool | np.bool_) else str(operator.index(value))
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None


def values_by_column(given: Mapping[Any, Any], what: str, error: Error) -> dict[str, list[Any]]:
    """Return columns of a table of units and the values wanted of each, as lists of text and numbers.

    Raises
    ------
    error
        If there is no column or no value, or one is neither text nor a number.

    Examples
    --------
    >>> values_by_column({"side": "left", "layer": np.array([2, 3])}, "units", ValueError)
    {'side': ['left'], 'layer': [2, 3]}
    """
    found: dict[str, list[Any]] = {}
    for column, given_values in given.items():
        single = isinstance(given_values, str) or not isinstance(given_values, Iterable)
        values = [given_values] if single else list(given_values)
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        fit = values and all(isinstance(value, str | int | float) for value in values)
        if not isinstance(column, str) or not fit:
            raise error(f"{what}: {shown({column: given_values})} is not a column and its value or values.")
        found[column] = values
    if not found:
        raise error(f"{what} is empty; name at least one column.")
    return found


def names_of(given: Any, what: str, error: Error) -> tuple[str, ...]:
    """Return one name, or several, as a tuple of text; integers become their digits.

    Raises
    ------
    error
        If there is no name, or one is neither text nor an integer.

    Examples
    --------
    >>> from sparse_mrnn.errors import RecordingError
    >>> names_of("thal", "regions", RecordingError), names_of(["thal", "cortex"], "regions", RecordingError)
    (('thal',), ('thal', 'cortex'))
    """
    names = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    found = []
    for name in names:
        text = name_text(name)
        if text is None:
            raise error(f"{what}: {shown(name)} is not a name; give text.")
        found.append(text)
    if not found:
        raise error(f"{what} is empty; name at least one.")
    return tuple(found)


def path_of(given: Any, what: str, error: Error) -> Path:
    """Return a path, absolute and without "..".

    Raises
    ------
    error
        If it is not a path, or cannot be reached.

    Examples
    --------
    >>> from sparse_mrnn.errors import RecordingError
    >>> path_of("/tmp/../run.zarr", "out", RecordingError).name
    'run.zarr'
    """
    try:
        path = Path(os.path.abspath(os.fsdecode(given)))
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)
    except (TypeError, ValueError) as problem:
        raise error(f"{what} is {shown(given)}, which is not a path: {problem}.") from None
    except OSError as problem:
        raise error(f"{what} is {shown(given)}, which cannot be reached: {problem.strerror}.") from None
    return path


def option(value: Any, options: Iterable[str], what: str, error: Error, *, otherwise: str = "") -> str:
    """Match one of some names without case, and return it as it is listed.

    Parameters
    ----------
    value : object
        The name given.
    options : iterable of str
    what : str
        What is chosen, as errors name it.
    error : type of error
    otherwise : str
        Further values that the caller takes, as the message goes on with them: ", None or an array".

    Raises
    ------
    error
        If it is not one of them; the message lists them and suggests the nearest.

    Examples
    --------
    >>> from sparse_mrnn.errors import ConfigError
    >>> option("CSR", ("auto", "csr"), "backend", ConfigError)
    'csr'
    """
    known = {name.casefold(): name for name in options}
    found = known.get(value.casefold()) if isinstance(value, str) else None
    if found is None:
        *most, last = map(repr, known.values())
        listed = [*most, last] if otherwise or not most else [", ".join(most) + f" or {last}"]
        hint = suggest(value, known.values())
        hint = f" {hint}" if hint.startswith("Did you mean") else ""
        raise error(f"{what} is {shown(value)}; use {', '.join(listed)}{otherwise}.{hint}")
    return found


def shown(value: Any) -> str:
    """Return a value as messages show it: its repr, cut to 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no int of thousands of digits
        return f"an {type(value).__name__} too long to show"
    return text if len(text) <= 60 else text[:57] + "..."
