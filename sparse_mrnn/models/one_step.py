"""`net.step`: what a step needs of a network, kept between calls while nothing that it depends on changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparse_mrnn.checks import true_or_false
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.models.delays import delay_groups
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start, check_tensor
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.sequence.one_step import Matrix, OneStep, Stepped
from sparse_mrnn.ops.torch_modes import ordinary_tensors, refuse_transforms

if TYPE_CHECKING:
    from sparse_mrnn.models.network import mRNNBase

COMPARED = 2**14
"""Values up to which those of a tensor are compared in each call, to find changes that PyTorch does not
count. Of a larger one the sum of its bits is, which costs a sixth of a product."""
UNUSED = ("initial_x", "alpha_low", "alpha_high")
"""Fixed tensors that a step does not read, or that are set with the settings of the network."""
KEY = ("one step",)
"""Key of a `KeptStep` among all that is derived from the synapses, and forgotten with them."""
_lock = threading.Lock()


class Watched:
    """A tensor that a step depends on, as it was: the object, its version, its address and its values.

    PyTorch counts changes in place, but not those through ``.data`` or a numpy array, which are frequent in
    reinforcement learning: ``target.data.copy_(...)``.
    """

    def __init__(self, holder: Mapping[str, Any], name: str, tensor: Tensor) -> None:
        self.holder, self.name, self.tensor = holder, name, tensor
        self.version, self.address, self.trained = tensor._version, tensor.data_ptr(), tensor.requires_grad
        content, self.parts = tensor.detach(), list[Tensor]()
        self.on_cpu = content.device.type == "cpu"
        few = content.numel() <= COMPARED or not content.is_contiguous()
        self.array = content.numpy() if few and self.on_cpu else None
        if self.array is None:
            bits = content.contiguous().view(-1).view(torch.uint8)
            whole = len(bits) // 8 * 8
            self.parts = [bits[:whole].view(torch.int64), bits[whole:]]
        self.value = self.read() if self.on_cpu else 0

    def read(self) -> bytes | int:
        """Return the values or, if they are many, the sum of their bits."""
        return int(self.bits()) if self.array is None else self.array.tobytes()

    def bits(self) -> Tensor:
        """Return the sum of the bits of the values, 64 at a time, without waiting for a device."""
        return self.parts[0].sum() + self.parts[1].sum()

    def is_same(self) -> bool:
        """Return True if nothing has changed; the values on another device than the CPU are not looked at."""
        tensor = self.tensor
        return (
            self.holder.get(self.name) is tensor
            and tensor._version == self.version
            and tensor.data_ptr() == self.address
            and tensor.requires_grad is self.trained
            and (not self.on_cpu or self.read() == self.value)
        )


class KeptStep:
    """A network ready to step, and what it was made from."""

    def __init__(self, net: mRNNBase) -> None:
        self.names = net.equation.states
        self.border, (self.rec, self.inp) = net.border("step"), net.weight_matrices()
        self.derived = self.rec.derived, self.inp.derived
        for weights in (self.rec, self.inp):  # views of parameter groups may have other data
            if weights.views is not None:
                weights.views.follow(weights.values)
            if weights.gain_views is not None and weights.gains is not None:
                weights.gain_views.follow(weights.gains)
        net.step_parameters()  # a model may make parameters when it is first asked for them
        named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        aliases = {name: p.detach().requires_grad_() for name, p in named.items()}
        with torch.enable_grad():
            in_place = {f"net.{name}": alias for name, alias in aliases.items()}
            equation, recurrent, inputs, parameters = functional_call(_Derive(net), in_place, ())
        inside = [t for t in equation.learnt.values() if t.is_leaf]  # the others are made of parameters
        own = [t for t in inside if all(t is not alias for alias in aliases.values())]
        leaves = [*named.values(), *own]
        self.one = OneStep(equation, parameters, recurrent, inputs, list(aliases.values()), leaves)
        self.watched = list(_watched(net))
        self.on_device = [watched for watched in self.watched if not watched.on_cpu]
        self.bits = self._bits() if self.on_device else None
        self.keeps = all(leaf.is_leaf for leaf in leaves) and not _is_transformed(net)
        self.node: Tensor | None = None
        self.sizes = net.layout().n, net.layout("input").n
        self.dtype, self.device = net.dtype, net.device
        delays = [group.delay for group in recurrent.groups]
        late_inputs = [group.delay for group in inputs.groups] if inputs is not None else []
        self.delays, self.input_delays = delays, late_inputs
        self.late, self.late_inputs = max(delays) - 1, max(late_inputs, default=1) - 1

    def is_current(self) -> bool:
        """Return True if nothing that it was made from has changed."""
        derived = self.rec.derived, self.inp.derived
        if not self.keeps or derived[0] is not self.derived[0] or derived[1] is not self.derived[1]:
            return False
        if not all(watched.is_same() for watched in self.watched):
            return False
        return self.bits is None or torch.equal(self._bits(), self.bits)  # the one wait for a device

    def _bits(self) -> Tensor:
        return torch.stack([watched.bits() for watched in self.on_device])

    def step(
        self, net: mRNNBase, u: Tensor, start: Start, stim: Tensor | None, noise: bool
    ) -> NetworkState:
        """Return the state one time step later; arguments as of `mRNNBase.step`."""
        state = self._start(net, u, start)
        batch = state.activity.shape[1]
        if batch == 0:
            return state
        now = u.t().contiguous()
        if stim is not None:
            n = self.sizes[0]
            check_tensor("stim_input", stim, "step")
            self.border.check_shape("stim_input", stim, (batch, n), f"(batch, units) = ({batch}, {n})")
            stim = stim.t().contiguous()
        drawn = None
        if noise is not False and true_or_false(noise, "noise", ConfigError):
            drawn = net.make_noise()
            now = drawn.on_inputs(now[None])[0]
            if drawn.is_learnt:
                learnt = drawn.of_units(state.activity[None])[0]
                stim, drawn = learnt if stim is None else stim + learnt, None
        h, past_h, past_inputs = state.activity, state.past_h, state.past_inputs
        if self.late or self.late_inputs:
            activity = h, *state.h_before(self.late)
            inputs = now, *state.inputs_before(self.late_inputs, len(now))
            sources = [
                *(activity[delay - 1] for delay in self.delays),
                *(inputs[delay - 1] for delay in self.input_delays),
            ]
            past_h = (h, *past_h)[: self.late]
            past_inputs = (now, *past_inputs)[: self.late_inputs]
        else:
            sources, past_h, past_inputs = ([h, now] if self.input_delays else [h]), (), ()
        one, tensors = self.one, (*state.states, *sources, *(() if stim is None else (stim,)))
        if torch.is_grad_enabled() and (one.leaves or any(t.requires_grad for t in tensors)):
            if self.node is None:
                self.node = one.node()
            given = one, drawn, stim is not None, self.node
            *after, h = Stepped.apply(*given, *tensors)  # type: ignore[no-untyped-call]
        else:
            kept = torch.empty_like(h) if one.keeps_more else None
            after, h = one.run(state.states, sources, stim, drawn, kept)
        return NetworkState(self.names, tuple(after), h, past_h, past_inputs)

    def _start(self, net: mRNNBase, u: Tensor, start: Start) -> NetworkState:
        """Check the input, and make a state of the start."""
        n, channels = self.sizes
        if not (isinstance(u, Tensor) and u.dim() == 2 and u.shape[1] == channels and self._is_ours(u)):
            check_tensor("u", u, "step")
            regions = ", ".join(f"{r.name} {r.n}" for r in net.layout("input").regions) or "no inputs"
            self.border.check_shape("u", u, (None, channels), f"(batch, {channels}): {regions}")
        batch = len(u)
        if isinstance(start, NetworkState) and start.names == self.names:
            tensors = start.activity, *start.states
            if all(t.shape == (n, batch) and self._is_ours(t) and t.is_contiguous() for t in tensors):
                return start
        return self.border.start(start, None, batch, net.initial_tensors)

    def _is_ours(self, tensor: Tensor) -> bool:
        return tensor.dtype is self.dtype and tensor.device == self.device


class _Derive(nn.Module):
    """A module that makes what a step needs of a network, for `functional_call`."""

    def __init__(self, net: mRNNBase) -> None:
        super().__init__()
        self.net = net

    def forward(self) -> Any:
        net = self.net
        equation, inp = net.equation, net.weights("input")
        inputs = None
        if not inp.is_empty:
            operand = inp.operand("csr")
            groups = delay_groups(inp, net.dt, operand.operator)
            inputs = Matrix(groups, inp.stored_values(operand))
        parameters = {**net.step_parameters(), **equation.learnt}
        return equation, Matrix(*net.recurrent_groups(net.border("step"))), inputs, parameters


def _watched(net: nn.Module) -> Iterator[Watched]:
    """Every tensor that a network's step may depend on, apart from its structure."""
    for module in net.modules():
        for holder in (module._parameters, module._buffers):
            for name, tensor in holder.items():
                if tensor is not None and tensor.numel():
                    yield Watched(holder, name, tensor)
        if isinstance(module, FixedTensors):
            fixed = vars(module)
            for name in module._fixed:
                tensor = fixed.get(name)
                if tensor is None or name in UNUSED:
                    continue
                if tensor.numel() and tensor.is_floating_point():  # another structure is told by `derived`
                    yield Watched(fixed, name, tensor)
        if isinstance(module, SparseWeights):
            for views in (module.views, module.gain_views):
                for view in () if views is None else views.parameters:
                    yield Watched({"": view}, "", view)


