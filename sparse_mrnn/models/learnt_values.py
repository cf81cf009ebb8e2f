"""Values of units that a network may learn, one for each unit or one for each region."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LearntValue:
    """A learnt value: the network's parameter, the start of the names of its indices, and how it is declared.

    Parameters
    ----------
    parameter : str
        Attribute of a network; None there unless a region learns it.
    index : str
        ``<index>_units``, ``<index>_of`` and ``<index>_region`` are its indices (`mRNNBase._learnt`).
    field : str
        Of a region: how it is learnt.
    what : str
        Its name in parameter groups and messages.
    declare : str
        The field it starts from.
    """

    parameter: str
    index: str
    field: str
    what: str
    declare: str


LEARNT_VALUES = (
    LearntValue("bias", "bias", "learnable_bias", "bias", "base_firing"),
    LearntValue("init", "init", "learnable_init", "init", "init"),
    LearntValue("tau_logit", "alpha", "learnable_tau", "time constants", "tau"),
    LearntValue("noise_log", "noise", "learnable_noise", "noise levels", "noise_level"),
    LearntValue("gain_log", "gain", "learnable_activation_gain", "activation gains", "activation_gain"),
    LearntValue(
        "x_threshold", "threshold", "learnable_activation_threshold", "activation thresholds",
        "activation_threshold",
    ),
)  # fmt: skip
UNDECLARED: dict[str, float | None] = {
    "noise_level": None, "activation_gain": 1.0, "activation_threshold": 0.0,
}  # fmt: skip
"""Values of regions that declare none; None: the network's."""
