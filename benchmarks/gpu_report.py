"""Everything to know about this library on a GPU, in one command, within nine minutes and without a network.

    python benchmarks/gpu_report.py --device cuda --out gpu-report [--wheels DIRECTORY]

It takes this checkout and a Python with torch, numpy, scipy, networkx, pydantic, safetensors, psutil,
filelock and, for the tests, typer, rich, pytest and hypothesis; a missing package is unpacked from the wheels
in DIRECTORY, or named, and the rest goes on. Sections run in order of value, each in a process of its own,
and every result is a file as soon as it is there: ``report.md``, and for each section its figures (JSON) and
its log. ``--device cpu --small`` is a dry run of a minute.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import arguments, progress

ROOT = Path(__file__).parent.parent
LIBRARY = ("torch", "numpy", "scipy", "networkx", "pydantic", "safetensors", "psutil", "filelock")
TESTS = ("typer", "rich", "pytest", "hypothesis")


@dataclass(frozen=True)
class Section:
    """A part of the report: its title, the seconds it may take, and the packages it needs."""

    title: str
    seconds: float
    needs: tuple[str, ...] = LIBRARY


SECTIONS = {
    "device": Section("The device", 60, ("torch",)),
    "tests": Section("pytest -m gpu", 150, LIBRARY + TESTS),
    "equality": Section("The same values and gradients as on the CPU", 90),
    "training": Section("Training, 20,000 units", 150),
    "step": Section("A time step of a fly-sized network", 100),
    "kernels": Section("Triton's kernels against torch's", 120),
    "graphs": Section("Kernel by kernel, or as a CUDA graph", 90),
    "compiled": Section("A small network against torch.compile", 120),
    "million": Section("Training, a million units", 150),
    "profile": Section("Where the time of a training step goes", 60),
}
"""In the order in which they run; see ``gpu_sections.py`` for what each does."""


def write(path: Path, text: str) -> None:
    """Write a file at once: it is there whole, or as it was."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


# ---------------------------------------------------------------- wheels


def missing(names: tuple[str, ...]) -> list[str]:
    """Names of packages that cannot be imported."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def fits(wheel: Path) -> bool:
    """Whether a wheel is for this Python and machine, by its name."""
    python, abi, system = wheel.stem.split("-")[-3:]
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    right_python = here in python.split(".") or "py3" in python.split(".") or abi == "abi3"
    return right_python and (system == "any" or system.endswith(platform.machine().lower()))


def unpack_wheels(wheels: Path, target: Path) -> None:
    """Unpack the wheels of packages that are missing, for this process and those that it starts."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            modules = {name.split("/")[0].removesuffix(".py") for name in archive.namelist()}
            importable = [m for m in modules if not m.endswith((".dist-info", ".data", ".so"))]
            if fits(wheel) and missing(tuple(importable)):
                archive.extractall(target)
                progress(f"unpacked {wheel.name}")
    sys.path.append(str(target))


# ---------------------------------------------------------------- sections


def run_section(name: str, number: int, options: Any, seconds: float) -> None:
    """Run a section in a process of its own, and say in its file how it ended."""
    result, log = (options.out / f"{number}-{name}{end}" for end in (".json", ".log"))
    write(result, json.dumps({"status": "running"}))
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_sections.py"), name, str(result)]
    command += ["--device", options.device, *(["--small"] if options.small else [])]
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        streams: dict[str, Any] = dict(stdout=file, stderr=subprocess.STDOUT)
        process = subprocess.Popen(command, **streams, env=environment, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait(timeout=seconds)
            status = "done" if code == 0 else f"failed with exit status {code}; its log ends below"
        except subprocess.TimeoutExpired:
            status = f"cut off after {seconds:.3g} s"
        finally:  # also where this process is told to stop
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what the section has started
            process.wait()
    found = json.loads(result.read_text(encoding="utf-8"))
    found |= {"status": status, "seconds": round(time.monotonic() - start, 1)}
    if status.startswith("failed"):
        found["log"] = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    write(result, json.dumps(found, indent=1))


def assemble(out: Path, device: str, small: bool) -> None:
    """Write report.md from what the sections have left so far."""
    on_cpu = "# Dry run on the CPU: no figure here is of a GPU"
    parts = [on_cpu if device == "cpu" else "# sparse-mrnn on a GPU"]
    if small:
        parts.append("Small networks; nothing here says how fast anything is.")
    for number, (name, section) in enumerate(SECTIONS.items(), 1):
        path = out / f"{number}-{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"status": "not reached"}
        took = f" ({found['seconds']:.0f} s)" if "seconds" in found else ""
        parts.append(f"## {number}. {section.title}\n\n*{found['status']}{took}*")
        parts += [found["markdown"]] if found.get("markdown") else []
        parts += [f"```text\n{found['log']}\n```"] if found.get("log") else []
    write(out / "report.md", "\n\n".join(parts) + "\n")


def main() -> None:
    """Run the sections within the time there is."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--wheels", type=Path, help="folder of wheels for packages that are missing")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything")
    parser.add_argument("--small", action="store_true", help="small networks: a dry run")
    parser.add_argument("--only", help="sections, separated by commas, as device,tests")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes - 10
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = list(SECTIONS) if options.only is None else options.only.split(",")
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if options.wheels is not None:
        unpack_wheels(options.wheels, options.out / "packages")
    for number, (name, section) in enumerate(SECTIONS.items(), 1):
        path = options.out / f"{number}-{name}.json"
        seconds = min(section.seconds, end - time.monotonic())
        absent = missing(section.needs)
        if name not in chosen:
            write(path, json.dumps({"status": "left out"}))
        elif absent:
            what_to_do = "bring its wheel along, with --wheels DIRECTORY"
            write(path, json.dumps({"status": f"not run: {', '.join(absent)} is missing; {what_to_do}"}))
        elif time.monotonic() > end - 5:
            write(path, json.dumps({"status": f"not run: the {options.minutes:g} minutes are over"}))
        else:
            progress(f"{section.title} (at most {seconds:.0f} s)")
            try:
                run_section(name, number, options, seconds)
            except BaseException:
                assemble(options.out, options.device, options.small)
                raise
        assemble(options.out, options.device, options.small)
    progress(f"wrote {options.out / 'report.md'}")


if __name__ == "__main__":
    main()