def _is_transformed(net: nn.Module) -> bool:
    """Return True if hooks or parametrisations make parameters, which may be others in each call."""
    return any("parametrizations" in m._modules or m._forward_pre_hooks for m in net.modules())


def step(net: mRNNBase, u: Tensor, start: Start, stim: Tensor | None, noise: bool) -> NetworkState:
    """Make a time step of a network; arguments as of `mRNNBase.step`."""
    refuse_transforms()
    rec = net.weights("recurrent")
    kept: KeptStep | None = rec.derived.get(KEY)
    if kept is None or not kept.is_current():
        with _lock, ordinary_tensors():
            kept = rec.derived[KEY] = KeptStep(net)
    if torch.is_autocast_enabled(net.device.type):
        check_tensor("u", u, "step")
        border, u = kept.border, kept.border.cast(u)
        start = border.start(start, None, len(u), net.initial_tensors)
        stim = stim if stim is None else border.cast(stim)
        with border.full_precision():
            return kept.step(net, u, start, stim, noise)
    if torch.is_inference_mode_enabled():  # buffers are kept, and used outside of it
        with ordinary_tensors():
            return kept.step(net, u, start, stim, noise)
    return kept.step(net, u, start, stim, noise)


def forget_step(rec: SparseWeights) -> None:
    """Make what a step needs anew at the next one, of the network with these recurrent weights."""
    rec.derived.pop(KEY, None)
