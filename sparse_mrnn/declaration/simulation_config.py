"""The ``simulation`` section of a configuration: pydantic models made from stimuli and interventions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveFloat, Tag, create_model

from sparse_mrnn.recording import Record
from sparse_mrnn.stimulus import INTERVENTIONS, WAVEFORMS, Intervention, Stimulus


class Strict(BaseModel):
    """A model that refuses unknown keys, and numbers that JSON has no name for (NaN, Infinity)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Entry(Strict):
    start: float = Field(default=0.0, description="ms")
    stop: float | None = Field(default=None, description="ms; null until the end.")

    def settings(self) -> dict[str, Any]:
        """What was given, apart from the type."""
        given = {key: getattr(self, key) for key in self.model_fields_set if key != "type"}
        return {key: value for key, value in given.items() if value is not None}


class StimulusEntry(_Entry):
    """A current into a region, a parent or an input."""

    region: str = Field(description="Region, parent or input.")
    units: list[str] | None = Field(default=None, description="Only these unit ids of the region.")
    fraction: float | None = Field(default=None, description="Only this fraction of the region's units.")

    def to_stimulus(self) -> Stimulus:
        """The stimulus."""
        given = self.settings()
        selection = ("region", "start", "stop", "units", "fraction")
        where = {key: given.pop(key) for key in selection if key in given}
        return Stimulus(waveform=WAVEFORMS[getattr(self, "type", "constant")](**given), **where)


class InterventionEntry(_Entry):
    """A lesion, clamp or gain change."""

    def to_intervention(self) -> Intervention:
        """The intervention."""
        return INTERVENTIONS[self.type](**self.settings())  # type: ignore[attr-defined]


JSON_TYPES = {"values": list[float] | list[list[float]] | None, "path": str | None, "units": list[str] | None}
"""Types of fields that JSON has otherwise than Python."""


def _fields(kind: type[Any], skip: set[str]) -> dict[str, Any]:
    """Model fields of a dataclass, with its types, defaults and descriptions."""
    hints = get_type_hints(kind)
    found = {}
    for f in dataclasses.fields(kind):
        if f.name in skip:
            continue
        hint = JSON_TYPES.get(f.name, hints[f.name])
        default = ... if f.default is dataclasses.MISSING else f.default
        found[f.name] = (hint, Field(default, description=f.metadata.get("description")))
    return found


def _models(
    kinds: Mapping[str, type[Any]], base: type[_Entry], default: str | None
) -> dict[str, type[_Entry]]:
    models = {}
    for name, kind in kinds.items():
        own_type = (Literal[name], ... if name != default else name)
        fields = {"type": own_type, **_fields(kind, {"start", "stop"})}
        summary = (kind.__doc__ or "").partition("\n")[0]
        models[name] = create_model(f"{kind.__name__}Config", __base__=base, __doc__=summary, **fields)
    return models  # type: ignore[return-value]


def _either(models: Mapping[str, type[_Entry]], default: str | None) -> Any:
    def kind_of(entry: Any) -> Any:
        return entry.get("type", default) if isinstance(entry, dict) else getattr(entry, "type", default)

    union: Any = reduce(or_, (Annotated[model, Tag(name)] for name, model in models.items()))
    return Annotated[union, Discriminator(kind_of)]


STIMULUS_MODELS = _models(WAVEFORMS, StimulusEntry, "constant")
INTERVENTION_MODELS = _models(INTERVENTIONS, InterventionEntry, None)
if TYPE_CHECKING:
    StimulusConfig: TypeAlias = StimulusEntry
    InterventionConfig: TypeAlias = InterventionEntry
else:
    StimulusConfig = _either(STIMULUS_MODELS, "constant")
    InterventionConfig = _either(INTERVENTION_MODELS, None)


class RecordConfig(Strict):
    """What is recorded."""

    what: list[Literal["units", "mean", "variance"]] = Field(
        default=["units"], description="Every unit, or statistics per region."
    )
    variables: list[Literal["h", "x"]] = Field(default=["h"], description="h, the activity; x, the state.")
    regions: list[str] | None = Field(default=None, description="Only these regions or parents.")
    units: list[str] | None = Field(default=None, description="Only these unit ids.")
    every: int = Field(default=1, ge=1, description="Every so many time steps.")
    dtype: Literal["float16", "float32", "float64"] | None = Field(
        default=None, description="Default: the network's."
    )

    def to_record(self) -> Record:
        """The specification."""
        return Record(**self.model_dump())


class SimulationConfig(Strict):
    """Settings of a network, and defaults of `sparse-mrnn simulate`."""

    model: Literal["leaky", "elman"] = "leaky"
    duration: float = Field(default=1000.0, description="ms", gt=0)
    dt: float = Field(default=10.0, description="ms", gt=0)
    tau: float = Field(default=100.0, description="ms", gt=0)
    integrator: Literal["euler", "exponential_euler"] = Field(
        default="euler", description="How alpha follows from dt and tau."
    )
    batch: int = Field(default=1, ge=1)
    seed: int | None = Field(default=None, ge=0)
    activation: str = "relu"
    noise: bool = False
    noise_level_act: float = Field(default=0.01, ge=0)
    noise_level_inp: float = Field(default=0.01, ge=0)
    rec_constrained: bool = Field(default=True, description="Dale's law for recurrent weights.")
    inp_constrained: bool = Field(default=True, description="Dale's law for input weights.")
    batch_first: bool = Field(default=True, description="In Python: (batch, time, units).")
    backend: Literal["auto", "csr", "dense", "hybrid", "torch_sparse"] = Field(
        default="auto", description="How weights are multiplied."
    )
    dtype: Literal["float32", "float64"] = Field(default="float32", description="Precision of the network.")
    spectral_radius: PositiveFloat | dict[str, PositiveFloat] | None = Field(
        default=None, description="Of the recurrent weights; or, by region or parent, of those within it."
    )
    stimulus: list[StimulusConfig] = []
    interventions: list[InterventionConfig] = []
    record: RecordConfig = RecordConfig()

    def stimuli(self) -> list[Stimulus]:
        """The stimuli, as objects.

        Examples
        --------
        >>> sine = {"region": "cue", "type": "sine", "amplitude": 1, "frequency": 4}
        >>> SimulationConfig(stimulus=[sine]).stimuli()[0].waveform
        Sine(amplitude=1.0, frequency=4.0, phase=0.0, offset=0.0)
        """
        return [entry.to_stimulus() for entry in self.stimulus]

    def acts(self) -> list[Intervention]:
        """The interventions, as objects."""
        return [entry.to_intervention() for entry in self.interventions]
