"""Many small least-squares problems at once, some weights held to a sign: from their Gram matrices, exactly.

Sign constraints are met by block principal pivoting, which exchanges whole sets of weights between those at 0
and the others until every one is on its right side: Kim & Park 2011, SIAM J. Sci. Comput. 33:3261; Judice &
Pires 1994, Comput. Oper. Res. 21:587. Each step is one Cholesky factorisation of all problems not yet solved.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-9
"""Share of the largest weight, or gradient, by which one may be on its wrong side."""
DEPENDENT = 1e-11
"""Share of a regressor's mean square that others must leave unexplained, or it counts as dependent."""
FULL_EXCHANGES = 3
"""Exchanges of whole sets without progress before one weight is exchanged at a time, which must end."""


def dependent_regressor(gram: Tensor) -> Tensor:
    """Find in each problem a regressor that the ones before it explain.

    Parameters
    ----------
    gram : Tensor of float64, shape (problems, k, k)

    Returns
    -------
    Tensor of int64, shape (problems,)
        Its number; -1 if all are independent.

    Examples
    --------
    >>> dependent_regressor(torch.tensor([[[2.0, 2.0], [2.0, 2.0]], [[2.0, 1.0], [1.0, 2.0]]]).double())
    tensor([ 1, -1])
    """
    scaled, _ = _unit_diagonal(gram)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    silent = torch.diagonal(gram, dim1=1, dim2=2) <= 0
    left = torch.diagonal(factor, dim1=1, dim2=2).square()
    bad = silent | (left < DEPENDENT) | left.isnan()
    # A factorisation that breaks off says where; what comes after has no meaning
    bad[failed > 0, (failed[failed > 0] - 1).long()] = True
    return torch.where(bad.any(1), bad.int().argmax(1), -1)


def signed_least_squares(gram: Tensor, moment: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise w G w / 2 - c w in each problem, with sign w >= 0 where a sign is given.

    Parameters
    ----------
    gram : Tensor of float64, shape (problems, k, k)
        G, positive definite but for regressors that are 0 everywhere, whose weights become 0.
    moment : Tensor, shape (problems, k)
        c.
    sign : Tensor of int8, shape (problems, k)
        +1, -1, or 0 for a free weight.

    Returns
    -------
    weights : Tensor, shape (problems, k)
    solved : Tensor of bool, shape (problems,)
        False where G is too nearly singular for a solution to be found.

    Examples
    --------
    >>> gram, moment = torch.eye(2).double()[None] + 1, torch.tensor([[3.0, 0.0]]).double()
    >>> signed_least_squares(gram, moment, torch.tensor([[0, 0]]))[0].round(decimals=9)
    tensor([[ 2., -1.]], dtype=torch.float64)
    >>> signed_least_squares(gram, moment, torch.tensor([[1, 1]]))[0]
    tensor([[1.5000, 0.0000]], dtype=torch.float64)
    """
    scaled, factor = _unit_diagonal(gram)
    flip = torch.where(sign < 0, -1.0, 1.0).to(gram)
    scaled = flip[:, :, None] * scaled * flip[:, None]
    moment, constrained = moment * factor * flip, sign != 0
    passive = torch.ones_like(constrained)  # the others are 0
    weights, solved = torch.zeros_like(moment), torch.zeros(len(gram), dtype=torch.bool, device=gram.device)
    left = torch.arange(len(gram), device=gram.device)  # problems not yet solved
    k = gram.shape[1]
    fewest, patience = torch.full_like(left, k + 1), torch.full_like(left, FULL_EXCHANGES)
    for _ in range(20 + 10 * k):
        if not len(left):
            break
        inside, g, c = passive[left], scaled[left], moment[left]
        both = inside[:, :, None] & inside[:, None]
        system = torch.where(both, g, 0) + torch.diag_embed((~inside).to(g))
        cholesky, failed = torch.linalg.cholesky_ex(system)
        w = torch.cholesky_solve((c * inside)[..., None], cholesky)[..., 0]
        gradient = (g @ w[..., None])[..., 0] - c
        least_w = TOLERANCE * w.abs().amax(1, keepdim=True)
        least_g = TOLERANCE * c.abs().amax(1, keepdim=True)
        wrong = constrained[left] & torch.where(inside, w < -least_w, gradient < -least_g)
        count = wrong.sum(1)
        found, lost = (count == 0) & (failed == 0), failed > 0
        at = left[found]
        weights[at] = torch.where(constrained[at], w[found].clamp(min=0), w[found])
        solved[at] = True
        fewer = count < fewest[left]
        fewest[left] = torch.where(fewer, count, fewest[left])
        patience[left] = torch.where(fewer, FULL_EXCHANGES, patience[left] - 1)
        last = k - 1 - wrong.flip(1).int().argmax(1)
        one = torch.nn.functional.one_hot(last, k).bool()
        passive[left] = inside ^ torch.where((patience[left] >= 0)[:, None], wrong, wrong & one)
        left = left[~(found | lost)]
    return weights * factor * flip, solved


def _unit_diagonal(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Scale Gram matrices to a diagonal of 1, and the factors; a regressor of 0 gets a 1 there, too."""
    size = torch.diagonal(gram, dim1=1, dim2=2)
    factor = torch.where(size > 0, size, 1).rsqrt()
    scaled = factor[:, :, None] * gram * factor[:, None]
    return scaled + torch.diag_embed((size <= 0).to(gram)), factor
