"""sparse-mrnn schema."""

from __future__ import annotations

import json
import sys

from sparse_mrnn.cli.common import app, command


@command(app, examples=(
    "schema > schema.json",
))
def schema() -> None:
    """Print the JSON Schema of a configuration."""
    from sparse_mrnn.declaration.config import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
