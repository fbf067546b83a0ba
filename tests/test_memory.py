"""Memory of outputs that is used again."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from normspec.runtime import autograd, memory
from normspec.runtime.memory import CAPACITY, LINE, TRACKED, Pool, needed, rounded

FLOAT = np.dtype(np.float32)
MANY = 1 << 20


def empty(pool: Pool, *shape: int) -> Any:
    return pool.empty(needed(4 * math.prod(shape)), shape, FLOAT)


def address(x: Any) -> int:
    return int(x.ctypes.data)


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    pool = Pool()
    first = empty(pool, MANY)
    place = address(first)
    view = first[10:20]
    del first
    second = empty(pool, MANY)
    assert address(second) != place, "a view still needs the memory"
    assert address(view) == place + 40
    del view
    assert address(empty(pool, MANY)) == place


@pytest.mark.parametrize("hold", [memoryview, np.transpose, lambda x: x.view(np.uint8), lambda x: x.base])
def test_whatever_holds_an_output_keeps_its_memory(hold: Any) -> None:
    pool = Pool()
    first = empty(pool, 4, MANY)
    place, held = address(first), hold(first)
    del first
    assert address(empty(pool, 4, MANY)) != place
    del held
    both = [empty(pool, 4, MANY) for _ in range(2)]
    assert place in map(address, both)


def test_outputs_that_live_share_nothing() -> None:
    pool = Pool()
    random = np.random.default_rng(0)
    live: list[Any] = []
    for number in range(300):
        shape = (int(random.integers(1, 5)), int(random.integers(20_000, 40_000)))
        x = empty(pool, *shape)
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
    held = [empty(pool, 1 << 18) for _ in range(20)]
    del held
    empty(pool, 1 << 19)
    assert 8 << 20 < pool.nbytes <= 10 << 20
    many = [empty(pool, 1 << 14) for _ in range(TRACKED + 10)]
    assert len(pool) <= TRACKED
    assert len({address(one) for one in many}) == len(many)
    pool.clear()
    assert len(pool) == 0
    many[0][...] = 1  # still its own


def test_threads_get_memory_of_their_own() -> None:
    pool, wrong = Pool(), []

    def work(number: int) -> None:
        for _ in range(200):
            x = empty(pool, 1 << 15)
            x[...] = number
            if not (x == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CAPACITY", 6 << 20)
    pool = Pool()
    held = [empty(pool, 1 << 18) for _ in range(4)]
    places = [address(one) for one in held]
    held.clear()
    empty(pool, 1 << 19)  # with room for two or three beside it
    found = [empty(pool, 1 << 18) for _ in range(2)]
    assert [address(one) for one in found] == places[:1:-1], "the newest first"


def test_what_is_in_use_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CAPACITY", 6 << 20)
    pool = Pool()
    empty(pool, 1 << 18)
    used = [empty(pool, 1 << 19) for _ in range(8)]
    assert len(pool) == 9, "what is not in use, too"
    assert pool.nbytes > sum(one.nbytes for one in used) > 2 * memory.CAPACITY


def test_memory_is_held_before_another_thread_may_look() -> None:
    pool, others = Pool(), []

    class Slow:
        """A lock after which somebody else is quicker."""

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            if not others:
                others.append(None)
                others[0] = empty(pool, MANY)

    empty(pool, MANY)
    pool.lock = Slow()
    x = empty(pool, MANY)
    assert address(x) != address(others[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")  # of JAX, which other tests have imported
@pytest.mark.parametrize("lock", [memory._pool.lock, autograd._adding], ids=["memory", "gradients"])
def test_a_child_waits_for_no_thread_of_its_parent(lock: Any) -> None:
    busy = threading.Event()

    def work() -> None:
        with lock:
            busy.set()
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    busy.wait()
    child = multiprocessing.get_context("fork").Process(target=lock.acquire)
    child.start()
    child.join(20)
    thread.join()
    if child.is_alive():
        child.kill()
        pytest.fail("the child hangs")
    assert child.exitcode == 0
    assert lock.acquire(timeout=1), "the parent has it back"
    lock.release()


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
    assert len(memory._pool) == 0
