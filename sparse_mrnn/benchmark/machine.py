"""Hardware and versions that were measured on, without anything that names the machine or its files."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from sparse_mrnn.errors import BenchmarkError

PACKAGES = ("torch", "numpy", "scipy", "numba", "torch_sparse")


def describe_machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Processor, threads, memory, versions and device.

    Parameters
    ----------
    device : str or torch.device
        Device that is measured on.

    Returns
    -------
    dict
        Nothing in it names the machine, its user or its files.

    Examples
    --------
    >>> sorted(describe_machine())[:4]
    ['cores', 'cpu', 'device', 'memory_gb']
    """
    device = torch.device(device)
    found: dict[str, Any] = {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "mkl": bool(torch.backends.mkl.is_available()),  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
    return {**found, **{name: version_of(name) for name in ("sparse-mrnn", *PACKAGES)}}


def usable_device(name: str | None) -> str:
    """The device of a name.

    Parameters
    ----------
    name : str or None
        None: CUDA where there is one, else the CPU.

    Raises
    ------
    BenchmarkError
        If torch knows no such device, or sees none.

    Examples
    --------
    >>> usable_device("cpu")
    'cpu'
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise BenchmarkError(f"device {name!r} is not a torch device; use cpu or cuda.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(f"device {name!r}: this torch sees no CUDA device; use cpu.")
    if kind not in ("cpu", "cuda"):
        raise BenchmarkError(f"device {name!r}: only cpu and cuda are measured.")
    return name


def machine_line(machine: dict[str, Any]) -> str:
    """Write the findings of `describe_machine` as one line for a page.

    Parameters
    ----------
    machine : dict
        As `describe_machine` returns it.

    Examples
    --------
    >>> "torch" in machine_line(describe_machine())
    True
    """
    hardware = f"{machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']:.0f} GB"
    words = [hardware, f"Python {machine['python']}"]
    words += [f"{name} {machine[name]}" for name in PACKAGES if machine[name]]
    if machine["device"] != "cpu":
        words.insert(0, f"{machine['device']} (CUDA {machine.get('cuda')})")
    return ", ".join(words)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def version_of(name: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
