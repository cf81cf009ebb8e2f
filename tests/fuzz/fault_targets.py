"""Faults made on purpose, to see that the runner counts them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.registry import InvalidInputError, register
from sparse_mrnn.errors import ConfigError


def make(folder: Path, rng: np.random.Generator) -> None:
    """The number of the case, which is that of its folder in a run."""
    (folder / "number").write_text(folder.name)


def load(folder: Path) -> Any:
    number = int((folder / "number").read_text())
    if number == 0:
        raise KeyError("raw")
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 2:
        time.sleep(60)
    if number == 3:
        np.ones(500 << 20, np.uint8)
    if number == 4:
        raise ConfigError("refused")
    return number


def oracle(folder: Path) -> Any:
    number = int((folder / "number").read_text())
    if number == 5:
        raise InvalidInputError("it must be refused")
    return number + 1


register("faults", make, load, oracle, share=0)
