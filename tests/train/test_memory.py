from types import SimpleNamespace

import pytest

from train import memory
from train.memory import GIB


@pytest.mark.parametrize(
    ("gib", "rows"),
    [(139, 8), (20.1, 8), (20, 6), (16, 6), (15.9, 4), (12, 4), (11.9, 2), (8, 2), (7.9, 1), (0, 1)],
)
def test_free_memory_says_how_many_rows_are_answered_at_once(gib, rows):
    assert memory.batch_size(int(gib * GIB)) == rows


def test_without_a_gpu_there_is_nothing_to_measure_or_to_release(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert memory.memory() is None
    assert memory.free() is None
    assert not memory.release(0.0)


def a_gpu(monkeypatch, free, whole, reserved, allocated):
    """Let torch report a GPU with so many GiB; return the list that grows when its cache is released."""
    import torch

    released = []
    gpu = SimpleNamespace(
        is_available=lambda: True,
        mem_get_info=lambda: (free * GIB, whole * GIB),
        memory_reserved=lambda: reserved * GIB,
        memory_allocated=lambda: allocated * GIB,
        empty_cache=lambda: released.append(True),
    )
    monkeypatch.setattr(torch, "cuda", gpu)
    return released


def test_what_torch_holds_unused_is_free_for_this_process(monkeypatch):
    a_gpu(monkeypatch, free=3, whole=24, reserved=20, allocated=15)

    assert memory.free() == 8 * GIB


@pytest.mark.parametrize(("above", "times"), [(0.8, 1), (0.9, 0)])
def test_the_cache_is_released_above_a_share_of_the_gpu(monkeypatch, above, times):
    released = a_gpu(monkeypatch, free=3, whole=24, reserved=20, allocated=15)

    assert memory.release(above) is bool(times)
    assert len(released) == times
