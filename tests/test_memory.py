"""Memory of outputs that is used again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from normspec.runtime import memory
from normspec.runtime.memory import CAPACITY, LINE, TRACKED, Pool, rounded

FLOAT = np.dtype(np.float32)
MANY = 1 << 20


def address(x: Any) -> int:
    return int(x.ctypes.data)


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    pool = Pool()
    first = pool.empty((MANY,), FLOAT)
    place = address(first)
    view = first[10:20]
    del first
    second = pool.empty((MANY,), FLOAT)
    assert address(second) != place, "a view still needs the memory"
    assert address(view) == place + 40
    del view
    assert address(pool.empty((MANY,), FLOAT)) == place


@pytest.mark.parametrize("hold", [memoryview, np.transpose, lambda x: x.view(np.uint8), lambda x: x.base])
def test_whatever_holds_an_output_keeps_its_memory(hold: Any) -> None:
    pool = Pool()
    first = pool.empty((4, MANY), FLOAT)
    place, held = address(first), hold(first)
    del first
    assert address(pool.empty((4, MANY), FLOAT)) != place
    del held
    both = [pool.empty((4, MANY), FLOAT) for _ in range(2)]
    assert place in map(address, both)


def test_outputs_that_live_share_nothing() -> None:
    pool = Pool()
    random = np.random.default_rng(0)
    live: list[Any] = []
    for number in range(300):
        shape = (int(random.integers(1, 5)), int(random.integers(20_000, 40_000)))
        x = pool.empty(shape, FLOAT)
        x[...] = number
        live.append((number, x))
        if random.random() < 0.6:
            live.pop(int(random.integers(len(live))))
        assert address(x) % LINE == 0
    for number, x in live:
        assert (x == number).all()


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CAPACITY", 10 << 20)
    pool = Pool()
    held = [pool.empty((1 << 18,), FLOAT) for _ in range(20)]
    del held
    pool.empty((1 << 19,), FLOAT)
    assert sum(one.memory.size for one in pool._buffers) <= 10 << 20
    many = [pool.empty((1 << 14,), FLOAT) for _ in range(TRACKED + 10)]
    assert len(pool._buffers) <= TRACKED
    assert len({address(one) for one in many}) == len(many)
    pool.clear()
    assert not pool._buffers
    many[0][...] = 1  # still its own


def test_threads_get_memory_of_their_own() -> None:
    pool, wrong = Pool(), []

    def work(number: int) -> None:
        for _ in range(200):
            x = pool.empty((1 << 15,), FLOAT)
            x[...] = number
            if not (x == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)], ids=str)
def test_an_output_has_the_order_of_axes_of_the_input(order: tuple[int, ...]) -> None:
    x = np.zeros((8, 16, 32, 64), np.float32).transpose(order)
    y = memory.empty_like(x)
    assert (y.shape, y.strides, y.dtype) == (x.shape, x.strides, x.dtype)
    assert address(y) % LINE == 0
    assert memory.empty_like(x[:, ::2]).strides == np.empty_like(x[:, ::2]).strides


def test_sizes_waste_an_eighth_at_most() -> None:
    for size in [*range(1, 5000), 10**6 + 1, 10**9 + 7]:
        assert size <= rounded(size) <= size * 9 / 8 + 1
    assert len({rounded(size) for size in range(1 << 20, 1 << 21)}) <= 9
    assert rounded(CAPACITY) == CAPACITY


def test_a_cache_that_is_emptied_is_given_back() -> None:
    x = np.zeros(MANY, np.float32)
    place = address(memory.empty_like(x))
    assert address(memory.empty_like(x)) == place
    memory.empty_cache()
    assert not memory._pool._buffers
