"""FixedTensors: a module with tensors that its state dict carries and that no tool does arithmetic on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sparse_mrnn.ops.torch_modes import ordinary_tensors


def computed(name: str, given: Tensor, kind: torch.dtype) -> str:
    """Say that an entry of a state dict is of a type that only arithmetic can have made."""
    found, own = (str(dtype).removeprefix("torch.") for dtype in (given.dtype, kind))
    advice = "average named_parameters(), or use torch.optim.swa_utils.AveragedModel"
    return f"{name} is {found} and not {own}: the state dict was computed, and structure cannot be; {advice}."


class FixedTensors(nn.Module):
    """A module whose structure and constants are plain tensor attributes instead of buffers.

    Tools that average weights (``torch.optim.swa_utils``, Lightning's EMA) average buffers too: averaged and
    truncated, the column of a synapse is another synapse. DistributedDataParallel sends buffers in each
    forward pass. A fixed tensor moves with the module, is copied with it and into its state dict; nothing
    else touches it.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that a module of this class may have itself."""

    def __init__(self) -> None:
        super().__init__()
        self._fixed: dict[str, bool] = {}

    def fix(self, name: str, tensor: Tensor | None, *, persistent: bool = True) -> None:
        """Set an attribute that moves with the module; in its state dict if it is ``persistent``."""
        self._fixed[name] = persistent
        vars(self)[name] = tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self._fixed:
            tensor = getattr(self, name)
            if tensor is not None:
                moved = fn(tensor)
                # indices stay exact: .type(torch.float16) casts any tensor
                exact = tensor.is_floating_point() or moved.dtype == tensor.dtype
                setattr(self, name, moved if exact else tensor.to(moved.device))
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[no-untyped-call]
        for name, tensor in self.persistent_tensors().items():
            # Copies: some tools average into the tensors of a state dict (timm's ModelEmaV2)
            destination[prefix + name] = tensor if keep_vars else tensor.detach().clone()

    def persistent_tensors(self) -> dict[str, Tensor]:
        """The fixed tensors of the state dict of this module, without those of modules in it."""
        found = {name: getattr(self, name) for name, persistent in self._fixed.items() if persistent}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @ordinary_tensors()
    def _load_fixed(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
        *,
        free: Collection[str] = (),
        optional: Collection[str] = (),
    ) -> None:
        """Take the fixed tensors out of a state dict; arguments as of torch's ``_load_from_state_dict``.

        Those in ``free`` may have another shape; those in ``optional`` may be missing, and are None then.
        """
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, persistent in self._fixed.items():
            key, own = prefix + name, getattr(self, name)
            if not persistent or (own is None and name not in optional):
                continue  # torch finds what is not expected
            given = state_dict.pop(key, None)
            if given is None:
                if name in optional:
                    setattr(self, name, None)
                elif strict:
                    missing_keys.append(key)
                continue
            if own is not None and given.is_floating_point() != own.is_floating_point():
                error_msgs.append(computed(key, given, own.dtype))
                continue
            if own is not None and given.shape != own.shape and name not in free:
                shapes = f"copying a param with shape {given.shape} from checkpoint"
                error_msgs.append(f"size mismatch for {key}: {shapes}, the shape here is {own.shape}.")
                continue
            if not assign:
                like = next(self.parameters()) if own is None else own
                dtype = like.dtype if given.is_floating_point() else given.dtype
                given = torch.empty_like(given, dtype=dtype, device=like.device).copy_(given)
            setattr(self, name, given)
