"""A network within torch.compile: one operator forward and one backward, with the graph around them whole.

The compiler sees what the operators read and return, and calls them as it calls any kernel. Within, the
network runs as it always does, with the parameters it is given, and autograd's graph of it waits for the
backward pass: it is kept under a number, which is returned as a tensor, until that tensor is gone.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.func import functional_call

if TYPE_CHECKING:
    from sparse_mrnn.models.network import mRNNBase

_networks: weakref.WeakValueDictionary[int, mRNNBase] = weakref.WeakValueDictionary()
_graphs: dict[int, tuple[list[Tensor], tuple[Tensor, ...]]] = {}
"""Tensors that a pass was given and that need a gradient, and what it returned, by the number of the pass."""
_numbers = itertools.count(1)
GIVEN = ("inp", "h0", "stim")
"""Tensors that come before the start and the parameters, "1" or "0" of each in the settings of a call."""


def register(net: mRNNBase) -> int:
    """Return a number by which the operators find a network."""
    number = next(_numbers)
    _networks[number] = net
    return number


class _Ticket:
    """The memory of the number of a pass; the graph of the pass is forgotten when it is freed."""

    def __init__(self, number: int) -> None:
        self.content = np.array([number], dtype=np.int64)
        weakref.finalize(self, _graphs.pop, number, None)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        found: dict[str, Any] = self.content.__array_interface__
        return found


@contextmanager
def _autograd() -> Iterator[None]:
    """Let autograd follow what runs within an operator, which torch calls below it."""
    keys, excluded = torch._C.DispatchKey, torch._C._SetExcludeDispatchKeyGuard
    allowed = excluded(keys.AutogradFunctionality, False), excluded(keys.ADInplaceOrView, False)
    with allowed[0], allowed[1], torch.enable_grad():
        yield


@dataclass(frozen=True)
class _Call:
    """The arguments of a call besides tensors, as the text that the operators take."""

    given: tuple[bool, ...]
    start: int
    noise: bool
    checkpoint_steps: int | str | None
    regions: tuple[str, ...] | None
    needs: tuple[bool, ...]
    """If each tensor needs a gradient."""

    @staticmethod
    def read(text: str) -> _Call:
        given, start, noise, steps, needs, has_regions, *regions = text.split("\n")
        checkpoint_steps = None if steps == "None" else int(steps) if steps.isdecimal() else steps
        names = tuple(regions) if has_regions == "1" else None
        flags, needed = (tuple(flag == "1" for flag in each) for each in (given, needs))
        return _Call(flags, int(start), noise == "1", checkpoint_steps, names, needed)


class _Running(nn.Module):
    """A network, for `functional_call`: its own ``forward`` may be a user's."""

    def __init__(self, net: mRNNBase) -> None:
        super().__init__()
        self.net = net

    def forward(self, *args: Any) -> Any:
        return self.net._run(*args)


def run_compiled(
    net: mRNNBase,
    number: int,
    inp: Tensor,
    start: Tensor | tuple[Tensor, ...] | None,
    h0: Tensor | None,
    stim: Tensor | None,
    noise: bool,
    checkpoint_steps: int | str | None,
    regions: str | Sequence[str] | None,
) -> Any:
    """Call the network as an operator, from code that is being compiled; arguments as of ``forward``."""
    begun = () if start is None else (start,) if isinstance(start, Tensor) else tuple(start)
    optional = [inp, *(t for t in (h0, stim) if t is not None)]
    tensors = [*optional, *begun, *(p for _, p in _parameters(net, len(begun)))]
    enabled = torch.is_grad_enabled()
    needs = "".join(["1" if enabled and t.requires_grad else "0" for t in tensors])
    given = f"1{int(h0 is not None)}{int(stim is not None)}"
    names = [] if regions is None else [regions] if isinstance(regions, str) else list(regions)
    kind = -1 if isinstance(start, Tensor) else len(begun)
    parts = [given, str(kind), str(int(noise)), str(checkpoint_steps), needs]
    settings = "\n".join([*parts, str(int(regions is not None)), *names])
    found = torch.ops.sparse_mrnn.forward(number, settings, tensors)[:-1]
    return found[0] if len(found) == 1 else tuple(found)


def _parameters(net: mRNNBase, start: int) -> list[tuple[str, Tensor]]:
    """Parameters that a call uses, by name: none of the initial state if a start is given."""
    return [(name, p) for name, p in net.named_parameters() if name != "init" or not start]


def _arguments(call: _Call, tensors: list[Tensor]) -> tuple[list[Any], list[Tensor]]:
    """Arguments of ``_run``, and the parameters."""
    rest = iter(tensors)
    inp, h0, stim = (next(rest) if flag else None for flag in call.given)
    begun = tuple(itertools.islice(rest, abs(call.start)))
    start: Any = begun[0] if call.start == -1 else begun or None
    return [inp, start, h0, stim, call.noise, None, call.checkpoint_steps, call.regions], list(rest)


