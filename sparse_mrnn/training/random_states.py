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


def set_global_states(states: Mapping[str, Any]) -> None:
    """Go on from these; CUDA's only on a machine with as many devices."""
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def check_global_states(states: Mapping[str, Any]) -> None:
    """Try them on generators made for it.

    Raises
    ------
    SavedFileError
        If they are not states of these generators.
    """
    try:
        torch.Generator().set_state(states["torch"])
        np.random.RandomState().set_state(states["numpy"])
        random.Random().setstate(states["python"])
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise SavedFileError(f"its global random states cannot be used: {error}") from error


def generator_state(name: str, generator: Any) -> dict[str, Any]:
    """Kind and state of a generator.

    Raises
    ------
    SavedFileError
        If it is not of numpy, torch or Python.

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


def set_generator(generator: Any, saved: Mapping[str, Any]) -> None:
    """Let a generator go on from a state of its kind."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = saved["state"]
    elif isinstance(generator, torch.Generator):
        generator.set_state(saved["state"])
    else:
        generator.setstate(saved["state"])


def check_generators(given: Generators, saved: Mapping[str, Any]) -> None:
    """Check that each generator has a state of its kind; none is changed.

    Raises
    ------
    SavedFileError
        If one does not; the message names it.
    """
    for name, generator in given.items():
        if name not in saved:
            known = ", ".join(map(repr, saved)) or "none"
            raise SavedFileError(f"it has no generator {name!r} (its generators: {known})")
        now = generator_state(name, generator)
        if now["kind"] != saved[name]["kind"]:
            raise SavedFileError(f"its generator {name!r} is {saved[name]['kind']}, and here {now['kind']}")
        try:
            set_generator(generator, saved[name])
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise SavedFileError(f"its generator {name!r} cannot be used: {error}") from error
        finally:
            set_generator(generator, now)
