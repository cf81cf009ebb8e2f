"""The errors sparse_mrnn raises: each says what is wrong, where, and what to do.

Every class also derives from the built-in a Python user would catch (``ValueError``, ``KeyError``,
``RuntimeError``, ``ImportError``), so both habits work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SparseMRNNError(Exception):
    """Base class of every error raised on purpose by sparse_mrnn."""


class GraphError(SparseMRNNError, ValueError):
    """A region or projection is declared in a way that cannot be built."""


class UnknownNameError(SparseMRNNError, KeyError):
    """A region, projection or unit is asked for by a name that does not exist."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return Exception.__str__(self)


class ConnectivityError(SparseMRNNError, ValueError):
    """A connection rule cannot be satisfied, for example a fan-in larger than the source."""


class WeightError(SparseMRNNError, ValueError):
    """Explicit weights have the wrong shape, sign, or values that are not finite."""


class ConfigError(SparseMRNNError, ValueError):
    """A configuration file or dictionary is not valid."""


class SettingError(SparseMRNNError, AttributeError):
    """An attribute of a network is set that it does not have, or that cannot be changed."""


class ShapeError(SparseMRNNError, ValueError):
    """A tensor given to a model has the wrong shape, dtype or device."""


class ActivationError(SparseMRNNError, ValueError):
    """An activation function is not known."""


class FinalizeError(SparseMRNNError, RuntimeError):
    """A network is used before, or changed after, its connectivity was finalised."""


class StateDictError(SparseMRNNError, RuntimeError):
    """A state dict is damaged, or of a network declared otherwise; the message names what differs."""


class SpectralError(SparseMRNNError, RuntimeError):
    """A spectral radius could not be certified, or weights cannot be scaled to one."""


class SpectralInputError(SpectralError, ValueError):
    """A matrix has no spectrum to speak of (not square, not finite, empty), or an option is out of range."""


class SpectralConvergenceError(SpectralError):
    """A spectral search ended without a certified value.

    ``lower`` and ``upper`` are the best bounds known (None: no bound), ``best`` the best uncertified value.
    """

    def __init__(
        self,
        message: str,
        *,
        lower: float | None = None,
        upper: float | None = None,
        best: float | None = None,
    ) -> None:
        super().__init__(message)
        self.lower, self.upper, self.best = lower, upper, best


class SizeError(SparseMRNNError, ValueError):
    """A dense matrix was asked for that would be too large to make by accident."""


class StimulusError(SparseMRNNError, ValueError):
    """A stimulus does not fit the network or the simulated time."""


class InterventionError(StimulusError):
    """A lesion, clamp or gain change does not fit the network, or contradicts another."""


class RecordingError(SparseMRNNError, RuntimeError):
    """A recording could not be written or read."""


class ResumeError(RecordingError):
    """A simulation cannot be continued: what is on disk belongs to another network or other options."""


class SimulationStopped(SparseMRNNError, RuntimeError):  # noqa: N818 - stopping is not anyone's error
    """A simulation was interrupted at ``done`` ms; ``recording`` is what was recorded, an xarray Dataset."""

    def __init__(self, done: float, duration: float, recording: object = None, hint: str = "") -> None:
        super().__init__(f"stopped at {done:g} of {duration:g} ms{hint}")
        self.done, self.duration, self.recording = done, duration, recording


class SweepStopped(SparseMRNNError, RuntimeError):  # noqa: N818 - stopping is not anyone's error
    """A sweep was interrupted after ``done`` of ``total`` runs; ``results`` has these: a Dataset, or None."""

    def __init__(self, done: int, total: int, results: object = None, hint: str = "") -> None:
        super().__init__(f"stopped after {done:,} of {total:,} runs{hint}")
        self.done, self.total, self.results = done, total, results