def _forward(number: int, settings: str, tensors: list[Tensor]) -> list[Tensor]:
    """Run a network; returns its sequences, and the number of the pass."""
    net, call = _networks[number], _Call.read(settings)
    with _autograd() if any(call.needs) else torch.no_grad():
        given = [t.detach().requires_grad_(need) for t, need in zip(tensors, call.needs, strict=True)]
        arguments, parameters = _arguments(call, given)
        names = (f"net.{name}" for name, _ in _parameters(net, call.start))
        found = functional_call(_Running(net), dict(zip(names, parameters, strict=True)), tuple(arguments))
    sequences = found if isinstance(found, tuple) else (found,)
    ticket = next(_numbers)
    if any(call.needs):
        _graphs[ticket] = given, sequences
    kept = torch.from_numpy(np.asarray(_Ticket(ticket)))
    return [*(t.detach() for t in sequences), kept]


def _fake_forward(number: int, settings: str, tensors: list[Tensor]) -> list[Tensor]:
    net, call = _networks[number], _Call.read(settings)
    (inp, *_), _rest = _arguments(call, tensors)
    batch, steps = inp.shape[:2] if net.batch_first else (inp.shape[1], inp.shape[0])
    units = net.layout().n if call.regions is None else len(net.layout().indices(*call.regions))
    with unset_fake_temporarily():  # an equation reads its rate from a tensor
        equation = net.equation
    count = 1 if equation.coordinate == "h" else len(equation.states) + 1
    order = (2, 0, 1) if net.batch_first else (0, 2, 1)
    sequences = [inp.new_empty(steps, units, batch).permute(order) for _ in range(count)]
    return [*sequences, torch.empty(1, dtype=torch.int64, device="cpu")]


def _backward(
    ticket: Tensor,
    sequences: list[Tensor],
    grads: list[Tensor],
    places: list[int],
    tensors: list[Tensor],
    needed: list[int],
) -> list[Tensor]:
    """Gradients of a pass for the ``tensors`` at ``needed``, from those of its sequences at ``places``.

    The sequences are taken so that nothing is written to them before: the pass keeps their memory.
    """
    given, found = _graphs[int(ticket)]
    outputs, wanted = [found[k] for k in places], [given[k] for k in needed]
    results = torch.autograd.grad(outputs, wanted, grads, retain_graph=True, materialize_grads=True)
    seen, own = {t.untyped_storage().data_ptr() for t in (*grads, *sequences, *tensors)}, []
    for grad, like in zip(results, tensors, strict=True):
        # What an operator returns shares no memory, and has the strides that it announced
        promised = torch.empty_like(like)
        ours = grad.untyped_storage().data_ptr() not in seen and grad.stride() == promised.stride()
        own.append(grad if ours else promised.copy_(grad))
        seen.add(own[-1].untyped_storage().data_ptr())
    return own


def _fake_backward(
    ticket: Tensor,
    sequences: list[Tensor],
    grads: list[Tensor],
    places: list[int],
    tensors: list[Tensor],
    needed: list[int],
) -> list[Tensor]:
    return [torch.empty_like(t) for t in tensors]


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.set_materialize_grads(False)
    _, settings, tensors = inputs
    ctx.needed = [k for k, need in enumerate(_Call.read(settings).needs) if need]
    ctx.count = len(tensors)
    ctx.save_for_backward(*output, *(tensors[k] for k in ctx.needed))


def _back(ctx: Any, grads: Any) -> tuple[None, None, list[Tensor | None]]:
    *sequences, ticket = ctx.saved_tensors[: len(grads)]
    tensors = list(ctx.saved_tensors[len(grads) :])
    places = [k for k in range(len(sequences)) if grads[k] is not None]
    of_sequences = [grads[k] for k in places]
    found: list[Tensor | None] = [None] * ctx.count
    results = torch.ops.sparse_mrnn.backward(ticket, sequences, of_sequences, places, tensors, ctx.needed)
    for k, grad in zip(ctx.needed, results, strict=True):
        found[k] = grad
    return None, None, found


# torch.library.custom_op would check in every call that no memory is shared, which takes half a millisecond
_library: Any = torch.library.Library("sparse_mrnn", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("forward(int number, str settings, Tensor[] tensors) -> Tensor[]")
_library.define(
    "backward(Tensor ticket, Tensor[] sequences, Tensor[] grads, int[] places, Tensor[] tensors, "
    "int[] needed) -> Tensor[]"
)
for _name, _function, _fake in (
    ("forward", _forward, _fake_forward),
    ("backward", _backward, _fake_backward),
):
    _library.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"sparse_mrnn::{_name}", _fake, lib=_library)
torch.library.register_autograd("sparse_mrnn::forward", _back, setup_context=_save, lib=_library)
