"""Lesion or hold one region after the other, and compare the network with the unperturbed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.analysis.dynamics import Dynamics, as_tensor, states
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.analysis.sampling import initial_state, input_currents
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import Axes, axes_or_new


@dataclass(frozen=True, eq=False, repr=False)
class Perturbations(Result):
    """The effect of perturbing each target on each region, and on each measure.

    Parameters
    ----------
    target : ndarray of str, shape (targets,)
    region : ndarray of str, shape (regions,)
    activity_change : ndarray, shape (targets, regions)
        Root mean square of the change of a region's activity, over units, times and trials, relative to that
        of the activity itself.
    measure : ndarray of str, shape (measures,)
    control : ndarray, shape (measures,)
        Measures of the unperturbed network.
    value : ndarray, shape (targets, measures)
    kind : {"lesion", "hold"}
    """

    target: Annotated[NDArray[np.str_], "target"]
    region: Annotated[NDArray[np.str_], "region"]
    activity_change: Annotated[Float, "target", "region"]
    measure: Annotated[NDArray[np.str_], "measure"]
    control: Annotated[Float, "measure"]
    value: Annotated[Float, "target", "measure"]
    kind: str

    COORDINATES: ClassVar[tuple[str, ...]] = ("target", "region", "measure")

    @property
    def change(self) -> Float:
        """Change of the measures, shape (targets, measures): value minus control."""
        return self.value - self.control

    def __str__(self) -> str:
        """The table of measures, one target a line."""
        width = max(len(name) for name in ["control", *self.target.tolist()])
        columns = [max(len(name), 10) for name in self.measure.tolist()]
        head = " " * width + "".join(f"  {n:>{w}}" for n, w in zip(self.measure, columns, strict=True))
        rows = [("control", self.control), *zip(self.target, self.value, strict=True)]
        lines = [
            f"{name:<{width}}" + "".join(f"  {v:>{w}.4g}" for v, w in zip(values, columns, strict=True))
            for name, values in rows
        ]
        return "\n".join([head, *lines])

    def plot(self, ax: Axes | None = None, measure: str | None = None) -> Axes:
        """Draw how far the activity of each region changes; or, with ``measure``, that measure as bars."""
        if measure is not None and measure not in self.measure:
            raise AnalysisError(f"plot: unknown measure {measure!r}; there are {', '.join(self.measure)}.")
        if measure is not None:
            ax = axes_or_new(ax, (1.5 + 0.5 * len(self.target), 3.2))
            column = self.measure.tolist().index(measure)
            ax.bar(range(len(self.target)), self.value[:, column], color="#0072B2")
            ax.axhline(self.control[column], color="0.3", ls="--", lw=1, label="control")
            ax.set_xticks(range(len(self.target)), self.target, rotation=45, ha="right")
            ax.set(ylabel=measure, xlabel=f"target of the {self.kind}")
            ax.legend(frameon=False, fontsize=8)
            return ax
        ax = axes_or_new(ax, (2 + 0.5 * len(self.region), 1.4 + 0.4 * len(self.target)))
        drawn = ax.imshow(self.activity_change, cmap="cividis", vmin=0, aspect="auto")
        ax.set_yticks(range(len(self.target)), self.target)
        ax.set_xticks(range(len(self.region)), self.region, rotation=45, ha="right")
        ax.set(xlabel="region", ylabel=f"target of the {self.kind}")
        ax.figure.colorbar(drawn, ax=ax, label="change of activity / activity (rms)")
        return ax


@torch.no_grad()
def perturbation(
    net: mRNNBase, inputs: Any, *, x0: Any = None, regions: Sequence[str] | None = None,
    kind: Literal["lesion", "hold"] = "lesion", window: tuple[Any, Any] | None = None,
    measures: Mapping[str, Callable[[Tensor], Any]] | None = None, stim: Any = None,
) -> Perturbations:
    """Perturb every region in turn, without noise, and tabulate the effect.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step between units; inputs may have some.
    inputs : array, laid out as for ``forward``
        (trials, time, inputs), or (time, trials, inputs) without batch_first.
    x0 : array, shape (trials, units) or (units,), optional
        x of an mRNN, h of an ElmanmRNN. Default: the network's initial condition.
    regions : sequence of str, optional
        Regions or parents to perturb, one after the other. Default: every region.
    kind : {"lesion", "hold"}
        The activity h of the target is 0, or held at its mean over units' own times and trials in the
        control run.
    window : (first, stop), optional
        Time steps in which it is perturbed; numbers, or arrays with one for each trial. Default: all.
    measures : mapping from names to functions, optional
        Each takes the activity h, laid out like ``inputs`` with the units last, and returns a number:
        accuracy, ...
    stim : array laid out like ``inputs`` with the units last, optional
        Current added to the units.

    Returns
    -------
    Perturbations

    Raises
    ------
    AnalysisError
        If the network has delays, an option is unknown, or a measure returns no number.
    ShapeError, UnknownNameError
        If an argument does not fit the network.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, base_firing=1.0); g.add_region("b", 2)
    >>> g.add_projection("a", "b", initializer=sm.Constant(1.0))
    >>> table = perturbation(sm.mRNN(g, device="cpu"), torch.zeros(1, 50, 0), measures={"mean": torch.mean})
    >>> print(table)
                   mean
    control       1.038
    a                 0
    b            0.4105
    """
    what = "perturbation"
    if kind not in ("lesion", "hold"):
        raise AnalysisError(f"{what}: kind is {kind!r}; use 'lesion' or 'hold'.")
    run = _Run(net, inputs, x0, stim, what)
    targets = net.hid_regions if regions is None else list(regions)
    inside = run.window(window)
    control = run.activity(None, None, inside)
    power, named = run.power(control), dict(measures or {})
    whole = run.measured(control, named)
    value, change = np.empty((len(targets), len(named))), np.empty((len(targets), len(power)))
    for row, target in enumerate(targets):
        units = torch.from_numpy(net.layout().indices(target)).to(net.device)
        level = control[:, units].mean(dim=(0, 2)) if kind == "hold" else control.new_zeros(len(units))
        h = run.activity(units, level, inside)
        value[row] = run.measured(h, named)
        with np.errstate(divide="ignore", invalid="ignore"):
            change[row] = np.nan_to_num(np.sqrt(run.power(h - control) / power), posinf=np.inf)
    region, measure = np.array(net.hid_regions), np.array(list(named), dtype=np.str_)
    return Perturbations(np.array(targets), region, change, measure, np.array(whole), value, kind)


class _Run:
    """Runs of one network over the same inputs from one start; activity has shape (time, units, trials)."""

    def __init__(self, net: mRNNBase, inputs: Any, x0: Any, stim: Any, what: str) -> None:
        self.net, self.what = net, what
        self.dynamics = Dynamics.of(net, what=what)
        u = self._sequence(inputs, net.layout("input").n, "inputs")
        self.steps, _, self.trials = u.shape
        self.currents = input_currents(net, u)
        if stim is not None:
            current = self._sequence(stim, self.dynamics.n, "stim")
            if current.shape != self.currents.shape:
                raise ShapeError(f"{what}: stim has other trials or times than inputs.")
            self.currents = self.currents + current
        start = initial_state(net, self.dynamics) if x0 is None else states(net, x0, "x0", what=what)
        if start.shape[1] not in (1, self.trials):
            raise ShapeError(f"{what}: x0 has {start.shape[1]} states for {self.trials} trials.")
        self.start = start.expand(-1, self.trials)

    def _sequence(self, values: Any, width: int, name: str) -> Tensor:
        """(time, width, trials) from the layout of ``forward``."""
        given = as_tensor(values)
        if given.dim() != 3 or given.shape[2] != width or 0 in given.shape[:2]:
            order = "trials, time" if self.net.batch_first else "time, trials"
            got = tuple(given.shape)
            raise ShapeError(f"{self.what}: {name} have shape {got}; expected ({order}, {width}).")
        given = given.permute(1, 2, 0) if self.net.batch_first else given.permute(0, 2, 1)
        return given.to(self.net.device, torch.float64)

    def window(self, window: tuple[Any, Any] | None) -> Tensor:
        """Mask of the steps of each trial in the window, shape (time, trials)."""
        time = torch.arange(self.steps, device=self.net.device)[:, None]
        if window is None:
            return torch.ones_like(time, dtype=torch.bool).expand(-1, self.trials)
        first, stop = (as_tensor(end).to(self.net.device).reshape(-1) for end in window)
        if len(first) not in (1, self.trials) or len(stop) not in (1, self.trials):
            raise ShapeError(f"{self.what}: window takes numbers, or one for each of {self.trials} trials.")
        return ((time >= first) & (time < stop)).expand(-1, self.trials)

    def activity(self, units: Tensor | None, level: Tensor | None, inside: Tensor) -> Tensor:
        """h of every step, with that of some units at a level inside the window."""
        dynamics, state = self.dynamics, self.start
        h = dynamics.activity(state)
        found = torch.empty_like(self.currents)
        for t in range(self.steps):
            if units is not None and level is not None:  # what the units send, after the last step
                h = h.clone()
                h[units] = torch.where(inside[max(t - 1, 0)], level[:, None], h[units])
            state, h = dynamics.advance(state, h, self.currents[t])
            found[t] = h
        if units is not None and level is not None:
            found[:, units] = torch.where(inside[:, None], level[:, None], found[:, units])
        return found

    def power(self, h: Tensor) -> Float:
        """Mean square of the activity of each region, shape (regions,)."""
        parts = (h[:, self.net.layout().slice(name)] for name in self.net.hid_regions)
        return np.array([float(part.square().mean()) for part in parts])

    def measured(self, h: Tensor, measures: Mapping[str, Callable[[Tensor], Any]]) -> list[float]:
        """Every measure of an activity laid out as ``forward`` returns it."""
        laid_out = h.permute(2, 0, 1) if self.net.batch_first else h.permute(0, 2, 1)
        found = []
        for name, measure in measures.items():
            value = measure(laid_out.to(self.net.dtype))
            try:
                found.append(float(value))
            except (TypeError, ValueError, RuntimeError):
                got = f"returned a {type(value).__name__}, not one number"
                raise AnalysisError(f"{self.what}: measure {name!r} {got}.") from None
        return found
