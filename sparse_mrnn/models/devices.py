"""The devices and precisions that networks run in."""

from __future__ import annotations

import torch

from sparse_mrnn.errors import ConfigError


def check_runnable(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a precision or a device that networks do not run in.

    Raises
    ------
    ConfigError
    """
    if dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            f"networks do not run in dtype {dtype}, for sparse products have no such precision; use "
            "torch.float32 or torch.float64, under autocast if the code around is in another."
        )
    if device.type == "meta":
        raise ConfigError("networks do not run on the meta device, which holds no values; give device='cpu'.")


def chosen_device(device: str | torch.device | None) -> torch.device:
    """The device meant; by default torch's default device if that is set, else CUDA if there is one.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    if device is None and torch.get_default_device().type != "cpu":
        device = torch.get_default_device()
    if device is None:
        found = torch.cuda.is_available()
        return torch.device("cuda", torch.cuda.current_device()) if found else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        text = f"device {device!r} is not a torch device; use 'cpu', 'cuda' or 'cuda:0'."
        raise ConfigError(text) from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"device {device!r}: this torch sees no CUDA device; use 'cpu', or None.")
        return torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
    try:
        torch.empty(0, device=chosen)
    except Exception as error:  # torch raises almost anything for a device it was built without
        text = f"device {device!r}: this torch has none ({str(error).splitlines()[0]})"
        raise ConfigError(f"{text}; use 'cpu', or None.") from None
    return chosen
