"""What the scripts share: arguments, processes of their own, Markdown tables, the pages they refresh."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<!-- end -->"


def arguments(description: str | None) -> ArgumentParser:
    """A parser that shows a script's docstring as it is."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def run_in_new_process(code: str) -> dict[str, Any]:
    """Run Python code that prints one JSON object last, in a process of its own."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def own_peak() -> int:
    """Peak resident memory of this process, bytes; that of getrusage begins at the peak of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def table_head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [table_row(columns), "|---" * len(columns) + "|"]


def table_row(cells: Sequence[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def progress(text: str) -> None:
    """Say on standard error what is done, for standard output is the result."""
    print(text, file=sys.stderr, flush=True)


def replace_in_page(page: Path, found: str, mark: str = "measured") -> None:
    """Put text between ``<!-- measured -->`` (or another mark) and ``<!-- end -->`` of a page."""
    text = page.read_text(encoding="utf-8")
    between = re.compile(rf"(<!-- {re.escape(mark)} -->\n).*?({END})", re.DOTALL)
    if not between.search(text):
        sys.exit(f"{page} has no <!-- {mark} --> ... {END} to put the result between.")
    page.write_text(between.sub(lambda m: f"{m[1]}\n{found}\n\n{m[2]}", text), encoding="utf-8")
