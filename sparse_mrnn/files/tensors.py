"""A file of tensors with a JSON header: safetensors, on disk whole or not at all, checked when it is read.

The header is one JSON string in the file's metadata. It holds a digest of itself and of every tensor, so a
file that was cut, changed or put together by hand is told from a sound one. Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.atomic import replacing

KEY = "sparse_mrnn"
"""Where the header is in the metadata of the file."""
UNCHANGED = "What was there before is unchanged."

Header = dict[str, Any]
Tensors = dict[str, Tensor]
Upgrade = Callable[[Header, Tensors], tuple[Header, Tensors]]


@dataclass(frozen=True)
class FileFormat:
    """A kind of file and its version.

    Parameters
    ----------
    name : str
        As the header has it.
    version : int
        What is written, and the newest that is read.
    noun, reader : str
        What it is, with an article, and what reads it, for messages.
    upgrades : dict of int to callable
        From a version to a function (header, tensors) -> (header, tensors) of the next one. A file of an old
        version goes through all that follow.
    """

    name: str
    version: int
    noun: str
    reader: str
    upgrades: dict[int, Upgrade] = field(default_factory=dict)


NETWORK = FileFormat("sparse-mrnn network", 1, "a saved network", "sparse_mrnn.load")
CHECKPOINT = FileFormat("sparse-mrnn checkpoint", 1, "a checkpoint", "sparse_mrnn.load_checkpoint")
SHARDED_CHECKPOINT = FileFormat(
    "sparse-mrnn checkpoint of ranks", 1, "a checkpoint of ranks", "sparse_mrnn.distributed.load_checkpoint"
)
FORMATS = {form.name: form for form in (NETWORK, CHECKPOINT, SHARDED_CHECKPOINT)}
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
"""How safetensors names the types that `write_each` writes."""


def write_tensors(path: Path, form: FileFormat, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write beside ``path``, then rename: the file there is the new one or, after any failure, the old one.

    Parameters
    ----------
    path : Path
    form : FileFormat
    header : dict
        JSON.
    tensors : mapping of str to Tensor
        On any device; none is changed.

    Raises
    ------
    SavedFileError
        If it cannot be written, or a tensor is sparse or quantised.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
            raise SavedFileError(f"cannot write {path}: {name} is {kind}, and a file holds dense tensors.")
    parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    whole = {"format": form.name, "version": form.version, **header}
    text = json.dumps({**whole, "digest": digest_of(whole, parts)})
    try:
        with replacing(path) as partial:
            save_file(_unshared(parts), partial, metadata={KEY: text})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
        raise SavedFileError(f"cannot write {path}: {reason}. {UNCHANGED}") from error


def write_each(
    path: Path,
    form: FileFormat,
    header: Header,
    sizes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor_of: Callable[[str], Tensor],
) -> None:
    """As `write_tensors`, of tensors that are made one after another: only one is in memory.

    Parameters
    ----------
    path, form, header
        As there.
    sizes : mapping of str to (torch.dtype, tuple of int)
        Type and shape of each tensor.
    tensor_of : callable
        From a name to its tensor; it is called once for each, in the order of the names.

    Raises
    ------
    SavedFileError
        If it cannot be written, or a type is none that safetensors has.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     write_each(path, NETWORK, {}, {"a": (torch.float32, (2,))}, lambda name: torch.zeros(2))
    ...     read_tensors(path, NETWORK)[1]
    {'a': tensor([0., 0.])}
    """
    for name, (dtype, _) in sizes.items():
        if dtype not in DTYPES:
            raise SavedFileError(f"cannot write {path}: {name} is of {dtype}, which safetensors has not.")
    whole = {"format": form.name, "version": form.version, **header}
    entries: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in sorted(sizes.items(), key=lambda item: -item[1][0].itemsize):  # aligned
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [begin, end]}

    def start(digest: str) -> bytes:
        text = json.dumps({**whole, "digest": digest})
        content = json.dumps({"__metadata__": {KEY: text}, **entries}).encode()
        content += b" " * (-len(content) % 8)
        return len(content).to_bytes(8, "little") + content

    found = _digest(whole)
    try:
        with replacing(path) as partial, open(partial, "r+b") as file:
            first = file.write(start("0" * 2 * found.digest_size))  # as long as with the digest
            for name in sorted(sizes):
                content = _add_to_digest(found, name, tensor_of(name))
                file.seek(first + entries[name]["data_offsets"][0])
                file.write(content)
            file.seek(0)
            file.write(start(found.hexdigest()))
    except OSError as error:
        raise SavedFileError(f"cannot write {path}: {error.strerror}. {UNCHANGED}") from error


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a file by name, each mapped from the file when it is asked for."""

    def __init__(self, file: Any) -> None:
        self._file, self._names = file, tuple(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_each(path: Path, form: FileFormat) -> tuple[Header, StoredTensors]:
    """As `read_tensors`, of tensors that are read one after another; of the present version only.

    Raises
    ------
    SavedFileError
        As `read_tensors`.
    """
    header, tensors = _checked(path, form)
    if header["version"] != form.version:
        raise SavedFileError(f"{path} is of version {header['version']}, which is not read any more.")
    return header, tensors


def read_tensors(path: Path, form: FileFormat) -> tuple[Header, Tensors]:
    """Header, without its digest, and tensors of a file of this kind, upgraded to its present version.

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of a newer version.
    """
    header, stored = _checked(path, form)
    tensors = dict(stored)
    for version in range(header["version"], form.version):
        header, tensors = form.upgrades[version](header, tensors)
        header["version"] = version + 1
    return header, tensors


def _checked(path: Path, form: FileFormat) -> tuple[Header, StoredTensors]:
    """Header and tensors of a file that agrees with its digest."""
    if not path.is_file():
        raise SavedFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}.")
    try:
        file: Any = safe_open(path, framework="pt")
        header = _header(path, (file.metadata() or {}).get(KEY), form)
        tensors = StoredTensors(file)
        found = digest_of({name: value for name, value in header.items() if name != "digest"}, tensors)
    except (OSError, SafetensorError) as error:
        raise SavedFileError(f"{path} is not {form.noun}: {_what_it_is(path, error)}") from error
    if header.pop("digest", None) != found:
        raise SavedFileError(f"{path} is damaged: its content does not agree with its digest. Use a copy.")
    return header, tensors


