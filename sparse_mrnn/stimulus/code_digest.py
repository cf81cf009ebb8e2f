"""A digest of what a Python function computes, which is the same in another process.

It covers the bytecode with that of nested functions and comprehensions, constants, default arguments, the
closure, and the globals that are named, functions among them; of installed packages, names alone.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))


class NoDigestError(Exception):
    """A function uses something whose value cannot be compared with that of another process."""


def code_digest(function: Callable[..., Any]) -> str:
    """A digest of a function or another callable.

    Raises
    ------
    NoDigestError
        If it uses something that has none, such as an open file.

    Examples
    --------
    >>> def constant(a): return lambda t: a
    >>> one, again, two = (code_digest(constant(a)) for a in (1, 1, 2))
    >>> one == again, one == two
    (True, False)
    """
    try:
        return _Digest().of(function)
    except RecursionError:
        raise NoDigestError("a value nested too deeply") from None


class _Digest:
    """Digests of values; ``seen`` are those met, by identity, with their digest once it is known."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, str]] = {}
        self.depth = 0

    def of(self, value: Any) -> str:
        """The digest of a value: of its kind, and of its parts."""
        if isinstance(value, PLAIN):
            return _hashed(type(value).__name__, hex(value) if type(value) is int else repr(value))
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind != "O":
            array = np.ascontiguousarray(value)
            return _hashed("array", array.dtype.str, repr(np.shape(value)), array.tobytes())
        if id(value) not in self.seen:
            self.seen[id(value)] = value, f"holder {self.depth}"  # until then, for what holds itself
            self.depth += 1
            kind, parts = self._parts(value)
            self.seen[id(value)] = value, _hashed(kind, *parts)
            self.depth -= 1
        return self.seen[id(value)][1]

    def _parts(self, value: Any) -> tuple[str, Iterable[str]]:
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return type(value).__name__, [self.of(item) for item in value]
        if type(value) in (set, frozenset):  # in no order: each as if it were alone
            return "set", sorted(_Digest().of(item) for item in value)
        if type(value) is dict:
            return "dict", [self.of(item) for pair in value.items() for item in pair]
        if isinstance(value, np.ndarray):
            return "objects", [self.of(value.tolist())]
        if isinstance(value, FunctionType):
            return "function", self._of_function(value)
        if isinstance(value, MethodType):
            return "method", [self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, functools.partial):
            return "partial", [self.of(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, ModuleType):
            return "module", [value.__name__]
        if isinstance(value, type):
            return "class", self._of_class(value)
        if isinstance(value, property):
            return "property", [self.of(part) for part in (value.fget, value.fset)]
        if isinstance(value, (staticmethod, classmethod)):
            return type(value).__name__, [self.of(value.__func__)]
        if isinstance(value, functools.cached_property):
            return "property", [self.of(value.func)]
        if isinstance(value, (MemberDescriptorType, GetSetDescriptorType, MethodDescriptorType)):
            return "member", [value.__qualname__]
        if isinstance(value, (BuiltinFunctionType, np.ufunc)):
            return "builtin", [getattr(value, "__module__", None) or "", value.__name__]
        if hasattr(value, "detach") and hasattr(value, "numpy"):  # a torch tensor
            return "tensor", [self.of(value.detach().cpu().numpy())]
        return "object", self._of_state(value)

    def _of_function(self, function: FunctionType) -> Iterator[str]:
        if _installed(function.__module__):
            yield f"{function.__module__}.{function.__qualname__}"
            return
        yield from self._of_code(function.__code__, function.__globals__)
        yield self.of(function.__defaults__)
        yield self.of(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                yield "empty"
            else:
                yield self.of(content)

    def _of_code(self, code: CodeType, known: dict[str, Any]) -> Iterator[str]:
        arguments = code.co_argcount + code.co_kwonlyargcount
        yield code.co_code.hex()
        yield repr((code.co_names, code.co_varnames[:arguments], code.co_freevars, code.co_flags))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from self._of_code(constant, known)
            else:
                yield self.of(constant)
        for value in _globals_of(code, known):
            yield self.of(value)

    def _of_class(self, kind: type) -> Iterator[str]:
        yield f"{kind.__module__}.{kind.__qualname__}"
        if not _installed(kind.__module__):
            yield from (self.of(base) for base in kind.__bases__)
            for name, value in sorted(vars(kind).items()):
                if name != "_abc_impl" and (not name.startswith("__") or isinstance(value, FunctionType)):
                    yield name
                    yield self.of(value)

    def _of_state(self, value: Any) -> Iterator[str]:
        """Of an object: what it would be pickled as. Nothing is unpickled."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # whatever a class of the user's does
            raise NoDigestError(f"a {type(value).__module__}.{type(value).__qualname__}") from error
        for part in (reduced,) if isinstance(reduced, str) else reduced:
            yield self.of(list(part) if isinstance(part, Iterator) else part)


def _globals_of(code: CodeType, known: dict[str, Any]) -> Iterator[Any]:
    """Globals that code names, and of a module the attribute it uses; builtins are left out."""
    nothing = object()
    value: Any = nothing
    for step in dis.get_instructions(code):
        if step.opname in ATTRIBUTES and isinstance(value, ModuleType):
            value = getattr(value, str(step.argval), nothing)
            continue
        if value is not nothing:
            yield value
        value = known.get(str(step.argval), nothing) if step.opname in GLOBALS else nothing


@functools.cache
def _installed(module: str | None) -> bool:
    """Whether a module is of Python or of an installed package, whose versions are another matter."""
    found = sys.modules.get(module or "")
    if module in (None, "__main__") or found is None:
        return False
    origin = getattr(found, "__file__", None)
    roots = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return origin is None or any(Path(origin).is_relative_to(root) for root in roots)


def _hashed(*parts: str | bytes) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()
