"""Simulation: one time step after another, without gradients, in preallocated buffers."""

from sparse_mrnn.ops.step import Units
from sparse_mrnn.ops.stream.delays import StreamingProduct
from sparse_mrnn.ops.stream.noise import NormalStreams, StreamingNoise
from sparse_mrnn.ops.stream.step import HeldStates, Stepper

__all__ = ["HeldStates", "NormalStreams", "Stepper", "StreamingNoise", "StreamingProduct", "Units"]
