"""Zeros of the velocity from many states at once: Newton steps, and gradient descent when they stall.

Newton-Krylov with backtracking: Knoll & Keyes 2004, J. Comput. Phys. 193:357; how exactly the linear systems
are solved: Eisenstat & Walker 1996. Sussillo & Barak 2013 have the fallback: descent on q = |v|^2 / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.analysis.dynamics import Dynamics
from sparse_mrnn.analysis.gmres import gmres

DIRECT = 400
"""Units up to which the linear systems are factorised."""
FAR = 1e4
"""A Newton step longer than this many times the velocity shows a nearly singular Jacobian."""
HALVINGS = 10
"""Times a Newton step is halved before it counts as stalled."""


@dataclass(frozen=True)
class SolverOptions:
    """Tolerance and limits of the search for zeros.

    Parameters
    ----------
    tol : float
        Euclidean norm of the velocity at which a state counts as a fixed point.
    max_newton : int
        Newton steps in a row.
    basis : int
        Vectors of a GMRES cycle.
    descent_steps : int
        Steps of Adam when Newton steps stall; 0: none.
    descent_rate : float
        Adam's learning rate.
    rounds : int
        Times that Newton follows a descent.
    """

    tol: float = 1e-8
    max_newton: int = 60
    basis: int = 60
    descent_steps: int = 200
    descent_rate: float = 0.02
    rounds: int = 2


def find_zeros(
    dynamics: Dynamics, start: Tensor, options: SolverOptions
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Look for a zero of the velocity from every column of ``start``; see `SolverOptions`.

    Returns the states at the end, their speeds, and each column's Newton steps and gradient descents.
    """
    state = start.clone()
    speed = dynamics.velocity(state).norm(dim=0)
    steps, descents = torch.zeros(2, len(speed), dtype=torch.int64, device=state.device)
    for round_ in range(options.rounds + 1):
        todo = torch.nonzero(~(speed <= options.tol))[:, 0]
        if len(todo) == 0:
            break
        part = dynamics.columns(todo)
        if round_ and options.descent_steps:
            state[:, todo] = _descend(part, state[:, todo], options)
            descents[todo] += 1
        elif round_:
            break
        state[:, todo], speed[todo], taken = _newton(part, state[:, todo], options)
        steps[todo] += taken
    return state, speed, steps, descents


def _newton(dynamics: Dynamics, state: Tensor, options: SolverOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Newton steps until every column has converged or stalled: states, speeds and steps taken."""
    velocity = dynamics.velocity(state)
    speed = velocity.norm(dim=0)
    steps = torch.zeros(len(speed), dtype=torch.int64, device=state.device)
    forcing = torch.full_like(speed, 0.1)
    active = torch.arange(len(speed), device=state.device)
    for _ in range(options.max_newton):
        active = active[speed[active] > options.tol]
        if len(active) == 0:
            break
        here, part = state[:, active], dynamics.columns(active)
        rtol = torch.maximum(forcing[active], 0.1 * options.tol / speed[active])
        change = _change(part, here, -velocity[:, active], rtol, options.basis)
        better, new, new_velocity = _backtrack(part, here, change, speed[active])
        moved = active[better]
        state[:, moved], velocity[:, moved] = new[:, better], new_velocity[:, better]
        before, after = speed[moved], new_velocity[:, better].norm(dim=0)
        forcing[moved] = (0.9 * (after / before) ** 2).clamp(1e-6, 0.1)
        speed[moved] = after
        steps[moved] += 1
        active = moved
    return state, speed, steps


def _change(dynamics: Dynamics, state: Tensor, rhs: Tensor, rtol: Tensor, basis: int) -> Tensor:
    """J^-1 rhs in every column: few units by LU; many, or a nearly singular J, by GMRES."""
    tangent = dynamics.tangent(state)
    if dynamics.n > DIRECT:
        return gmres(tangent.forward, rhs, rtol, basis=basis)[0]
    change = tangent.solve(rhs)
    far = torch.nonzero(~(change.norm(dim=0) <= FAR * rhs.norm(dim=0)))[:, 0]
    if len(far):
        part = dynamics.columns(far).tangent(state[:, far])
        change[:, far] = gmres(part.forward, rhs[:, far], rtol[far], basis=basis)[0]
    return change


def _backtrack(
    dynamics: Dynamics, state: Tensor, change: Tensor, speed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The longest of the halved steps that slows a column: which columns have one, states and velocities."""
    new, velocity = state.clone(), torch.zeros_like(state)
    better = torch.zeros(len(speed), dtype=torch.bool, device=state.device)
    length = 1.0
    for _ in range(HALVINGS + 1):
        todo = torch.nonzero(~better)[:, 0]
        trial = state[:, todo] + length * change[:, todo]
        there = dynamics.columns(todo).velocity(trial)
        good = there.norm(dim=0) < (1 - 1e-4 * length) * speed[todo]
        index = todo[good]
        new[:, index], velocity[:, index], better[index] = trial[:, good], there[:, good], True
        if bool(better.all()):
            break
        length /= 2
    return better, new, velocity


def _descend(dynamics: Dynamics, state: Tensor, options: SolverOptions) -> Tensor:
    """Descend on q with Adam (Kingma & Ba 2015), column by column; keep the slowest state on the way."""
    best, slowest = state.clone(), torch.full_like(state[0], torch.inf)
    state = state.clone()
    adam = torch.optim.Adam([state], options.descent_rate, eps=1e-12)
    slowing = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / options.descent_steps)
    for _ in range(options.descent_steps):
        velocity = dynamics.velocity(state)
        speed = velocity.norm(dim=0)
        slower = speed < slowest
        best, slowest = torch.where(slower, state, best), torch.where(slower, speed, slowest)
        if bool((slowest <= options.tol).all()):
            break
        state.grad = dynamics.tangent(state).adjoint(velocity)
        adam.step()
        slowing.step()
    return best
