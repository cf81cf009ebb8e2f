"""One time step of a network as a plain torch module, for torch.export, ONNX and other runtimes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import ConversionError
from sparse_mrnn.models.delays import steps_of
from sparse_mrnn.models.exports import refuse_low_rank
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.step import CONDUCTANCE


class NetworkStep(nn.Module):
    """A time step in gather, multiply and scatter-add, which every exporter knows; see `step_module`.

    Buffers are the effective weights with their rows and columns, and the parameters of the model's step,
    whose equation it runs.
    """

    rec_row: Tensor
    rec_col: Tensor
    rec_weight: Tensor
    inp_row: Tensor
    inp_col: Tensor
    inp_weight: Tensor

    def __init__(self, net: mRNNBase) -> None:
        super().__init__()
        for weights in net.weight_matrices():
            name = "rec" if weights.kind == "recurrent" else "inp"
            self.register_buffer(f"{name}_row", weights.pattern.row.long())
            self.register_buffer(f"{name}_col", weights.col.long())
            self.register_buffer(f"{name}_weight", weights.csr_values().detach().clone())
        self.equation, self.names = net.equation, tuple(net.step_parameters())
        for name, parameter in net.step_parameters().items():
            self.register_buffer(name, parameter.detach().clone())

    def forward(self, x: Tensor, h: Tensor, inp: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """The next x and h, from x and h of shape (batch, units) and inputs of shape (batch, channels).

        A model with more states a unit takes and returns them behind these.
        """
        states = x, *more
        current = torch.zeros_like(h)
        current = current.index_add(1, self.rec_row, h.index_select(1, self.rec_col) * self.rec_weight)
        current = current.index_add(1, self.inp_row, inp.index_select(1, self.inp_col) * self.inp_weight)
        parameters = {name: self.get_buffer(name) for name in self.names}
        if self.equation.electrical is not None:
            exchanged = self.equation.electrical.plain_current(x.t(), parameters[CONDUCTANCE])
            current = current + exchanged.t()
        after = self.equation.step(tuple(state.t() for state in states), current.t(), parameters)
        first, *others = (state.t() for state in after)
        return (first, self.equation.activity(after).t(), *others)


def step_module(net: mRNNBase) -> NetworkStep:
    """One time step of a network as a module of plain torch operations, without noise and stimulation.

    ``torch.export`` and ``torch.onnx.export`` take it; a whole network they do not, since its recurrence is a
    function with its own backward pass over sparse matrices. Equal to the network to rounding. It needs
    memory for a number per synapse and trial.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Its weights are copied as they are now.

    Returns
    -------
    NetworkStep
        ``step(x, h, inp)`` is the next ``(x, h)``, all of shape (batch, ...).

    Raises
    ------
    ConversionError
        If the network has delays, for which one step is not enough, or projections of low rank.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, device="cpu")
    >>> step = step_module(net)
    >>> x, h = step(*net.batched_initial_condition(2), torch.zeros(2, 0))
    >>> h.shape
    torch.Size([2, 3])
    """
    refuse_low_rank(net.weight_matrices(), "step_module")
    for weights in net.weight_matrices():
        steps = steps_of(weights, net.dt)
        for name, delay, count in zip(weights.projections, weights.delays, steps, strict=True):
            if count > 1:
                raise ConversionError(f"step_module: {projection_label(*name)} has a delay of {delay:g} ms.")
    return NetworkStep(net)
