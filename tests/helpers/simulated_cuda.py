"""A CUDA device that is simulated: its tensors say that they are on it, and have their values on the CPU.

What runs on it proves what a machine without a GPU can prove of a device: which tensors are where, that no
operator is given tensors of both, when the host would wait for the device, and which memory is allocated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)
OURS = ("cuda", "meta")
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "unique_dim", "bincount", "equal", "is_nonzero",
    "repeat_interleave", "nonzero_numpy",
}
"""Operators whose result is of a size, or a number, that the host reads from the device."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_", "set_", "lift_fresh", "lift_fresh_copy"}


class DeviceMixError(RuntimeError):
    """An operator was given tensors of the CPU and of the device."""


class OnDevice(Tensor):
    """A tensor of the simulated device; ``inner`` has its values.

    To torch's C++ code it is on the meta device, as autograd looks for the driver of any other.
    """

    inner: Tensor
    device = property(lambda self: CUDA)
    layout = property(lambda self: self.inner.layout)

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        more = dict(dtype=inner.dtype, requires_grad=False)
        if inner.layout == torch.strided:
            more |= dict(strides=inner.stride(), storage_offset=inner.storage_offset())
        made = Tensor._make_wrapper_subclass(cls, inner.shape, device="meta", **more)
        made.inner = inner
        return made

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        SimulatedCuda.entered.waits["tolist"] += 1
        return self.inner.tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise DeviceMixError(f"{func} outside of the simulated device")


class SimulatedCuda(TorchDispatchMode):
    """The device while it is entered.

    ``waits`` counts the operators that the host waits for, by name, and ``allocated`` those that make memory.
    """

    entered: ClassVar[SimulatedCuda]
    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that torch does not look for a driver

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.allocated: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.graph: SimulatedGraph | None = None  # which is being captured
        self.pinned: set[int] = set()  # addresses

    def clear(self) -> None:
        """Forget what was counted."""
        for counter in (self.waits, self.allocated, self.calls):
            counter.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        ours = [t for t in given if isinstance(t, OnDevice)]
        others = [t for t in given if not isinstance(t, OnDevice) and t.dim()]
        if any(t.is_meta for t in others):
            raise DeviceMixError(f"{func}: torch has made a tensor on the meta device, of a list in place of an index, say")
        to = kwargs.get("device")
        if name == "_pin_memory":
            pinned = args[0].clone()
            self.pinned.add(pinned.data_ptr())
            return pinned
        if name in INDEXED and ours and (moved := [t for t in others if any(t is each for each in args[1])]):
            self.waits[f"{name} by a tensor of the host"] += 1  # which torch moves
            others = [t for t in others if all(t is not each for each in moved)]
        if ours and others and name not in COPIES:
            raise DeviceMixError(f"{func} is given tensors of both devices")
        result_here = bool(ours) if to is None else torch.device(to).type in OURS
        if name == "copy_":
            result_here = isinstance(args[0], OnDevice)
            if isinstance(args[1], OnDevice) != result_here and not (args[1].dim() == 0 and result_here):
                self._cross(name, result_here, kwargs.get("non_blocking", len(args) > 2 and args[2]), args[1])
        elif name == "_to_copy" and given and isinstance(given[0], OnDevice) != result_here:
            self._cross(name, result_here, kwargs.get("non_blocking", False), given[0])
        sized = name == "repeat_interleave" and kwargs.get("output_size") is not None
        if ours and not sized and (name in WAITS or (name in INDEXED and _masked(args[1]))):
            self.waits[name] += 1
        if to is not None and torch.device(to).type in OURS:
            kwargs["device"] = torch.device("cpu")
        if name == "_to_copy" and ours and ours[0].inner.layout != torch.strided:
            kwargs.pop("layout", None)  # torch's C++ code takes a wrapper for a dense tensor
        self.calls[name] += 1
        inner_args, inner_kwargs = tree_map_only(OnDevice, lambda t: t.inner, (args, kwargs))
        before = {t.untyped_storage().data_ptr() for t in tree_flatten((inner_args, inner_kwargs))[0] if isinstance(t, Tensor) and t.layout == torch.strided}
        if self.graph is not None:
            found = self.graph.record(func, inner_args, inner_kwargs)
        else:
            found = func(*inner_args, **inner_kwargs)
        if not result_here:
            return found
        known = {id(t.inner): t for t in ours}

        def wrap(t: Tensor) -> Tensor:
            if id(t) in known:
                return known[id(t)]
            if t.layout == torch.strided and t.numel() and t.untyped_storage().data_ptr() not in before:
                self.allocated[name] += 1
            return OnDevice(t)

        return tree_map_only(Tensor, wrap, found)

    def _cross(self, name: str, to_device: bool, non_blocking: bool, source: Tensor) -> None:
        """Count a copy between host and device: it waits unless it is asynchronous, from pinned memory."""
        if not (to_device and non_blocking and source.data_ptr() in self.pinned):
            self.waits[f"{name} to the {'device' if to_device else 'host'}"] += 1


