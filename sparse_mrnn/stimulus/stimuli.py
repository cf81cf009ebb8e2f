"""A stimulus: a waveform into a region, some of its units, or an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sparse_mrnn.checks import real_number
from sparse_mrnn.errors import StimulusError
from sparse_mrnn.stimulus.waveforms import Constant, Samples, Waveform
from sparse_mrnn.stimulus.windows import UnitSelection


@dataclass(frozen=True)
class Stimulus(UnitSelection):
    """A current over a time window.

    Into an input region it is the input u, and reaches units through the input weights; into a recurrent
    region or a parent it is a direct current (``stim_input``). Stimuli of the same units add.

    Parameters
    ----------
    region : str, optional
        Region, parent, input, one unit by its id, or units by a column of their table (``"side=left"``).
        Default: the units of ``units``, of whatever region.
    waveform : Waveform or float
        A number is a constant current.
    start : float
        Start, ms.
    stop : float, optional
        Stop, ms. Default: the end of the run (of `Samples`: their end).
    units : sequence of str or int, or mapping, optional
        Only these unit ids, or the units with these values of columns of their table.
    fraction : float, optional
        Only this fraction of the region's units, drawn with the run's seed.

    Raises
    ------
    StimulusError
        If there is no waveform, neither region nor units, or both units and fraction; if the window is not an
        interval.

    Examples
    --------
    >>> from sparse_mrnn.stimulus import Sine
    >>> Stimulus("thal", Sine(0.5, frequency=4), start=100, stop=1100, fraction=0.2).waveform
    Sine(amplitude=0.5, frequency=4, phase=0.0, offset=0.0)
    >>> Stimulus.parse("thal:2:100:200").waveform
    Constant(amplitude=2.0)
    >>> Stimulus(units=[720575940653971835], waveform=1.0).label
    "stimulus on units ['720575940653971835']"
    """

    number: ClassVar[str | None] = "amplitude"
    preposition: ClassVar[str] = "on"
    required: ClassVar[tuple[str, ...]] = ("region", "waveform")
    region: str | None = None
    waveform: Waveform | float | None = None

    def __post_init__(self) -> None:
        if self.waveform is None:
            raise StimulusError(f"{self.label}: it has no waveform; give one, or a number (constant).")
        if not isinstance(self.waveform, Waveform):
            amplitude = real_number(self.waveform, f"{self.label}: amplitude", StimulusError)
            object.__setattr__(self, "waveform", Constant(float(amplitude)))
        super().__post_init__()
        if isinstance(self.waveform, Samples) and self.stop is None:
            object.__setattr__(self, "stop", self.start + self.waveform.duration)

    def to_spec(self) -> dict[str, Any]:
        """Return the settings, as a configuration has them."""
        spec = super().to_spec()
        waveform: Waveform = spec.pop("waveform")
        return spec | waveform.to_spec()
