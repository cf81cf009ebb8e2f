"""The prose of the package: first lines of docstrings, and strings that are wrapped as sentences."""

import ast
import io
import itertools
import re
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sparse_mrnn"
FILES = sorted(PACKAGE.rglob("*.py"))
UNNAMED = re.compile(r"(?:That|Those|Of|As|What|Whether|Where|Which)\b")
"""First words of a docstring that leave out its thing; say it as an imperative, or name the thing."""
IS_NO = re.compile(r"(?<![Tt]here )\b(?:is|are|was|were) no(?:ne)?\b(?! (?:longer|more|less|one)\b)")
SHORT = 25
"""Characters below which a piece of a wrapped string, not the last one, is a leftover of an earlier wrap."""


def strings(tree):
    """Yield every string constant, and the constant parts of formatted ones, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def unnamed(source):
    """Lines of docstrings, of constants too, that do not name their thing."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and UNNAMED.match(str(node.value.value)):
            yield node.lineno, node.value.value.partition("\n")[0]


def negated(source):
    """Lines of strings that say what there is not: "x is no file"."""
    for line, text in strings(ast.parse(source)):
        if found := IS_NO.search(text):
            yield line, found[0] + text[found.end() : found.end() + 30]


def ragged(source):
    """Lines of pieces of a string that were cut in mid-sentence by an earlier wrap."""
    pieces = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NL, tokenize.COMMENT):
            continue
        if token.type == tokenize.STRING and not token.string.startswith(('"""', 'r"""')):
            pieces.append(token)
            continue
        for piece, after in itertools.pairwise(pieces):
            text = ast.literal_eval(piece.string.lstrip("fFrR")) if "{" not in piece.string else piece.string
            if piece.start[0] != after.start[0] and len(text) < SHORT and text.endswith(" "):
                yield piece.start[0], text
        pieces = []


@pytest.mark.parametrize("check", [unnamed, negated, ragged])
def test_prose(check):
    found = [f"{path.relative_to(PACKAGE)}:{line}: {text}" for path in FILES for line, text in check(path.read_text())]
    assert not found, "\n".join(found)


def test_what_is_found():
    assert list(unnamed('def f():\n    """Those of some units."""')) == [(2, "Those of some units.")]
    assert list(unnamed('X = 1\n\"\"\"What it is.\"\"\"')) == [(2, "What it is.")]
    assert not list(unnamed('def f():\n    """Select units."""'))
    assert list(negated('x = f"{p} is no file"')) == [(1, "is no file")]
    assert not list(negated('x = "it is no longer than"'))
    assert list(ragged('x = (\n "a long first piece of the sentence, and then build a "\n "new "\n "network"\n)')) == [(3, "new ")]
