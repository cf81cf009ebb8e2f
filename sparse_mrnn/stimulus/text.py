"""How the command line writes stimuli and interventions: names and then numbers, with colons between."""

from __future__ import annotations

from typing import Any

from sparse_mrnn.errors import StimulusError


def split_text(
    text: str, form: str, error: type[StimulusError], *, numbers: tuple[int, int]
) -> tuple[str, list[float]]:
    """The name, and the numbers after it. A name may have colons: the numbers are those at the end.

    Parameters
    ----------
    text : str
    form : str
        What is expected, for messages.
    error : StimulusError or a class derived from it
    numbers : (int, int)
        How many there must be, and may be.

    Raises
    ------
    StimulusError
        If the text has another form.

    Examples
    --------
    >>> split_text("layer:5:0.5:100", "REGION:AMPLITUDE[:START]", StimulusError, numbers=(1, 2))
    ('layer:5', [0.5, 100.0])
    """
    least, most = numbers
    parts = text.split(":")
    found: list[float] = []
    while len(parts) > 1 and len(found) < most:
        try:
            found.insert(0, float(parts[-1]))
        except ValueError:
            break
        parts.pop()
    name = ":".join(parts)
    if not name or len(found) < least:
        raise error(f"{text!r}: expected a {form}, times in ms.")
    return name, found


def window(numbers: list[float]) -> dict[str, Any]:
    """Start and stop, as far as they were given.

    >>> window([100.0])
    {'start': 100.0}
    """
    return dict(zip(("start", "stop"), numbers, strict=False))
