"""Dense or sparse? The ways to run a network, side by side: time, memory, and where the crossover lies."""

from sparse_mrnn.benchmark.cases import BlockModel, Case, density_ladder, ladder, two_regions, variants
from sparse_mrnn.benchmark.entries import Entry, entries, select_entries
from sparse_mrnn.benchmark.machine import describe_machine, machine_line, physical_memory, usable_device
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, Limits, measure
from sparse_mrnn.benchmark.memory import PeakMeter, in_fresh_process, peak_memory
from sparse_mrnn.benchmark.timing import Ratio, Timing, side_by_side

__all__ = [
    "BlockModel", "Case", "CaseResult", "Entry", "EntryResult", "Limits", "PeakMeter", "Ratio", "Timing",
    "density_ladder", "describe_machine", "entries", "in_fresh_process", "ladder", "machine_line", "measure",
    "peak_memory", "physical_memory", "select_entries", "side_by_side", "two_regions", "usable_device",
    "variants",
]
