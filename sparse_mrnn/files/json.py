"""Reading JSON files: damage, repeated keys and nesting beyond reason become an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparse_mrnn.errors import SparseMRNNError
from sparse_mrnn.files.atomic import reason


def read_json(path: Path, refuse: type[SparseMRNNError]) -> Any:
    """The content of a JSON file.

    Raises
    ------
    refuse
        If the file cannot be read, is not JSON (with line and column), or an object has a key twice, of which
        JSON readers keep the last in silence.
    """

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise refuse(f"{path}: the key {key!r} is there twice in one object; remove one.")
            content[key] = value
        return content

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_repeats)
    except refuse:
        raise
    except json.JSONDecodeError as error:
        where = f"{path}: line {error.lineno}, column {error.colno}"
        raise refuse(f"{where}: not valid JSON: {error.msg}.") from None
    except UnicodeDecodeError:
        raise refuse(f"{path}: the file is not UTF-8 text, as JSON is.") from None
    except OSError as error:
        raise refuse(f"{path}: cannot read the file: {reason(error)}.") from None
    except RecursionError:
        raise refuse(f"{path}: brackets are nested too deeply to be read.") from None
    except ValueError:  # of an integer of thousands of digits
        raise refuse(f"{path}: a number has too many digits to be read.") from None