def format_of(path: Path) -> str | None:
    """The kind of a file that `write_tensors` wrote, from its header alone; None of any other file."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {}).get(KEY, "null"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None
    name = found.get("format") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def digest_of(header: Header, tensors: Mapping[str, Tensor]) -> str:
    """Digest of a JSON header and of names, types, shapes and bytes of tensors, in hexadecimal digits.

    >>> digest_of({}, {"a": torch.zeros(2)}) == digest_of({}, {"a": torch.zeros(2, dtype=torch.int32)})
    False
    """
    found = _digest(header)
    for name in sorted(tensors):
        _add_to_digest(found, name, tensors[name])
    return found.hexdigest()


def _digest(header: Header) -> hashlib.blake2b:
    return hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)


def _add_to_digest(found: hashlib.blake2b, name: str, tensor: Tensor) -> memoryview:
    """Add name, type, shape and bytes of a tensor; return the bytes."""
    tensor = tensor.detach().cpu().contiguous()
    found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    flat = tensor.reshape(-1)
    if flat.stride(0) != 1:  # one entry, which counts as contiguous whatever its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    content: memoryview = flat.view(torch.uint8).numpy().data
    found.update(content)
    return content


def _header(path: Path, text: str | None, form: FileFormat) -> Header:
    """The header as a dictionary, of this kind and of a version that can be read."""
    if text is None:
        raise SavedFileError(f"{path} is not {form.noun}: it is a safetensors file of other software.")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SavedFileError(f"{path} is damaged: its header is not JSON ({error}). Use a copy.") from None
    if not isinstance(header, dict) or "format" not in header:
        raise SavedFileError(f"{path} is damaged: its header does not say what it is. Use a copy.")
    if header["format"] != form.name:
        other = FORMATS.get(str(header["format"]))
        what = f"it is {other.noun}; read it with {other.reader}" if other else "it is something else"
        raise SavedFileError(f"{path} is not {form.noun}: {what}.")
    version = header.get("version")
    oldest = min(form.upgrades, default=form.version)
    if not isinstance(version, int) or isinstance(version, bool) or version < oldest:
        raise SavedFileError(f"{path} is damaged: its version is {version!r}. Use a copy.")
    if version > form.version:
        versions = header.get("versions")
        by = f" {versions['sparse_mrnn']}" if isinstance(versions, dict) and KEY in versions else ""
        raise SavedFileError(
            f"{path} was written by a newer sparse_mrnn{by}: its format has version {version}, and this one "
            f"reads up to {form.version}. Install a newer one."
        )
    return header


def _what_it_is(path: Path, error: Exception) -> str:
    """What a file is that safetensors cannot read, from its first bytes."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as unreadable:
        return f"it cannot be read ({unreadable.strerror})."
    # Safetensors begins with the length of its header, whose third byte is small where that is below 2 MB.
    pickled = start[:1] == b"\x80" and b"\2" <= start[1:2] <= b"\5" and start[2:3] >= b" "
    if start.startswith(b"PK\x03\x04") or pickled:
        return (
            "it is of torch.save or pickle. A state dict loads with net.load_state_dict(torch.load(path, "
            "weights_only=True)), one of mRNNTorch with sparse_mrnn.interop.from_mrnntorch."
        )
    if start.startswith(b"\x89HDF"):
        return "it is an HDF5 file; sparse_mrnn.interop.read_sonata reads a SONATA network."
    if start.lstrip().startswith((b"{", b"[")):
        return "it is JSON; mRNN(path) reads a configuration."
    reason = str(error).removeprefix("Error while deserializing header: ")
    return f"it is cut short, damaged, or something else ({reason})."


def _unshared(tensors: Tensors) -> Tensors:
    """The tensors, with a copy of each that shares its memory with one before it: safetensors takes none."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        start = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if tensor.numel() and start in seen else tensor
        seen.add(start)
    return found

