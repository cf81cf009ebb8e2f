"""Modes that PyTorch has switched on around a call: inference, a default device, transforms of functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from sparse_mrnn.errors import ConversionError


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Make tensors that autograd takes, on the CPU if no device is named, whatever is switched on around.

    What a network keeps must be made so: an inference tensor cannot be used in training later.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode(), torch.device("meta"), ordinary_tensors():
    ...     t = torch.ones(1)
    >>> t.device.type, t.is_inference()
    ('cpu', False)
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())  # leaving inference mode switches gradients on
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def refuse_transforms(*grads: Tensor | None) -> None:
    """Refuse what differentiates or batches a function by calling it with tensors that stand for others.

    Parameters
    ----------
    grads : Tensor, optional
        Gradients that a backward pass was given.

    Raises
    ------
    ConversionError
        Under a transform of torch.func, batched gradients or forward-mode differentiation.
    """
    batched = any(torch._C._functorch.is_legacy_batchedtensor(g) for g in grads if g is not None)
    transformed = torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    if batched or transformed:
        raise ConversionError(
            "torch.func (grad, jacrev, jvp, vmap), forward mode and batched gradients (is_grads_batched, "
            "vectorize=True) cannot see into compiled sparse products. Use torch.autograd.grad or "
            "torch.autograd.functional.jacobian, a backward pass at a time, and give trials as one batch."
        )
