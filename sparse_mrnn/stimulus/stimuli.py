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
    region : str
        Region, parent, input, or one unit by its id.
    waveform : Waveform or float
        A number is a constant current.
    start : float
        Start, ms.
    stop : float, optional
        Stop, ms. Default: the end of the run (of `Samples`: their end).
    units : sequence of str, optional
        Only these unit ids of the region.
    fraction : float, optional
        Only this fraction of the region's units, drawn with the run's seed.

    Raises
    ------
    StimulusError
        If the window is not an interval, or units and fraction are both given.

    Examples
    --------
    >>> from sparse_mrnn.stimulus import Sine
    >>> Stimulus("thal", Sine(0.5, frequency=4), start=100, stop=1100, fraction=0.2).waveform
    Sine(amplitude=0.5, frequency=4, phase=0.0, offset=0.0)
    >>> Stimulus.parse("thal:2:100:200").waveform
    Constant(amplitude=2.0)
    """

    number: ClassVar[str | None] = "amplitude"
    preposition: ClassVar[str] = "on"
    region: str
    waveform: Waveform | float

    def __post_init__(self) -> None:
        if not isinstance(self.waveform, Waveform):
            amplitude = real_number(self.waveform, f"{self.label}: amplitude", StimulusError)
            object.__setattr__(self, "waveform", Constant(float(amplitude)))
        super().__post_init__()
        if isinstance(self.waveform, Samples) and self.stop is None:
            object.__setattr__(self, "stop", self.start + self.waveform.duration)

    def to_spec(self) -> dict[str, Any]:
        """Return the settings, as a configuration has them."""
        spec = super().to_spec()
        return {**spec, **spec.pop("waveform").to_spec()}
