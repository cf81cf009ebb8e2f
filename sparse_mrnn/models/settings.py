"""GuardedSettings: a module whose settings can be changed, or say why not, and are not misspelt unseen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from sparse_mrnn.errors import SettingError, suggest
from sparse_mrnn.models.learnt_values import LEARNT_VALUES

OTHER_NAMES = ("device", "sigma_recur", "sigma_input", "activation_name")
"""Settings under other names than those of arguments."""
OF_SOME_MODELS = ("tau", "integrator")
SET_ONCE = {
    "graph": "make a network of another graph: mRNN(graph)",
    "seed": "net.reset_noise(seed) restarts the noise; synapses are drawn when a network is built",
    "device": "use net.to(device)",
    "dtype": "use net.to(dtype)",
    "model": "make an mRNN or an ElmanmRNN",
}
LEARNT = {value.parameter: f"declare {value.declare} and {value.field}" for value in LEARNT_VALUES}
WRITE_VALUES = "write the parameters: net.{0}.values, or net.{0}.projection_values(source=, target=)"
COMPUTED = {
    "alpha": "set net.dt, net.tau or net.integrator",
    "activation_name": "set net.activation",
    "hid_noise_const": "set net.noise_level_act",
    "inp_noise_const": "set net.noise_level_inp",
    "tonic_inp": "declare base_firing, or write net.bias where it is learnt",
    "initial_condition": "declare init, or write net.init where it is learnt",
    "unit_noise_level": "declare noise_level, or write net.noise_log, its logarithm, where it is learnt",
    "activation_gain": "declare it, or write net.gain_log, its logarithm, where it is learnt",
    "activation_threshold": "declare it, or write net.x_threshold where it is learnt",
    "W_rec": WRITE_VALUES.format("rec"),
    "W_inp": WRITE_VALUES.format("inp"),
}


class GuardedSettings(nn.Module):
    """A module that checks its settings whenever they are set.

    What is computed, or fixed once it is built, is refused with what to do instead. So is a public name close
    to that of a setting, in a network of the package's own classes: it would be taken and ignored. Any other
    name may be set, as of every ``torch.nn.Module``; a class of your own may have any.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN(device="cpu")
    >>> net.spectral_raduis = 1
    Traceback (most recent call last):
        ...
    sparse_mrnn.errors.SettingError: mRNN has no setting 'spectral_raduis'. Did you mean 'spectral_radius'?
    """

    setting_names: ClassVar[tuple[str, ...]] = ()
    checks: ClassVar[Mapping[str, Callable[[Any, str], Any]]] = {}
    """Check of a setting by its name: takes a value and the name, returns the value to keep, or raises."""

    def __setattr__(self, name: str, value: Any) -> None:
        found = getattr(type(self), name, None)
        if name in self.checks:
            value = self.checks[name](value, name)
        if isinstance(found, property):
            if found.fset is None:
                what = COMPUTED.get(name, "it follows from the declaration, the parameters and the settings")
                raise SettingError(f"{name} of a network is computed and cannot be set: {what}.")
            found.fset(self, value)  # torch would register a module or a parameter beside the property
            return
        if callable(found) and not callable(value):
            raise SettingError(f"{name} is a method of a network and cannot be set.")
        self._check_tensor(name, value)
        if name in SET_ONCE and getattr(self, name, None) is not None:
            raise SettingError(f"{name} of a network cannot be set once it is made: {SET_ONCE[name]}.")
        if name not in self.checks and found is None and not self._may_have(name, value):
            hint = suggest(name.lower(), (*self.setting_names, *OTHER_NAMES), what="settings")
            raise SettingError(f"{type(self).__name__} has no setting {name!r}. {hint}")
        super().__setattr__(name, value)

    def _check_tensor(self, name: str, value: Any) -> None:
        """Refuse a value for what this network does not learn, and a tensor of another size."""
        if name in LEARNT and value is None:
            return
        built = vars(self).get("_modules", {}).get("rec") is not None
        if name in LEARNT and built and vars(self).get(name, value) is None:
            raise SettingError(f"this network learns no {name}: {LEARNT[name]} before it is built.")
        own = vars(self).get("_parameters", {}).get(name) if name in LEARNT else None
        if name in vars(self).get("_fixed", ()):
            own = vars(self)[name]
        if isinstance(own, Tensor) and (not isinstance(value, Tensor) or value.shape != own.shape):
            given = f"one of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            shape = tuple(own.shape)
            raise SettingError(f"{name} of this network is a tensor of shape {shape}, not {given}.")

    def _may_have(self, name: str, value: Any) -> bool:
        """True if an attribute is torch's, private, there already, or unlike every setting."""
        registered = isinstance(value, nn.Module | nn.Parameter) or name in (*self.setting_names, *LEARNT)
        if registered or name.startswith("_") or name in vars(self) or name in SET_ONCE:
            return True
        if not type(self).__module__.startswith("sparse_mrnn."):
            return True
        known = (*self.setting_names, *OTHER_NAMES, *OF_SOME_MODELS)
        return not difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            own = getattr(type(self), name, None)
            if isinstance(own, property) and own.fget is not None:  # it failed; say why
                return own.fget(self)  # type: ignore[no-any-return]
            if name.startswith("_"):  # torch asks for some in every zero_grad
                raise
            known = [*self.setting_names, *vars(self), *dir(type(self))]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if not near:
                raise
            raise AttributeError(f"{error}. Did you mean {near[0]!r}?", name=name, obj=self) from None
