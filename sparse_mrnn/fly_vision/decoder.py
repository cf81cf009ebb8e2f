"""A decoder of optic flow: hexagonal convolutions over the activity of cell types in every column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.errors import GraphError, ShapeError, TrainingError
from sparse_mrnn.fly_vision.lattice import hex_columns, hex_positions
from sparse_mrnn.models.fixed_tensors import FixedTensors
from sparse_mrnn.models.network import mRNNBase


class HexConv(FixedTensors):
    """A convolution over a hexagonal lattice, on maps of its axial coordinates.

    Parameters
    ----------
    channels, out_channels : int
    radius : int
        Radius of the kernel in columns; 0: each column for itself.

    Examples
    --------
    >>> HexConv(3, 2, radius=1)(torch.zeros(5, 3, 7, 7)).shape
    torch.Size([5, 2, 7, 7])
    """

    def __init__(self, channels: int, out_channels: int, radius: int) -> None:
        super().__init__()
        offsets = torch.from_numpy(hex_columns(radius)) + radius
        self.radius, side = radius, 2 * radius + 1
        self.fix("slots", offsets[:, 0] * side + offsets[:, 1], persistent=False)
        bound = 1 / math.sqrt(channels * len(offsets))
        weight = torch.empty(out_channels, channels, len(offsets)).uniform_(-bound, bound)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(out_channels))

    slots: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of shape (batch, channels, u, v) to (batch, out_channels, u, v)."""
        side = 2 * self.radius + 1
        square = self.weight.new_zeros(*self.weight.shape[:2], side * side)
        kernel = square.index_copy(2, self.slots, self.weight).view(*self.weight.shape[:2], side, side)
        return nn.functional.conv2d(maps, kernel, self.bias, padding=self.radius)


class FlowDecoder(FixedTensors):
    """Decode optic flow in every column from the activity of the cells of some regions.

    Each region is a channel, each of its units a column, known by its position. Hexagonal convolutions with
    softplus between them end in two channels, the flow to the right and up. Before them, each channel gets
    mean 0 and variance 1, over a batch in training and by running averages in evaluation. A column in which a
    region has no unit counts as one with activity 0.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Its regions have positions as `read_flyvis` makes them. The network is not part of the decoder.
    *regions : str
        Regions or parents, such as "output".
    hidden : sequence of int
        Channels of the layers between; () makes it linear.
    radius : int
        Radius of all kernels, in columns. 0 with hidden=(): one linear readout that all columns share.

    Raises
    ------
    UnknownNameError
        If a region does not exist.
    TrainingError
        If a region has no positions on the hexagonal lattice, or two units in one column.

    References
    ----------
    Lappalainen et al. 2024, Nature 634:1132, decode flow with two such layers of radius 2, of 8 and 2
    channels.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> from sparse_mrnn.fly_vision.lattice import hex_centres
    >>> g = sm.RegionGraph(); g.add_region("T4a", 37, positions=hex_centres(hex_columns(3)))
    >>> decoder = FlowDecoder(sm.mRNN(g, device="cpu"), "T4a", hidden=(8,), radius=2)
    >>> decoder(torch.zeros(4, 10, 37)).shape
    torch.Size([4, 10, 37, 2])
    """

    units: Tensor
    slots: Tensor
    columns: Tensor

    def __init__(self, net: mRNNBase, *regions: str, hidden: Sequence[int] = (8,), radius: int = 2) -> None:
        super().__init__()
        if radius < 0 or any(channels < 1 for channels in hidden):
            what = f"radius {radius!r} and hidden {tuple(hidden)!r}"
            raise TrainingError(f"FlowDecoder: {what} must be at least 0 and 1.")
        layout = net.layout()
        members = layout.members(*regions)
        if not members:
            raise TrainingError("FlowDecoder: name the regions to decode from.")
        of_region = [_columns_of(net, name) for name in members]
        self.extent = max(int(np.abs(columns).max()) for columns in of_region)
        columns = hex_columns(self.extent)
        side = 2 * self.extent + 1
        number = np.zeros((side, side), dtype=np.int64)
        number[tuple((columns + self.extent).T)] = np.arange(len(columns))
        slots = [k * len(columns) + number[tuple((own + self.extent).T)] for k, own in enumerate(of_region)]
        self.shape = (len(members), len(columns))
        indices = {
            "units": layout.indices(*members),
            "slots": np.concatenate(slots),
            "columns": (columns + self.extent) @ [side, 1],
        }
        for name, index in indices.items():
            self.fix(name, torch.from_numpy(index), persistent=False)
        self.normalise = nn.BatchNorm1d(len(members), eps=1e-10, affine=False)
        layers: list[nn.Module] = []
        widths = [len(members), *hidden]
        for channels, out in pairwise(widths):
            layers += [HexConv(channels, out, radius), nn.Softplus()]
        self.layers = nn.Sequential(*layers, HexConv(widths[-1], 2, radius))

    def forward(self, h: Tensor) -> Tensor:
        """Flow from activity.

        Parameters
        ----------
        h : Tensor, shape (batch, time, units)

        Returns
        -------
        Tensor, shape (batch, time, columns, 2)
            Columns are ordered as `hex_columns`.
        """
        if h.dim() != 3 or h.shape[-1] <= int(self.units.max()):
            raise ShapeError(f"FlowDecoder: h has shape {tuple(h.shape)}; expected (batch, time, units).")
        act = h.flatten(0, 1)[:, self.units]
        seen = act.new_zeros(len(act), math.prod(self.shape)).index_copy(1, self.slots, act)
        seen = self.normalise(seen.view(-1, *self.shape))
        side = 2 * self.extent + 1
        maps = seen.new_zeros(*seen.shape[:2], side * side).index_copy(2, self.columns, seen)
        flow: Tensor = self.layers(maps.view(*seen.shape[:2], side, side))
        return flow.flatten(2)[:, :, self.columns].transpose(1, 2).reshape(*h.shape[:2], -1, 2)


def _columns_of(net: mRNNBase, name: str) -> np.ndarray:
    """Column of each unit of a region, shape (units, 2)."""
    positions = net[name].positions
    if positions is None:
        raise TrainingError(f"FlowDecoder: region {name!r} has no positions; give it those of its columns.")
    try:
        columns = hex_positions(positions)
    except GraphError as error:
        raise TrainingError(f"FlowDecoder: region {name!r}: {error}") from None
    if len(np.unique(columns, axis=0)) < len(columns):
        raise TrainingError(f"FlowDecoder: region {name!r} has two units in one column.")
    return columns
