"""Cases to measure: a network, how it is run, and its variants of other sizes and densities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sparse_mrnn.declaration.connectivity import Bernoulli
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import Uniform
from sparse_mrnn.errors import BenchmarkError
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.network import mRNNBase


@dataclass(frozen=True)
class Case:
    """One network to measure, and how it is run.

    Parameters
    ----------
    label : str
    make : callable
        Returns the graph. A function of a module (or `functools.partial` of one), for memory is measured in
        another process, which calls it again.
    batch, steps : int
    model : {"leaky", "elman"}
    activation : str
    dt, tau : float
        ms; of a leaky network.
    spectral_radius : float or dict, optional
        The weights are scaled to it.
    seed : int
        Makes synapses, weights, inputs and the initial state.
    device : str
    group : {"network", "units", "density"}
        Purpose of the case: the network itself, or a point of a ladder over units or over density.
    """

    label: str
    make: Callable[[], RegionGraph]
    batch: int = 32
    steps: int = 20
    model: str = "leaky"
    activation: str = "tanh"
    dt: float = 10.0
    tau: float = 100.0
    spectral_radius: float | dict[str, float] | None = None
    seed: int = 0
    device: str = "cpu"
    group: str = "network"

    def __post_init__(self) -> None:
        for name in ("batch", "steps"):
            if getattr(self, name) < 1:
                raise BenchmarkError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def network(self, backend: str = "csr", graph: RegionGraph | None = None) -> mRNNBase:
        """The network on a backend; the same synapses and weights on each."""
        graph = self.make() if graph is None else graph
        common: dict[str, Any] = dict(activation=self.activation, spectral_radius=self.spectral_radius)
        common |= dict(seed=self.seed, device=self.device, backend=backend)
        if self.model == "elman":
            return ElmanmRNN(graph, **common)
        return mRNN(graph, dt=self.dt, tau=self.tau, **common)


def two_regions(units: int, density: float | None = None, fan_in: int | None = None) -> RegionGraph:
    """Four fifths excitatory, one fifth inhibitory units, connected at random at a density or a mean fan-in.

    Parameters
    ----------
    units : int
        At least 5.
    density : float in (0, 1], optional
        Synapses over pairs of units.
    fan_in : int, optional
        Mean number of synapses onto a unit. Give one of the two.

    Returns
    -------
    RegionGraph

    Raises
    ------
    BenchmarkError
        If the density or fan-in is impossible.

    Examples
    --------
    >>> two_regions(100, fan_in=10).n_units
    100
    """
    if units < 5:
        raise BenchmarkError(f"{units} units are too few to measure; use at least 5.")
    if (density is None) == (fan_in is None):
        raise BenchmarkError("give a density or a fan-in, one of the two.")
    if fan_in is not None:
        if not 1 <= fan_in <= units:
            raise BenchmarkError(f"a fan-in of {fan_in} is impossible with {units} units.")
        density = fan_in / units
    if density is None or not 0 < density <= 1:
        raise BenchmarkError(f"density is {density}; it must be above 0 and at most 1.")
    g = RegionGraph(name=f"{units} units")
    g.add_region("exc", units - units // 5, sign="pos", base_firing=0.1)
    g.add_region("inh", units // 5, sign="neg", base_firing=0.1)
    for source in ("exc", "inh"):
        for target in ("exc", "inh"):
            g.add_projection(source, target, density=density)
    return g


@dataclass(frozen=True, eq=False)
class BlockModel:
    """The regions of a network and the density of every pair of them, from which other sizes are made.

    Parameters
    ----------
    graph : RegionGraph
        The original without its projections.
    density : dict
        (source, target) -> realised density, recurrent and input projections.
    """

    graph: RegionGraph
    density: dict[tuple[str, str], float]

    @classmethod
    def of(cls, graph: RegionGraph) -> BlockModel:
        """The model of a graph; exact if the projections say how many synapses they have."""
        density: dict[tuple[str, str], float] = {}
        for p in graph.projections():
            pair = p.source, p.target
            density[pair] = density.get(pair, 0.0) + p.expected_synapses / _pairs_of_units(graph, *pair)
        bare = RegionGraph(name=graph.name)  # a process that measures memory is sent no synapses
        for name in graph:
            bare.set_region(graph.region(name))
        return cls(bare, {pair: min(1.0, d) for pair, d in density.items()})

    @property
    def mean_density(self) -> float:
        """Synapses over units squared."""
        inside = {r.name for r in self.graph.regions()}
        recurrent = ((pair, d) for pair, d in self.density.items() if pair[0] in inside)
        synapses = sum(d * _pairs_of_units(self.graph, *pair) for pair, d in recurrent)
        return synapses / self.graph.n_units**2

    def make(self, units: int | None = None, density: float | None = None) -> RegionGraph:
        """A network of about this many units and this density (default: the original's).

        Regions keep their share of the units, and at least one. A lower density thins every projection alike;
        a higher one fills what is missing, also between regions that were not connected, until at 1 all are.
        """
        old, mean = self.graph, self.mean_density
        factor = 1.0 if units is None else units / old.n_units
        g = RegionGraph(name=old.name)
        for r in old.regions():
            n = max(1, round(r.n * factor))
            g.set_region(replace(r, unit_ids=None, positions=None).cut(np.arange(n) * r.n // n))
        for r in old.regions("input"):
            g.set_region(r)
        fan_in = max(1.0, g.n_units * (mean if density is None else density))
        initializer = Uniform(0.0, 1 / fan_in)  # sums to less than 1: activity stays finite
        for source in map(g.region, g):
            for target in g.regions():
                d = self.density.get((source.name, target.name), 0.0)
                if density is not None and source.kind == "recurrent":
                    thinner = density <= mean
                    d = d * density / mean if thinner else d + (1 - d) * (density - mean) / (1 - mean)
                if d > 0:
                    rule = Bernoulli(min(1.0, d))
                    g.add_projection(source.name, target.name, rule=rule, initializer=initializer)
        return g


def _pairs_of_units(graph: RegionGraph, source: str, target: str) -> int:
    return graph.region(source).n * graph.region(target).n


def variants(case: Case, sizes: list[int], densities: list[float]) -> list[Case]:
    """A network at other sizes (its density kept) and at other densities (its size kept), as block models.

    Parameters
    ----------
    case : Case
        The network itself.
    sizes : list of int
        Units.
    densities : list of float

    Returns
    -------
    list of Case
        Sizes first.

    Examples
    --------
    >>> from functools import partial
    >>> case = Case("a net", partial(two_regions, 100, 0.1), batch=4, steps=5)
    >>> [variant.label for variant in variants(case, [500], [0.5])]
    ['at 500 units', 'at density 0.5']
    """
    model = BlockModel.of(case.make())
    base = replace(case, spectral_radius=None)
    made = [replace(base, label=f"at {n:,} units", make=partial(model.make, n), group="units") for n in sizes]
    for d in densities:
        make = partial(model.make, density=d)
        made.append(replace(base, label=f"at density {d:g}", make=make, group="density"))
    return made
