"""CsrMatrix: a torch CSR matrix that is computed with like a dense one, as long as it is small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.errors import WeightError
from sparse_mrnn.models.weights import check_dense


class CsrMatrix(Tensor):
    """A CSR tensor that torch converts where it has no sparse way: a sum with a dense matrix, an index.

    A torch function that takes CSR gets CSR; for another one the matrix is made dense, up to `DENSE_LIMIT`
    entries. It is a copy of parameters, so writing into it is refused. Differentiable.

    Examples
    --------
    >>> w = CsrMatrix(torch.eye(2).to_sparse_csr())
    >>> (w.layout, w + torch.ones(2, 2))
    (torch.sparse_csr, tensor([[2., 1.],
            [1., 2.]]))
    """

    def __new__(cls, csr: Tensor) -> CsrMatrix:
        # torch has no as_subclass for CSR: every function comes through __torch_function__ to the one inside
        made: CsrMatrix = Tensor._make_wrapper_subclass(cls, csr.shape, dtype=csr.dtype, device=csr.device)
        vars(made)["csr"] = csr
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        writes = name in WRITES or (name.endswith("_") and not name.endswith("__"))
        if writes and isinstance(args[0], cls):
            raise WeightError(
                f"{name}: W_rec and W_inp are copies of the parameters; write net.rec.values, or "
                "net.rec.projection_values(source=, target=)."
            )
        try:
            result = func(*_inside(args, _csr), **_inside(kwargs or {}, _csr))
        except (RuntimeError, TypeError):
            result = func(*_inside(args, _dense), **_inside(kwargs or {}, _dense))
        sparse = isinstance(result, Tensor) and result.layout == torch.sparse_csr
        return cls(result) if sparse else result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise TypeError(f"{func} takes no W_rec as it is; give it W_rec.to_dense().")


WRITES = ("__setitem__", "__set__", *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "pow")))


def _inside(value: Any, how: Callable[[CsrMatrix], Tensor]) -> Any:
    """Arguments with the matrices inside the wrappers."""
    if isinstance(value, CsrMatrix):
        return how(value)
    if isinstance(value, dict):
        return {key: _inside(part, how) for key, part in value.items()}
    return type(value)(_inside(part, how) for part in value) if type(value) in (list, tuple) else value


def _csr(matrix: CsrMatrix) -> Tensor:
    found: Tensor = vars(matrix)["csr"]
    return found


def _dense(matrix: CsrMatrix) -> Tensor:
    check_dense((matrix.shape[0], matrix.shape[1]))
    return _csr(matrix).to_dense()
