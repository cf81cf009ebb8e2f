"""What is measured: a network with a batch and a number of steps, and its relatives of other sizes and densities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sparse_mrnn.connectivity import Bernoulli
from sparse_mrnn.errors import BenchmarkError
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.initializers import Uniform
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN


@dataclass(frozen=True)
class Case:
    """One network to measure, and how it is run.

    Parameters
    ----------
    label : str
    make : callable
        Returns the graph. A module-level function (or `functools.partial` of one): memory is measured in another
        process, which calls it again.
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
        What the case is for: itself, or a point of a ladder over units or over density.
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
        common: dict[str, Any] = dict(
            activation=self.activation, backend=backend, spectral_radius=self.spectral_radius, seed=self.seed, device=self.device
        )
        if self.model == "elman":
            return ElmanmRNN(graph, **common)
        return mRNN(graph, dt=self.dt, tau=self.tau, **common)


def two_regions(units: int, density: float | None = None, fan_in: int | None = None) -> RegionGraph:
    """Four fifths excitatory, one fifth inhibitory units, connected at random at a density or with a fan-in a unit.

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
    """A network reduced to its regions and the density of every pair of them, so that it can be made at other sizes.

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
        """The model of a graph; exact where the projections say how many synapses they have."""
        count: dict[tuple[str, str], float] = {}
        for p in graph.projections():
            count[p.source, p.target] = count.get((p.source, p.target), 0.0) + p.expected_synapses
        bare = RegionGraph(name=graph.name)
        bare.add_nodes_from((name, dict(graph.nodes[name])) for name in graph)
        area = {pair: graph.region(pair[0]).n * graph.region(pair[1]).n for pair in count}
        return cls(bare, {pair: min(1.0, n / area[pair]) for pair, n in count.items()})

    @property
    def mean_density(self) -> float:
        """Synapses over units squared."""
        return sum(self._area(*pair) * d for pair, d in self.density.items() if self._recurrent(pair[0])) / self.graph.n_units**2

    def make(self, units: int | None = None, density: float | None = None) -> RegionGraph:
        """A network of about this many units and this density (default: the original's).

        Regions keep their share of the units, and at least one. A lower density thins every projection alike; a
        higher one fills what is missing, also between regions that were not connected, until at 1 all is connected.
        """
        old = self.graph
        factor = 1.0 if units is None else units / old.n_units
        mean = self.mean_density
        g = RegionGraph(name=old.name)
        for r in old.regions():
            n = max(1, round(r.n * factor))
            pick = np.arange(n) * r.n // n
            names = ("sign", "base_firing", "init", "tau", "activation", "learnable_bias", "learnable_tau")
            fields: dict[str, Any] = {k: getattr(r, k) for k in names}
            thinned: dict[str, Any] = {k: v[pick] if isinstance(v, np.ndarray) else v for k, v in fields.items()}
            g.add_region(r.name, n, **thinned)
        for r in old.regions("input"):
            g.add_input(r.name, r.n, sign=r.sign)
        regions = [r.name for r in old.regions()]
        fan_in = max(1.0, g.n_units * (mean if density is None else density))
        initializer = Uniform(0.0, 1 / fan_in)  # sums to less than 1: activity stays finite
        for source in [*regions, *(r.name for r in old.regions("input"))]:
            for target in regions:
                d = self.density.get((source, target), 0.0)
                if density is not None and self._recurrent(source):
                    d = d * density / mean if density <= mean else d + (1 - d) * (density - mean) / (1 - mean)
                if d > 0:
                    g.add_projection(source, target, rule=Bernoulli(min(1.0, d)), initializer=initializer)
        return g

    def _area(self, source: str, target: str) -> int:
        return self.graph.region(source).n * self.graph.region(target).n

    def _recurrent(self, name: str) -> bool:
        return self.graph.region(name).kind == "recurrent"


def ladder(sizes: list[int], density: float | None = None, fan_in: int | None = None, **run: Any) -> list[Case]:
    """Random two-region networks of several sizes."""
    kind = f"density {density:g}" if density is not None else f"{fan_in} synapses a unit"
    for units in sizes:
        two_regions(units, density, fan_in)  # raises before anything is measured
    return [Case(f"{n:,} units, {kind}", partial(two_regions, n, density, fan_in), group="units", **run) for n in sizes]


def density_ladder(units: int, densities: list[float], **run: Any) -> list[Case]:
    """Random two-region networks of several densities."""
    return [Case(f"{units:,} units, density {d:g}", partial(two_regions, units, d), group="density", **run) for d in densities]


def relatives(case: Case, sizes: list[int], densities: list[float]) -> list[Case]:
    """A network at other sizes (its density kept) and at other densities (its size kept), as block models."""
    model = BlockModel.of(case.make())
    made = [replace(case, label=f"at {n:,} units", make=partial(model.make, units=n), group="units") for n in sizes]
    made += [replace(case, label=f"at density {d:g}", make=partial(model.make, density=d), group="density") for d in densities]
    return [replace(c, spectral_radius=None) for c in made]
