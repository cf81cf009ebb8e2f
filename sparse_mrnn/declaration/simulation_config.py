"""The ``simulation`` section of a configuration: pydantic models made from its dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    ValidationInfo,
    create_model,
    field_validator,
)

from sparse_mrnn.recording import Record
from sparse_mrnn.stimulus import INTERVENTIONS, WAVEFORMS, Intervention, Stimulus


class Strict(BaseModel):
    """Model that refuses unknown keys, true for 1, and numbers that JSON cannot name (NaN, Infinity)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_truth(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        values = value if isinstance(value, list) else [value]
        if "bool" not in str(kind) and any(each is True or each is False for each in values):
            raise ValueError("input should be a number or text, not true or false")
        return value


def without_case(value: Any) -> Any:
    """Lower a name, so that options are matched without case; other values stay."""
    return value.lower() if isinstance(value, str) else value


class StimulusEntry(Strict):
    """A current into a region, a parent or an input."""

    def to_stimulus(self) -> Stimulus:
        """Make the stimulus."""
        given = _given(self)
        where = {f.name: given.pop(f.name) for f in dataclasses.fields(Stimulus) if f.name in given}
        return Stimulus(waveform=WAVEFORMS[getattr(self, "type", "constant")](**given), **where)


class InterventionEntry(Strict):
    """A lesion, clamp or gain change."""

    def to_intervention(self) -> Intervention:
        """Make the intervention."""
        return INTERVENTIONS[self.type](**_given(self))  # type: ignore[attr-defined]


def _given(entry: Strict) -> dict[str, Any]:
    """Return the fields that a configuration gives, apart from the type."""
    given = {key: getattr(entry, key) for key in entry.model_fields_set if key != "type"}
    return {key: value for key, value in given.items() if value is not None}


JSON_TYPES = {
    "values": list[float] | list[list[float]] | None,
    "path": str | None,
    "units": list[str | int] | None,
}
"""Types of fields that JSON has otherwise than Python; sequences become lists."""


def _fields(kind: type[Any], skip: str = "") -> dict[str, Any]:
    """Make the fields of a model from those of a dataclass: types, defaults, bounds and descriptions."""
    hints, texts, found = get_type_hints(kind), _descriptions(kind), {}
    for f in dataclasses.fields(kind):
        if f.name == skip:
            continue
        needed = f.default is dataclasses.MISSING or f.name in ("value", "factor")
        default = ... if needed else f.default
        default = list(default) if isinstance(default, tuple) else default
        field = Field(default, description=texts.get(f.name), **f.metadata)
        found[f.name] = JSON_TYPES.get(f.name, _listed(hints[f.name])), field
    return found


def _listed(hint: Any) -> Any:
    """Return a type with lists in place of sequences."""
    if get_origin(hint) is Sequence:
        return list[get_args(hint)]  # type: ignore[misc]
    return reduce(or_, map(_listed, get_args(hint))) if isinstance(hint, UnionType) else hint


def _descriptions(kind: type[Any]) -> dict[str, str]:
    """Read the descriptions of fields in the Parameters sections of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Parameters\n----------\n")[2]
        texts: dict[str, str] = {}
        names: list[str] = []
        for line in section.partition("\n\n")[0].splitlines():
            if line.startswith(" "):
                texts |= {name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names}
            else:
                names = line.partition(" : ")[0].split(", ")
        found |= {name: text for name, text in texts.items() if not text.startswith("As for")}
    return found


def _models(
    kinds: Mapping[str, type[Any]], base: type[Strict], shared: dict[str, Any], default: str | None
) -> dict[str, type[Any]]:
    """Make a model for each kind of entry, with its type as the first field."""
    models = {}
    for name, kind in kinds.items():
        own_type = (Literal[name], ... if name != default else name)
        fields: dict[str, Any] = {"type": own_type, **_fields(kind), **shared}
        summary = (kind.__doc__ or "").partition("\n")[0]
        models[name] = create_model(f"{kind.__name__}Config", __base__=base, __doc__=summary, **fields)
    return models


def _either(models: Mapping[str, type[Any]], default: str | None) -> Any:
    """Make the type of an entry that is one of several models, told apart by its type."""

    def kind_of(entry: Any) -> Any:
        return entry.get("type", default) if isinstance(entry, dict) else getattr(entry, "type", default)

    union: Any = reduce(or_, (Annotated[model, Tag(name)] for name, model in models.items()))
    return Annotated[union, Discriminator(kind_of)]


STIMULUS_MODELS = _models(WAVEFORMS, StimulusEntry, _fields(Stimulus, skip="waveform"), "constant")
INTERVENTION_MODELS = _models(INTERVENTIONS, InterventionEntry, {}, None)
if TYPE_CHECKING:
    StimulusConfig: TypeAlias = StimulusEntry
    InterventionConfig: TypeAlias = InterventionEntry
else:
    StimulusConfig = _either(STIMULUS_MODELS, "constant")
    InterventionConfig = _either(INTERVENTION_MODELS, None)


class _RecordConfig(Strict):
    def to_record(self) -> Record:
        """Make the choice of what is recorded."""
        return Record(**self.model_dump())


if TYPE_CHECKING:
    RecordConfig: TypeAlias = _RecordConfig
else:
    RecordConfig = create_model(
        "RecordConfig", __base__=_RecordConfig, __doc__="What is recorded.", **_fields(Record)
    )


class SimulationConfig(Strict):
    """Settings of a network, and defaults of `sparse-mrnn simulate`."""

    model: Literal["leaky", "elman", "lif"] = "leaky"
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
    tau_m: PositiveFloat = Field(default=20.0, description="Of spiking units, ms; their dt is 0.1 ms.")
    tau_syn: PositiveFloat = Field(default=5.0, description="Of spiking units, ms.")
    v_rest: float = Field(default=-52.0, description="Of spiking units, mV.")
    threshold: float = Field(default=-45.0, description="Of spiking units, mV.")
    v_reset: float = Field(default=-52.0, description="Of spiking units, mV.")
    t_ref: float = Field(default=2.2, ge=0, description="Refractory time of spiking units, ms.")
    synapse: Literal["exponential", "jump"] = Field(
        default="exponential", description="What a spike adds to: a current, or the membrane potential."
    )
    reset_g: bool = Field(default=False, description="A spike sets the synaptic current to 0.")
    surrogate: Literal["fast_sigmoid", "arctan", "gaussian"] = Field(
        default="fast_sigmoid", description="Derivative of a spike in training."
    )
    surrogate_slope: PositiveFloat = Field(default=1.0, description="1 / mV.")
    stimulus: list[StimulusConfig] = []
    interventions: list[InterventionConfig] = []
    record: RecordConfig = RecordConfig()

    @field_validator("model", "integrator", "backend", "dtype", "activation", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return without_case(value)

    def stimuli(self) -> list[Stimulus]:
        """Make the stimuli.

        Examples
        --------
        >>> sine = {"region": "cue", "type": "sine", "amplitude": 1, "frequency": 4}
        >>> SimulationConfig(stimulus=[sine]).stimuli()[0].waveform
        Sine(amplitude=1.0, frequency=4.0, phase=0.0, offset=0.0)
        """
        return [entry.to_stimulus() for entry in self.stimulus]

    def intervention_objects(self) -> list[Intervention]:
        """Make the interventions."""
        return [entry.to_intervention() for entry in self.interventions]
