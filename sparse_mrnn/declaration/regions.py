"""Region: what is declared of a region or an input; its fields, and the checks that take several of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.fields import (
    Bounds,
    Learnable,
    Number,
    Positions,
    Signs,
    Text,
    UnitIds,
    UnitTable,
    checked,
    declared,
    fields_of,
)
from sparse_mrnn.errors import GraphError

MOST_UNITS = 2**31
"""Units are numbered in 32 bits: a region has fewer, and so has a network."""
LEARNT_FROM = {
    "learnable_bias": "base_firing", "learnable_init": "init", "learnable_tau": "tau",
    "learnable_noise": "noise_level", "learnable_activation_gain": "activation_gain",
    "learnable_activation_threshold": "activation_threshold",
}  # fmt: skip
"""The field that says if a value is trained, and the value that training starts from."""
Values = float | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """A region or an input, as `RegionGraph.regions` gives it.

    Every field but the first three is declared here and nowhere else (`fields`); a new one goes through
    `RegionGraph.add_region`, configurations, files and ranks without another line.

    Parameters
    ----------
    name : str
    n : int
        Units, or channels of an input.
    kind : {"recurrent", "input"}
    sign, base_firing, init, parent_region, unit_ids, positions, unit_table
        As `RegionGraph.add_region` takes them; arrays have one entry per unit.
    learnable_bias, learnable_init, tau, learnable_tau, tau_bounds, activation, noise_level, learnable_noise
        Likewise.
    activation_gain, activation_threshold, learnable_activation_gain, learnable_activation_threshold
        Likewise.
    threshold, v_rest, v_reset, t_ref, tau_syn
        Of spiking units, if not the network's (`LIF`): one number or one per unit; mV and ms.
    background_rate, background_weight
        Poisson events into each spiking unit in a simulation: Hz and mV.

    Examples
    --------
    >>> from sparse_mrnn import RegionGraph
    >>> g = RegionGraph(); g.add_region("thal", 3, sign="neg")
    >>> region = g.region("thal")
    >>> region.n, region.unit_signs.tolist()
    (3, [-1, -1, -1])
    """

    name: str
    n: int
    kind: str = "recurrent"
    sign: str | NDArray[np.int8] | None = declared(
        "pos", Signs(), "Dale's law: 'pos', 'neg', null, or one of +1, -1, 0 per unit.", inputs=True
    )
    base_firing: Values = declared(0.0, Number(by_unit=True), "Tonic input, one number or one per unit.")
    init: Values = declared(0.0, Number(by_unit=True), "Initial pre-activation, one number or one per unit.")
    parent_region: str | None = declared(None, Text(), "Name of a group of regions.")
    learnable_bias: bool | str = declared(
        False, Learnable("unit"), "Train the tonic input: of each unit (true), or one for the region."
    )
    learnable_init: bool | str = declared(
        False, Learnable("unit"), "Train the initial state: of each unit (true), or one for the region."
    )
    tau: Values | None = declared(
        None,
        Number(0.0, above=True, optional=True, by_unit=True, unit="ms"),
        "Time constant in ms, if not the network's; one number or one per unit.",
    )
    learnable_tau: bool | str = declared(
        False, Learnable("region"), "Train the time constant: one for the region (true), or one per unit."
    )
    tau_bounds: tuple[float | None, float | None] | None = declared(
        None, Bounds("ms"), "Least and largest learnt time constant, ms, or null.", column="tau"
    )
    activation: str | None = declared(None, Text(lower=True), "Activation, if not the network's.")
    noise_level: Values | None = declared(
        None,
        Number(0.0, optional=True, by_unit=True),
        "Noise of the units, if not the network's; one number or one per unit.",
    )
    learnable_noise: bool | str = declared(
        False, Learnable("unit"), "Train the noise level: of each unit (true), or one for the region."
    )
    activation_gain: Values | None = declared(
        None,
        Number(0.0, above=True, optional=True, by_unit=True),
        "Gain g of f(g (x - threshold)), 1 by default; one number or one per unit.",
    )
    activation_threshold: Values | None = declared(
        None,
        Number(optional=True, by_unit=True),
        "Threshold of f(g (x - threshold)), 0 by default; one number or one per unit.",
    )
    learnable_activation_gain: bool | str = declared(
        False, Learnable("unit"), "Train the gain: of each unit (true), or one for the region."
    )
    learnable_activation_threshold: bool | str = declared(
        False, Learnable("unit"), "Train the threshold: of each unit (true), or one for the region."
    )
    threshold: Values | None = declared(
        None, Number(optional=True, by_unit=True, unit="mV"), "Threshold of spiking units, mV."
    )
    v_rest: Values | None = declared(
        None, Number(optional=True, by_unit=True, unit="mV"), "Resting potential of spiking units, mV."
    )
    v_reset: Values | None = declared(
        None, Number(optional=True, by_unit=True, unit="mV"), "Potential of spiking units after a spike, mV."
    )
    t_ref: Values | None = declared(
        None, Number(0.0, optional=True, by_unit=True, unit="ms"), "Refractory time of spiking units, ms."
    )
    tau_syn: Values | None = declared(
        None,
        Number(0.0, above=True, optional=True, by_unit=True, unit="ms"),
        "Time constant of the synaptic current of spiking units, ms.",
    )
    background_rate: float = declared(
        0.0, Number(0.0, unit="Hz"), "Rate of Poisson events into each spiking unit, Hz."
    )
    background_weight: float = declared(
        0.0, Number(unit="mV"), "Weight of an event of the background, mV."
    )
    unit_ids: tuple[str, ...] | None = declared(None, UnitIds(), "A name per unit.", repr=False)
    positions: NDArray[np.float64] | None = declared(
        None, Positions(), "A position per unit.", column="dimensions", repr=False
    )

    unit_table: dict[str, NDArray[Any]] | None = declared(
        None, UnitTable(), "Columns by name, each with a text or a number per unit.", repr=False
    )

    @classmethod
    def checked(cls, name: Any, n: Any, kind: str, given: Mapping[str, Any]) -> Region:
        """A region of declared fields, checked.

        Raises
        ------
        GraphError
            If a value does not fit its field or the others.
        """
        if not isinstance(name, str) or not name:
            raise GraphError(f"a region's name must be a non-empty string, not {name!r}.")
        where = f"region {name!r}"
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise GraphError(f"{where}: the number of units is {n!r}; use an integer of at least 1.")
        if n >= MOST_UNITS:
            raise GraphError(f"{where}: {n:,} units are too many; it can have {MOST_UNITS - 1:,}.")
        if given.get("parent_region") == name:  # every name stands for its own region anyway
            given = {**given, "parent_region": None}
        region = cls(name, int(n), kind, **checked(FIELDS_OF_KIND[kind], where, given, int(n)))
        for learnable, value in LEARNT_FROM.items():
            if region.learnt_by(learnable) == "region" and np.ndim(getattr(region, value)):
                problem = f"{learnable}='region' needs one {value} for the region, not one a unit"
                raise GraphError(f"{where}: {problem}; give one number, or {learnable}='unit'.")
        region._check_tau_bounds()
        return region

    def attributes(self) -> dict[str, Any]:
        """The region as attributes of a networkx node; without None, which networkx writers do not take."""
        values = {name: getattr(self, name) for name in ("kind", "n", *FIELDS_OF_KIND[self.kind])}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def num_units(self) -> int:
        """mRNNTorch's name for ``n``."""
        return self.n

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """One int8 per unit: +1, -1, or 0 for a unit without a sign."""
        return Signs().by_unit(self.sign, self.n)

    def learnt_by(self, learnable: str) -> str | None:
        """How a value is trained ("learnable_bias", ...): "unit", "region", or None if it is not."""
        value = getattr(self, learnable)
        kind = REGION_FIELDS[learnable].kind
        return kind.true if value is True and isinstance(kind, Learnable) else value or None

    @property
    def has_activation_values(self) -> bool:
        """Tell if the units have gains or thresholds of their own."""
        values = self.activation_gain, self.activation_threshold
        learnt = self.learnable_activation_gain or self.learnable_activation_threshold
        return bool(learnt) or any(value is not None for value in values)

    def cut(self, units: NDArray[np.int64]) -> Region:
        """The region with only some of its units, ascending, perhaps none."""
        if len(units) == self.n:
            return self
        cut: dict[str, Any] = {}
        for name, field in REGION_FIELDS.items():
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                cut[name] = value[units]
            elif value is not None and isinstance(field.kind, UnitIds):
                cut[name] = tuple(value[k] for k in units)
            elif value is not None and isinstance(field.kind, UnitTable):
                cut[name] = {column: values[units] for column, values in value.items()}
        return replace(self, n=len(units), **cut)

    def _check_tau_bounds(self) -> None:
        if self.tau_bounds is None:
            return
        low, high = self.tau_bounds
        tau = np.asarray(low or 0.0 if self.tau is None else self.tau)
        inside = (tau >= (low or 0.0)).all() and (tau <= (math.inf if high is None else high)).all()
        if not self.learnable_tau or not inside or min(low or 0.0, high or 0.0) < 0:
            problem = "they need learnable_tau=True, least < largest, and tau within"
            raise GraphError(f"region {self.name!r}: tau_bounds is {self.tau_bounds!r}; {problem}.")


REGION_FIELDS = fields_of(Region)
INPUT_FIELDS = {name: field for name, field in REGION_FIELDS.items() if field.inputs}
FIELDS_OF_KIND = {"recurrent": REGION_FIELDS, "input": INPUT_FIELDS}
