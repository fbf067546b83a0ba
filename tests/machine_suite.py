"""The kernels' barriers on the machine of ``ptx``: without any one of them it finds fault.

``test_kernels_machine.py`` runs this file, with the plugin ``virtual_gpu``.
"""

from __future__ import annotations

import numpy as np
import pytest
from cuda.core._utils.cuda_utils import CUDAError

import cuda_suite as suite
from cuda_suite import data, vectors
from normspec.runtime.kernels.cuda import choose, plans
from ptx.memory import Fault
from virtual_gpu import GPU


def slices(*_):
    return choose.Choice("split", 64, 2, slices=40)  # more than a warp merges


def features(shape=(5, 3, 650)):
    suite.train(data(shape, np.float32), *vectors(shape[1]))


def rows():
    suite.train(data((70, 5, 1), np.float32), *vectors(5))


def backward():
    suite.backward((5, 3, 250), np.float32, True, weighted=True, needed=True)


def backward_of_rows():
    suite.backward((70, 5, 1), np.float32, True, weighted=True, needed=True)


def small_planes():
    features((300, 8, 49))
    suite.backward((300, 8, 49), np.float32, True, weighted=True, needed=True)


RULES = [suite.block, suite.cluster, slices]
ROW_RULES = [suite.rows_block, suite.rows_cluster, suite.rows_split]
CASES = [
    (choose.features_by_size, "features", small_planes),
    *((rule, "features", work) for rule in RULES for work in (features, backward)),
    *((rule, "rows", work) for rule in ROW_RULES for work in (rows, backward_of_rows)),
]


def barriers_of(kernel):
    for block in kernel.blocks:
        for place, one in enumerate(block):
            if one.opcode.startswith("bar"):
                yield block, place


@pytest.mark.parametrize(("rule", "kind", "work"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_no_barrier_can_be_left_out(rule, kind, work):
    GPU.launched.clear()
    with plans.forced(rule, kind):
        work()
        for name in dict.fromkeys(GPU.launched):
            barriers = list(barriers_of(GPU.kernels[name]))
            for block, place in barriers:
                barrier = block.pop(place)
                with pytest.raises(CUDAError):
                    work()
                assert isinstance(GPU.failure, Fault)
                block.insert(place, barrier)
            assert barriers, name
