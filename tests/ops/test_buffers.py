"""Memory of states is used again only after every tensor, view and array in it is gone."""

import copy
import gc
import io

import numpy as np
import pytest
import torch

import sparse_mrnn as sm
from sparse_mrnn.ops import buffers
from sparse_mrnn.ops.buffers import new_buffer


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    monkeypatch.setattr(buffers, "SMALLEST", 0)
    monkeypatch.setattr(buffers, "_kept", {})


def kept():
    return sum(len(blocks) for blocks in buffers._kept.values())


def addresses(*shape, count=4):
    held = [new_buffer(torch.zeros(1), *shape) for _ in range(count)]
    return {buffer.data_ptr() for buffer in held}


@pytest.mark.parametrize("hold", [lambda t: t, lambda t: t[1:, ::2].t(), lambda t: t.numpy()[0], torch.utils.dlpack.to_dlpack])
def test_a_block_is_used_again_after_its_last_view(hold):
    first = new_buffer(torch.zeros(1), 6, 5).fill_(3.0)
    address, view = first.data_ptr(), hold(first)
    del first
    gc.collect()
    assert address not in addresses(6, 5)
    for _ in range(3):
        new_buffer(torch.zeros(1), 6, 5).fill_(7.0)
    if isinstance(view, torch.Tensor | np.ndarray):
        assert (view == 3.0).all()
    before = kept()
    del view
    gc.collect()
    assert address in addresses(6, 5, count=before + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 3, 4), ()])
def test_buffers_are_aligned_tensors_of_the_type(dtype, shape):
    found = [new_buffer(torch.zeros(2, 2, dtype=dtype), *shape) for _ in range(3)]
    for buffer in found:
        assert (buffer.shape, buffer.dtype, buffer.is_contiguous()) == (shape, dtype, True)
        assert buffer.data_ptr() % buffers.ALIGNMENT == 0 or buffer.numel() == 0
    for k, buffer in enumerate(found):
        buffer.fill_(k)
    assert all((buffer == k).all() for k, buffer in enumerate(found))


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(buffers, "LARGEST", 10_000)
    held = [new_buffer(torch.zeros(1), 500) for _ in range(20)]
    assert new_buffer(torch.zeros(1), 5000)._base is None  # larger than all that is kept: torch's own
    del held
    assert 0 < sum(size * len(blocks) for size, blocks in buffers._kept.items()) <= 10_000


def test_other_types_and_devices_have_memory_of_their_own():
    assert new_buffer(torch.zeros(1, dtype=torch.int32), 3).dtype == torch.int32
    assert new_buffer(torch.zeros(1, device="meta"), 3).device.type == "meta"
    assert kept() == 0


@pytest.mark.parametrize("model", [sm.mRNN, sm.ElmanmRNN])
def test_passes_leave_the_results_of_earlier_ones_alone(model, monkeypatch):
    g = sm.RegionGraph()
    g.add_region("a", 30, sign=None)
    g.add_projection("a", "a", density=0.4)
    net = model(g, "tanh", seed=0, device="cpu")
    starts = [torch.rand(4, 30, generator=torch.Generator().manual_seed(k)) for k in range(6)]

    def run(start, checkpoint_steps):
        net.zero_grad()
        out = net(torch.zeros(4, 9, 0), start, checkpoint_steps=checkpoint_steps)
        h = out if isinstance(out, torch.Tensor) else out[-1]
        h.square().sum().backward()
        return h.detach(), net.rec.values.grad.clone()

    calls = [(start, steps) for start in starts for steps in (None, 2)]
    found = [run(*call) for call in calls]
    found += [run(*call) for call in calls]
    reused = kept()
    monkeypatch.setattr(buffers, "SMALLEST", 2**40)
    expected = [run(*call) for call in calls] * 2
    assert reused > 0
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_results_are_copied_saved_and_shared_as_any_tensor():
    states = new_buffer(torch.zeros(1), 4, 3).copy_(torch.arange(12.0).view(4, 3))
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), states)
    assert torch.equal(copy.deepcopy(states), states)
    expected = states.clone()
    assert torch.equal(states.share_memory_(), expected)
