"""Simulation: run a network for any time under stimuli and interventions, into memory or onto disk."""

from sparse_mrnn.models.loading import build_network, from_config
from sparse_mrnn.simulation.run import simulate

__all__ = ["build_network", "from_config", "simulate"]
