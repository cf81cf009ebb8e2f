"""The command line, run in this process."""

import re

from typer.testing import CliRunner

from sparse_mrnn.cli import app

SMALL = {
    "recurrent_regions": [{"name": "a", "num_units": 5}, {"name": "b", "num_units": 3, "sign": "neg"}],
    "input_regions": [{"name": "cue", "num_units": 2}],
    "recurrent_connections": [
        {"src_region": "a", "dst_region": "b", "sparsity": 0.5},
        {"src_region": "b", "dst_region": "a"},
    ],
    "input_connections": [{"src_region": "cue", "dst_region": "a"}],
}


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert "Traceback" not in plain
    return plain
