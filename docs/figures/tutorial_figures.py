"""Redraw the figures of docs/tutorial.md, by running the blocks of the page.

    python docs/figures/tutorial_figures.py
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")

HERE = Path(__file__).parent
FIGURES = {
    "regions": "tutorial_regions",
    "activity": "tutorial_activity",
    "curve": "tutorial_loss",
    "ax": "tutorial_fixed_points",
}
"""Axes of the page by their names there, and what the figures are called."""


def main() -> None:
    """Run the page and save its figures beside this file."""
    page = (HERE.parent / "tutorial.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(block, names)
    for name, figure in FIGURES.items():
        names[name].figure.savefig(HERE / f"{figure}.png", dpi=110)  # type: ignore[attr-defined]
        print(f"wrote {figure}.png")


if __name__ == "__main__":
    main()