def _masked(indices: Any) -> bool:
    return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in indices)


class SimulatedGraph:
    """A CUDA graph: what is captured is not run, and each replay runs it on the tensors it was captured with."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Any, Any, Any, Any]] = []
        self.generators: list[torch.Generator] = []
        self.saved: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        generator = kwargs.get("generator")
        if generator is not None and generator.initial_seed() not in [g.initial_seed() for g in self.generators]:
            raise RuntimeError("the generator is not registered with the graph that is captured")
        for t in tree_flatten((args, kwargs))[0]:
            if isinstance(t, Tensor):
                storage = t.untyped_storage()
                self.saved.setdefault(storage.data_ptr(), (storage, storage.clone()))
        found = func(*args, **kwargs)
        self.recorded.append((func, args, kwargs, found))
        return found

    @contextmanager
    def capture(self, device: SimulatedCuda) -> Iterator[None]:
        waits, device.graph = device.waits.total(), self
        states = [generator.get_state() for generator in self.generators]
        try:
            yield
        finally:
            device.graph = None
        for storage, content in self.saved.values():
            storage.copy_(content)
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        if device.waits.total() != waits:
            raise RuntimeError(f"the host waits within a capture: {dict(device.waits)}")

    def replay(self) -> None:
        for func, args, kwargs, found in self.recorded:
            again = func(*args, **kwargs)
            for new, old in zip(tree_flatten(again)[0], tree_flatten(found)[0], strict=True):
                if isinstance(new, Tensor) and new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():
                    old.copy_(new)


class SimulatedStream:
    """A stream of the device, on which everything has happened when it is called."""

    def __init__(self, *_: Any) -> None:
        pass

    def wait_stream(self, other: SimulatedStream) -> None:
        pass


class SimulatedGenerator(torch.Generator):
    """A generator that says it is on the device it was made for."""

    def __new__(cls, device: Any = "cpu") -> SimulatedGenerator:
        made = super().__new__(cls, "cpu")
        made.claimed = CUDA if torch.device(device).type == "cuda" else torch.device("cpu")
        return made

    @property
    def device(self) -> torch.device:
        return self.claimed


@contextmanager
def simulated_cuda() -> Iterator[SimulatedCuda]:
    """Simulate a CUDA device: torch says there is one."""
    with ExitStack() as stack:
        stack.enter_context(patch("torch.cuda.is_available", lambda: True))
        stack.enter_context(patch("torch.cuda.current_device", lambda: 0))
        stack.enter_context(patch("torch.Generator", SimulatedGenerator))
        device = SimulatedCuda.entered = SimulatedCuda()
        stack.enter_context(patch("torch.cuda.CUDAGraph", SimulatedGraph))
        stack.enter_context(patch("torch.cuda.graph", lambda graph, **_: graph.capture(device)))
        stack.enter_context(patch("torch.cuda.graphs.graph_pool_handle", lambda: None))
        stack.enter_context(patch("torch.cuda.synchronize", lambda *_: None))
        stack.enter_context(patch("torch.cuda.Stream", SimulatedStream))
        stack.enter_context(patch("torch.cuda.current_stream", SimulatedStream))
        stack.enter_context(patch("torch.cuda.stream", lambda stream: nullcontext()))
        lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes one on the CPU, and moves it where we see it
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        yield stack.enter_context(device)