class DivergenceError(SparseMRNNError, ArithmeticError, RuntimeError):
    """A state, weight or gradient is NaN or infinite: at ``step`` (``time`` ms) in ``region``, or
    ``projection``."""

    def __init__(
        self,
        message: str,
        time: float | None = None,
        region: str = "",
        recording: object = None,
        *,
        step: int | None = None,
        projection: tuple[str, str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.time, self.region, self.recording = time, region, recording
        self.step, self.projection = step, projection


class OptimizerError(SparseMRNNError, ValueError):
    """An optimiser's state cannot follow a change of the synapses."""


class AnalysisError(SparseMRNNError, ValueError):
    """An analysis is asked for something this network, state or result does not have."""


class TrainingError(SparseMRNNError, ValueError):
    """A training utility is asked for something it cannot do with this network."""


class SavedFileError(SparseMRNNError, ValueError):
    """A saved network or a checkpoint cannot be written or read, or belongs to another network."""


class ConversionError(SparseMRNNError, ValueError):
    """A network cannot be turned into, or made from, that of other software."""


class DistributedError(SparseMRNNError, RuntimeError):
    """Ranks disagree, are not as many as asked for, or one of them has ended."""


class ConnectomeError(SparseMRNNError, ValueError):
    """A connectome's file or table cannot be imported; the message names file, line and column."""


class BenchmarkError(SparseMRNNError, RuntimeError):
    """A benchmark cannot run as asked, or two entries that should agree do not."""


class MissingExtraError(SparseMRNNError, ImportError):
    """An optional dependency is needed and not installed."""


class RoundingWarning(UserWarning):
    """A time is not a multiple of the time step and was rounded to one."""


class StateDictWarning(UserWarning):
    """A state dict is loaded, with strict=False, into a network that was declared otherwise."""


class KinkWarning(UserWarning):
    """Units lie where their activation has no derivative; one side's is used."""


class SkippedWarning(UserWarning):
    """Some of the chosen weights cannot be changed as asked and stay as they are; the message names them."""


class ConversionWarning(UserWarning):
    """Two descriptions of a converted network differ; the message says which one counts."""


class StepSizeWarning(UserWarning):
    """The time step is too long for the dynamics to be followed well."""


MRNNTORCH_CLASSES = {
    "mFixedPointFinder": "find_fixed_points(net, inputs, x0=states)",
    "mLinearization": "linearize(net, state, inputs)",
    "mFlowFieldFinder": "flow_field(net, states, inputs)",
}
MRNNTORCH_CLASSES |= {f"e{name}": ours for name, ours in MRNNTORCH_CLASSES.items()}
"""mRNNTorch's classes of analysis, and the functions of `sparse_mrnn.analysis` that do the same."""


def check_mrnntorch_class(name: str) -> None:
    """Raise an ImportError that names ours, if a name is that of a class of mRNNTorch."""
    if name in MRNNTORCH_CLASSES:
        ours = MRNNTORCH_CLASSES[name]
        text = f"{name} is a class of mRNNTorch; use sparse_mrnn.analysis.{ours}, for either model"
    elif name in ("RecurrentRegion", "InputRegion"):
        added = "add_recurrent_region" if name == "RecurrentRegion" else "add_input_region"
        text = f"{name} is a class of mRNNTorch; declare one by net.{added}(...), or by a sparse_mrnn.Region"
    else:
        return
    raise ImportError(f"{text}. docs/migration.md has the table of names.", name=name)


def suggest(name: object, known: Iterable[object], *, what: str = "names") -> str:
    """Return a closing sentence that helps with a misspelt name.

    Examples
    --------
    >>> suggest("thall", ["thal", "cortex"])
    "Did you mean 'thal'?"
    """
    options = [str(option) for option in known]
    close = difflib.get_close_matches(str(name), options, n=1) if len(str(name)) < 200 else []
    if close:
        return f"Did you mean {close[0]!r}?"
    if not options:
        return f"There are no {what} yet."
    shown = ", ".join(repr(option) for option in options[:8])
    return f"Known {what}: {shown}{', ...' if len(options) > 8 else ''}."
