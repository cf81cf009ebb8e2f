"""Shipped networks."""

from __future__ import annotations

from pathlib import Path

from sparse_mrnn.errors import UnknownNameError, suggest

EXAMPLES = {"celegans": "celegans.json"}


def example_path(name: str) -> Path:
    """Path of a shipped configuration.

    Raises
    ------
    UnknownNameError
        If there is none of that name.

    Examples
    --------
    >>> example_path("celegans").name
    'celegans.json'
    """
    if name not in EXAMPLES:
        raise UnknownNameError(f"no shipped example {name!r}. {suggest(name, EXAMPLES, what='examples')}")
    return Path(__file__).parent / EXAMPLES[name]
