"""Changes of bytes, text, JSON values and zip archives, all drawn from a generator."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator

TOKENS = [
    "", " ", "-", "--5", "+5", "01", "1", "0", "-0", "-1", "2.5", "1e3", "1e308", "-1e308", "1e309", "1e-320",
    "nan", "NaN", "inf", "-inf", "NA", "NULL", "None", "null", "true", "²", "٣", "1_0", "0x10", "1.", ".5",
    "1e", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616", "9" * 400,
    "9" * 5000, "a" * 300, "a\rb", "a\nb", '"', '""', '"a', "a,b", "'", "é", "\ufeff1", "\x00", "\x0c",
    "\x1c", "\x85", "\u2028", "\u200b", "\ud7ff", "=1+1", "720575940600000001", "7.205759406e17", "1,5",
    "1;5", "1 2", "%", "#", "../x", "/etc/passwd", "[", "{", "<",
]  # fmt: skip
"""Cells that have broken a reader of text somewhere."""
SEPARATORS = [
    "\n", "\r\n", "\r", "\n\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x85", "\u2028", "\t", ",", ";", " ", "|",
    "\0", '"', "\ufeff",
]  # fmt: skip
INTEGERS = [
    0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1,
    2**64 - 1,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1.5, 1e308, 1e-320, 10**30, 10**400, float("nan"),
    float("inf"), "", "a", "NULL", "NaN", "1", "²", "a" * 300, "a\rb", "\u2028", [], [[]], [1, 2], [1.5, 1],
    [0, 0], {}, {"type": "a"}, {"type": []}, [None], [True],
]  # fmt: skip


def pick(rng: Rng, options: list[Any]) -> Any:
    """One of some options."""
    return options[int(rng.integers(len(options)))]


def span(rng: Rng, n: int, most: int = 64) -> tuple[int, int]:
    """A range inside of 0..n."""
    start = int(rng.integers(n + 1))
    return start, min(n, start + int(rng.integers(1, most)))


def of_bytes(data: bytes, rng: Rng) -> bytes:
    """A few changes anywhere."""
    out = bytearray(data)
    for _ in range(int(rng.geometric(0.5))):
        n = len(out)
        start, stop = span(rng, n)
        way = int(rng.integers(9))
        if way == 0 and n:
            out[int(rng.integers(n))] ^= 1 << int(rng.integers(8))
        elif way == 1 and n:
            out[int(rng.integers(n))] = int(rng.integers(256))
        elif way == 2:
            del out[start:stop]
        elif way == 3:
            out[start:start] = rng.integers(0, 256, int(rng.integers(1, 16))).astype(np.uint8).tobytes()
        elif way == 4:
            out[start:start] = out[start:stop]
        elif way == 5:
            del out[start:]
        elif way == 6:
            width = pick(rng, [1, 2, 4, 8])
            value = pick(rng, INTEGERS) % 256**width
            out[start : start + width] = value.to_bytes(width, pick(rng, ["little", "big"]))
        elif way == 7:
            out[start:stop] = bytes(stop - start)
        else:
            out[start:start] = pick(rng, TOKENS + SEPARATORS).encode("utf-8", "surrogatepass")
    return bytes(out)


def of_text(text: str, rng: Rng, delimiter: str = ",") -> str:
    """A few changes of lines, cells and separators."""
    for _ in range(int(rng.geometric(0.6))):
        lines = text.split("\n")
        k = int(rng.integers(len(lines)))
        cells = lines[k].split(delimiter)
        c = int(rng.integers(len(cells)))
        way = int(rng.integers(9))
        if way <= 3:
            cells[c] = pick(rng, TOKENS)
            lines[k] = delimiter.join(cells)
        elif way == 4:
            del lines[k]
        elif way == 5:
            lines.insert(int(rng.integers(len(lines) + 1)), lines[k])
        elif way == 6:
            cells.insert(c, pick(rng, TOKENS)) if rng.integers(2) else cells.pop(c)
            lines[k] = delimiter.join(cells)
        elif way == 7:
            at = int(rng.integers(len(lines[k]) + 1))
            lines[k] = lines[k][:at] + pick(rng, SEPARATORS) + lines[k][at:]
        else:
            other = lines[k].replace(delimiter, pick(rng, SEPARATORS))
            lines[k] = pick(rng, [lines[k].upper(), other, f'"{lines[k]}"'])
        text = "\n".join(lines)
    return text


def encoded(text: str, rng: Rng) -> bytes:
    """Text as bytes, seldom in another encoding or with other line ends."""
    way = int(rng.integers(12))
    if way == 0:
        return text.encode(pick(rng, ["utf-16", "utf-16-le", "latin-1", "utf-32", "utf-8-sig"]), "replace")
    if way == 1:
        text = text.replace("\n", "\r\n")
    if way == 2:
        return of_bytes(text.encode("utf-8", "surrogatepass"), rng)
    return text.encode("utf-8", "surrogatepass")


def of_json(value: Any, rng: Rng) -> str:
    """JSON text of a value with a few changes of its parts, seldom of the text itself."""
    value = json.loads(json.dumps(value))
    for _ in range(int(rng.geometric(0.7))):
        parts = list(_parts(value))
        holder, key = pick(rng, parts)
        way = int(rng.integers(8))
        if way <= 3:
            holder[key] = copy.deepcopy(pick(rng, VALUES))
        elif way == 4:
            del holder[key]
        elif way == 5 and isinstance(holder, dict):
            holder[pick(rng, ["", "type", "name", str(key).upper(), str(key) + "s"])] = holder.pop(key)
        elif way == 6:
            other, name = pick(rng, parts)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = json.loads(json.dumps(other[name]))
        elif isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
    text = json.dumps(value)
    way = int(rng.integers(14))
    if way == 0 and '"' in text:  # a key, and all up to the next comma, twice
        at = text.index('"')
        end = text.find(",", at)
        text = text[:end] + "," + text[at:end] + text[end:] if end > 0 else text
    if way == 1:
        text = of_bytes(text.encode(), rng).decode("latin-1")
    if way == 2:
        text = pick(rng, ["[" * 100_000, "[]", "1", '"a"', "null", "", "[" + text + "]", text + text])
    return text


def _parts(value: Any) -> Any:
    """Every place of a value: its holder and the key or index."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from _parts(value[key])


def of_zip(members: dict[str, bytes], rng: Rng, change: Callable[[str, bytes], bytes]) -> bytes:
    """An archive with one member changed (or gone, renamed, repeated, encrypted), or damaged as a whole."""
    members = dict(members)
    name = pick(rng, list(members))
    way = int(rng.integers(10))
    if way <= 5:
        members[name] = change(name, members[name])
    elif way == 6:
        del members[name]
    elif way == 7:
        names = ["../x", "/x", "C:/x", name.upper(), "x/", name + ".bz2", "a/" + name]
        members[pick(rng, names)] = members.pop(name)
    buffer = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(buffer, "w", pick(rng, methods)) as archive:
        for member, data in members.items():
            archive.writestr(member or " ", data)
    data = buffer.getvalue()
    if way == 8:  # the bit that says "encrypted", or a method of compression that nobody knows
        at = data.rfind(b"PK\x01\x02")
        changed = bytearray(data)
        changed[at + pick(rng, [8, 10])] = pick(rng, [1, 9, 99])
        data = bytes(changed)
    return of_bytes(data, rng) if way == 9 else data
