"""Run mRNNTorch's own tests on sparse_mrnn's networks.

    python tools/mrnntorch_tests.py CHECKOUT [--site DIRECTORY] [--examples]

CHECKOUT is a checkout of mRNNTorch 0.1; DIRECTORY has what it imports besides torch (scikit-learn,
rnntoolkit, tqdm). The tests and the analysis are mRNNTorch's; ``mRNN`` and ``ElmanmRNN`` are ours, in every
module that imports them. ``--examples`` trains the two networks of its examples for three epochs instead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = """
import sys
import mrnntorch, mrnntorch.analysis, mrnntorch.mrnn.leaky_mrnn, mrnntorch.mrnn.elman_mrnn
import sparse_mrnn
for module in [m for name, m in sys.modules.items() if name.startswith("mrnntorch")]:
    for name in ("mRNN", "ElmanmRNN"):
        if hasattr(module, name):
            setattr(module, name, getattr(sparse_mrnn, name))
"""


def main() -> int:
    """Run the tests, or the examples, and print pytest's count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--site", default="")
    parser.add_argument("--examples", action="store_true")
    options = parser.parse_args()
    checkout, ours = options.checkout.resolve(), Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        paths = [folder, str(ours), options.site, str(checkout / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if options.examples:
            return _examples(checkout / "examples", Path(folder), environment)
        Path(folder, "our_networks.py").write_text(PLUGIN, encoding="utf-8")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "our_networks"]
        return subprocess.run([*pytest, "tests"], cwd=checkout, env=environment, check=False).returncode


def _examples(examples: Path, folder: Path, environment: dict[str, str]) -> int:
    """Train with one import changed; on the CPU, and for three epochs."""
    changes = [("from mrnntorch import", "from sparse_mrnn import"), ("epochs = 5000", "epochs = 3")]
    changes += [('device="cuda"', "device=None")]
    for script in examples.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        for before, after in changes:
            text = text.replace(before, after)
        (folder / script.name).write_text(text, encoding="utf-8")
    return subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
