"""A spiking network learns a task by surrogate gradients."""

import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.tasks import delayed_response


@pytest.mark.slow
def test_a_delayed_response_is_learnt():
    graph = sm.RegionGraph()
    graph.add_region("exc", 80)
    graph.add_region("inh", 20, sign="neg")
    graph.add_input("cue", 3)
    for target in ("exc", "inh"):
        graph.add_projection("exc", target, density=0.3, initializer=sm.Uniform(0, 0.5))
        graph.add_projection("inh", target, density=0.3, initializer=sm.Uniform(0, 2))
        graph.add_projection("cue", target, sign="free", initializer=sm.Uniform(-6, 9))
    net = sm.LIF(graph, dt=10, tau_m=20, tau_syn=100, t_ref=0, surrogate_slope=0.3, seed=0, device="cpu")
    torch.manual_seed(0)
    readout = torch.nn.Linear(100, 1)
    parameters = [*net.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005)
    right = []
    for step in range(100):
        trials = delayed_response(64, seed=step)
        trace, outputs = torch.zeros(64, 100), []
        for now in net(trials.inp)[1].unbind(1):
            trace = 0.82 * trace + now
            outputs.append(readout(trace))
        output = torch.stack(outputs, 1)
        right.append(((output[:, -1] > 0) == (trials.target[:, -1] > 0)).float().mean().item())
        optimizer.zero_grad()
        (output - trials.target).square()[trials.mask].mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    assert max(right[:3]) < 0.8
    assert sum(sorted(right)[-20:]) / 20 > 0.95  # on trials that it had not seen
