"""States of random generators: the global ones of torch, numpy and Python, and a user's own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sparse_mrnn.errors import SavedFileError

Generators = Mapping[str, np.random.Generator | torch.Generator | random.Random]


def global_states() -> dict[str, Any]:
    """States of torch (CUDA too), numpy and Python."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    legacy = np.random.get_state()  # noqa: NPY002 - for whoever draws from it
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": legacy, "python": random.getstate()}


def generator_state(name: str, generator: Any) -> dict[str, Any]:
    """Kind and state of a generator.

    Raises
    ------
    SavedFileError
        If it is of another library than numpy, torch and Python's random.

    Examples
    --------
    >>> generator_state("batches", np.random.default_rng(0))["kind"]
    'PCG64'
    """
    if isinstance(generator, np.random.Generator):
        return {"kind": type(generator.bit_generator).__name__, "state": generator.bit_generator.state}
    if isinstance(generator, torch.Generator):
        return {"kind": f"torch {generator.device.type}", "state": generator.get_state()}
    if isinstance(generator, random.Random):
        return {"kind": "random.Random", "state": generator.getstate()}
    known = "use one of numpy, torch or random.Random"
    raise SavedFileError(f"generators: {name!r} is a {type(generator).__name__}; {known}.")


def set_states(given: Generators, saved: Mapping[str, Any], everywhere: Mapping[str, Any] | None) -> None:
    """Let generators go on from states of their kinds, and the global ones from ``everywhere``: all or none.

    Raises
    ------
    SavedFileError
        If one has no state, or one of another kind; the message names the generator.
    """
    before, global_before = {name: generator_state(name, g) for name, g in given.items()}, global_states()
    for name, now in before.items():
        if name not in saved:
            known = ", ".join(map(repr, saved)) or "none"
            raise SavedFileError(f"it has no generator {name!r} (its generators: {known})")
        if now["kind"] != saved[name]["kind"]:
            raise SavedFileError(f"its generator {name!r} is {saved[name]['kind']}, and here {now['kind']}")
    what = ""
    try:
        for name, generator in given.items():
            what = f"generator {name!r}"
            _set(generator, saved[name])
        if everywhere is not None:
            what = "global random states"
            _set_global(everywhere)
    except Exception as error:  # each library raises its own for a state of something else
        for name, generator in given.items():
            _set(generator, before[name])
        _set_global(global_before)
        raise SavedFileError(f"its {what} cannot be used: {error}") from error


def _set(generator: Any, saved: Mapping[str, Any]) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = saved["state"]
    elif isinstance(generator, torch.Generator):
        generator.set_state(saved["state"])
    else:
        generator.setstate(saved["state"])


def _set_global(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
