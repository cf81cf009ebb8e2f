"""Dense or sparse? The ways to run a network, side by side: time, memory, and where the crossover lies."""

from sparse_mrnn.benchmark.cases import BlockModel, Case, two_regions, variants
from sparse_mrnn.benchmark.entries import Entry, entries, select_entries
from sparse_mrnn.benchmark.machine import describe_machine, machine_line, usable_device
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, Limits, measure
from sparse_mrnn.benchmark.memory import peak_memory
from sparse_mrnn.benchmark.timing import Ratio, Timing

__all__ = [
    "BlockModel", "Case", "CaseResult", "Entry", "EntryResult", "Limits", "Ratio", "Timing",
    "describe_machine", "entries", "machine_line", "measure", "peak_memory", "select_entries", "two_regions",
    "usable_device", "variants",
]
