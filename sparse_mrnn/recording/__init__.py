"""Recordings of simulations, in memory or in a Zarr store, and the choice of what to record."""

from sparse_mrnn.recording.reading import open_recording
from sparse_mrnn.recording.spec import Record
from sparse_mrnn.recording.summary import summary

__all__ = ["Record", "open_recording", "summary"]
