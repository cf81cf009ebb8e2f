"""Stimuli and interventions: declarations of what is done to a network, where and when; without torch."""

from sparse_mrnn.stimulus.interventions import INTERVENTIONS, Clamp, Gain, Intervention, Lesion
from sparse_mrnn.stimulus.stimuli import Stimulus
from sparse_mrnn.stimulus.waveforms import (
    WAVEFORMS,
    Chirp,
    Constant,
    EventWaveform,
    Function,
    OrnsteinUhlenbeck,
    Poisson,
    PulseTrain,
    Ramp,
    RandomWaveform,
    Samples,
    Sine,
    SpikeTimes,
    Waveform,
    WhiteNoise,
)
from sparse_mrnn.stimulus.windows import TimeWindow, UnitSelection

__all__ = [
    "INTERVENTIONS", "WAVEFORMS", "Chirp", "Clamp", "Constant", "EventWaveform", "Function", "Gain",
    "Intervention", "Lesion", "OrnsteinUhlenbeck", "Poisson", "PulseTrain", "Ramp", "RandomWaveform",
    "Samples", "Sine", "SpikeTimes", "Stimulus", "TimeWindow", "UnitSelection", "Waveform", "WhiteNoise",
]
