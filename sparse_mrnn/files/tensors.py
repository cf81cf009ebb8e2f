"""A file of tensors with a JSON header: safetensors, on disk whole or not at all, checked when it is read.

The header is one JSON string in the file's metadata. It holds a digest of itself and of every tensor, so a
file that was cut, changed or put together by hand is told from a sound one. Nothing in a file is executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.atomic import reason, replacing
from sparse_mrnn.files.digest import Digest, add_part

KEY = "sparse_mrnn"
"""Name of the header in the metadata of the file."""
UNCHANGED = "What was there before is unchanged."

Header = dict[str, Any]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class FileFormat:
    """A kind of file and its version; what it is, with an article, and what reads it, for messages."""

    name: str
    version: int
    noun: str
    reader: str


NETWORK = FileFormat("sparse-mrnn network", 1, "a saved network", "sparse_mrnn.load")
CHECKPOINT = FileFormat("sparse-mrnn checkpoint", 1, "a checkpoint", "sparse_mrnn.load_checkpoint")
SHARDED_CHECKPOINT = FileFormat(
    "sparse-mrnn checkpoint of ranks", 1, "a checkpoint of ranks", "sparse_mrnn.distributed.load_checkpoint"
)
RUN = FileFormat("sparse-mrnn run", 1, "a checkpoint of a simulation", "simulate(..., mode='resume')")
FORMATS = {form.name: form for form in (NETWORK, CHECKPOINT, SHARDED_CHECKPOINT, RUN)}
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""How safetensors names the types that it holds."""


def write_tensors(path: Path, form: FileFormat, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write beside ``path``, then rename: the file there is the new one or, after any failure, the old one.

    The header is JSON; the tensors may be on any device.

    Raises
    ------
    SavedFileError
        If it cannot be written, or holds a tensor that is sparse, quantised or of a type safetensors lacks.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
            raise SavedFileError(f"cannot write {path}: {name} is {kind}, and a file holds dense tensors.")
    sizes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_each(path, form, header, sizes, tensors.__getitem__)


def write_each(
    path: Path,
    form: FileFormat,
    header: Header,
    sizes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor_of: Callable[[str], Tensor],
) -> None:
    """Write as `write_tensors` tensors that are made one after another: only one is in memory.

    ``sizes`` has the type and shape of each; ``tensor_of`` is called once for each, by the order of names.

    Raises
    ------
    SavedFileError
        If it cannot be written, or safetensors lacks the type of a tensor.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     write_each(path, NETWORK, {}, {"a": (torch.float32, (2,))}, lambda name: torch.zeros(2))
    ...     read_tensors(path, NETWORK)[1]["a"]
    tensor([0., 0.])
    """
    for name, (dtype, _) in sizes.items():
        if dtype not in DTYPES:
            raise SavedFileError(f"cannot write {path}: {name} is of {dtype}, which safetensors lacks.")
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

    found = Digest(whole)
    try:
        with replacing(path) as partial, open(partial, "r+b") as file:
            first = file.write(start(found.hexdigest()))  # as long as the digest of the whole
            for name in sorted(sizes):
                tensor = tensor_of(name).detach().cpu().contiguous()
                found.add_named(name, tensor)
                file.seek(first + entries[name]["data_offsets"][0])
                file.write(content_of(tensor))
            file.seek(0)
            file.write(start(found.hexdigest()))
    except OSError as error:
        raise SavedFileError(f"cannot write {path}: {reason(error)}. {UNCHANGED}") from error


def content_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row-major."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # one entry, which counts as contiguous whatever its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    content: memoryview = flat.view(torch.uint8).numpy().data
    return content


@add_part.register  # here, so that what needs no torch can have digests without it
def _(part: Tensor, found: Digest) -> None:
    found.add_bytes(f"{part.dtype}\0{tuple(part.shape)}\0".encode(), content_of(part))


def under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def read_tensors(path: Path, form: FileFormat) -> tuple[Header, Tensors]:
    """Header, without its digest, and tensors of a file of this kind, which agrees with its digest.

    The tensors are mapped from the file: what nobody reads takes no memory.

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of another version.
    """
    if not path.is_file():
        raise SavedFileError(f"{path} {'is not a file' if path.exists() else 'does not exist'}.")
    try:
        file: Any = safe_open(path, framework="pt")
        header = _header(path, (file.metadata() or {}).get(KEY), form)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expected, found = header.pop("digest", None), digest_of(header, tensors)
    except (OSError, SafetensorError) as error:
        raise SavedFileError(f"{path} is not {form.noun}: {_what_it_is(path, error)}") from error
    if found != expected:
        raise SavedFileError(f"{path} is damaged: its content does not agree with its digest. Use a copy.")
    return header, tensors


def digest_of(header: Header, tensors: Mapping[str, Tensor]) -> str:
    """The digest that a file of this header and these tensors has."""
    found = Digest(header)
    for name in sorted(tensors):
        found.add_named(name, tensors[name])
    return found.hexdigest()


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


def _header(path: Path, text: str | None, form: FileFormat) -> Header:
    """The header as a dictionary, of this kind and version."""
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
    found = header.get("version")
    if not isinstance(found, int) or isinstance(found, bool):
        raise SavedFileError(f"{path} is damaged: its version is {found!r}. Use a copy.")
    if found != form.version:
        versions = header.get("versions")
        by = f" {versions['sparse_mrnn']}" if isinstance(versions, dict) and KEY in versions else ""
        raise SavedFileError(
            f"{path} was written by another sparse_mrnn{by}: its format has version {found}, and this one "
            f"reads version {form.version}. Read it with that one."
        )
    return header


def _what_it_is(path: Path, error: Exception) -> str:
    """Say what a file is that safetensors cannot read, from its first bytes."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as unreadable:
        return f"it cannot be read ({reason(unreadable)})."
    # Safetensors begins with the length of its header, whose third byte is small if that is below 2 MB.
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
    said = str(error).removeprefix("Error while deserializing header: ")
    return f"it is cut short, damaged, or something else ({said})."
