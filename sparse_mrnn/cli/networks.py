"""Networks that a user names: saved ones, configurations, shipped examples and SONATA networks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_mrnn.cli.common import with_options
from sparse_mrnn.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparse_mrnn.declaration.config import SimulationConfig
    from sparse_mrnn.declaration.graph import RegionGraph
    from sparse_mrnn.models.loading import Network
    from sparse_mrnn.models.network import mRNNBase
    from sparse_mrnn.stimulus import Intervention, Stimulus


class NamedNetwork:
    """A network that a user named, or its declaration, and its settings, over which the user's are laid."""

    def __init__(self, network: RegionGraph | Network, settings: SimulationConfig) -> None:
        self.network, self.settings = network, settings

    @cached_property
    def graph(self) -> RegionGraph:
        """Declaration of the network; of a saved one with its present weights."""
        from sparse_mrnn.declaration.graph import RegionGraph

        return self.network if isinstance(self.network, RegionGraph) else self.network.to_graph()

    def build(self, device: str | None = None, **changes: Any) -> Network:
        """Build the network, with some settings changed.

        A saved network is itself, to the last bit, unless a setting it was saved with has changed; then it is
        built anew with its weights.
        """
        from sparse_mrnn.declaration.graph import RegionGraph
        from sparse_mrnn.models.devices import chosen_device
        from sparse_mrnn.simulation import build_network

        settings = self.settings.model_copy(update=changes)
        if not isinstance(self.network, RegionGraph):
            own = self.network.simulation_settings()
            fixed = own.model_fields_set - {"seed"} | {"spectral_radius"}
            if all(getattr(settings, name) == getattr(own, name) for name in fixed):
                return self.network.to(chosen_device(device))
        return build_network(self.graph, settings, device)


def load_network(
    source: str, simulation: Path | None = None, *, by_rows: bool = False, **options: Any
) -> NamedNetwork:
    """Find the network that a user names.

    ``source`` is a network of ``net.save``, a JSON configuration, a shipped example, or a SONATA network such
    as ``sparse-mrnn import`` writes. The ``simulation`` section of a JSON file goes over the network's own
    settings, and options, fields of `SimulationConfig`, over both; one that was not given is None. With
    ``by_rows``, the synapses of a SONATA network stay in its file, if they can be read by rows.
    """
    from sparse_mrnn.declaration.config import load_simulation

    found = _named(source, by_rows)
    if simulation is not None:
        section = load_simulation(simulation)
        given = {name: getattr(section, name) for name in section.model_fields_set}
        found.settings = found.settings.model_copy(update=given)
    if found.settings.model == "elman" and options.get("tau") is not None:
        raise ConfigError("--tau: an Elman network has no time constant; its step takes --dt.")
    if found.settings.model == "lif" and options.get("tau") is not None:
        raise ConfigError("--tau: a spiking network has tau_m; set it in the simulation section.")
    found.settings = with_options(found.settings, options, {"spectral_radius": "spectral-radius"})
    return found


def _named(source: str, by_rows: bool) -> NamedNetwork:
    from sparse_mrnn.data import EXAMPLES, example_path
    from sparse_mrnn.declaration.config import SimulationConfig, load_config, read_config
    from sparse_mrnn.files.tensors import CHECKPOINT, NETWORK, format_of

    path = Path(source)
    if path.is_dir() or (path.suffix == ".json" and _is_circuit(path)):
        from sparse_mrnn.interop.sonata import read_folder

        graph, settings = read_folder(path, by_rows=by_rows)
        return NamedNetwork(graph, settings or SimulationConfig())
    kind = format_of(path)
    if kind == CHECKPOINT.name:
        advice = "load it into your network (load_checkpoint) and save that (net.save)"
        raise ConfigError(f"{path} is a checkpoint of training, not a network; {advice}.")
    if kind == NETWORK.name or _is_binary(path):
        from sparse_mrnn.models.loading import load

        net = load(path, device="cpu")
        return NamedNetwork(net, net.simulation_settings())
    if not path.exists() and path.suffix == "" and source not in EXAMPLES:
        what = f"{source} is neither a file nor a shipped example"
        raise UnknownNameError(f"{what}. {suggest(source, EXAMPLES, what='examples')}")
    config = load_config(example_path(source) if source in EXAMPLES and not path.exists() else source)
    return NamedNetwork(read_config(config), config.simulation or SimulationConfig())


def recorded_network(run: Path, source: str | None) -> Network:
    """Find the network that a recording is of, and check that its weights are those of the recorded run.

    It is the one that a user names, or made anew from the configuration that the recording carries.
    """
    import json

    from sparse_mrnn.declaration.config import read_config
    from sparse_mrnn.recording.reading import read_metadata
    from sparse_mrnn.simulation.fingerprint import network_fingerprint

    attributes = read_metadata(run).attributes
    if source is not None:
        named = load_network(source)
        net = named.build("cpu", seed=named.settings.seed or 0)
    elif not attributes["config"]:
        raise ConfigError(f"{run} does not carry the configuration of its network; name it with --net.")
    else:
        settings = json.loads(attributes["network"])["settings"]
        named = NamedNetwork(read_config(json.loads(attributes["config"])), _simulation(settings))
        net = named.build("cpu", seed=int(attributes["network_seed"]))
    old, new = json.loads(attributes["fingerprint"]), network_fingerprint(net)
    other = [name for name in new if name.endswith((" synapses", " weights")) and old.get(name) != new[name]]
    if other:
        advice = "name the one that was recorded with --net, such as a file of net.save"
        raise ConfigError(f"{run} is of a network with other {' and '.join(other)}; {advice}.")
    return net


def _simulation(settings: dict[str, Any]) -> SimulationConfig:
    """Settings of a network as those of a configuration."""
    from sparse_mrnn.declaration.config import SimulationConfig

    return SimulationConfig(**{k: v for k, v in settings.items() if k in SimulationConfig.model_fields})


def _is_circuit(path: Path) -> bool:
    """Return True if a JSON file is a configuration of a SONATA network."""
    from sparse_mrnn.interop.sonata_files import is_configuration

    return path.is_file() and is_configuration(path)


def _is_binary(path: Path) -> bool:
    """Return True if a file is not text, so that an error about JSON would not help."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return b"\0" in file.read(1024)


def stays_at_zero(
    net: mRNNBase, stimuli: Sequence[Stimulus], interventions: Sequence[Intervention], *, noise: bool
) -> bool:
    """Return True if all activity will stay zero: nothing drives the network, and it starts at 0.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, device="cpu")
    >>> stays_at_zero(net, [], [], noise=False)
    True
    """
    from sparse_mrnn.stimulus import Clamp

    if stimuli or noise or any(isinstance(each, Clamp) and each.value != 0 for each in interventions):
        return False
    start = net.batched_initial_condition(1)  # h0 = f(x0) is not 0 if f(0) is not, as for a sigmoid
    return not any(bool(part.any()) for part in (net.tonic_inp, *start))
