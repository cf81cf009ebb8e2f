"""Simulation: run a network for any time under stimuli and interventions, into memory or onto disk."""

from sparse_mrnn.simulate.build import build
from sparse_mrnn.simulate.run import simulate

__all__ = ["build", "simulate"]
