"""A pytest plugin: the process of a test that broke its GPU's context ends, for nothing works there any more.

An access where no memory is does that. pytest-xdist starts another process for the tests that are left; without it the
run ends with what was found until then.
"""

from __future__ import annotations

import os

import pytest
from cuda.bindings import driver

_SOUND = {
    driver.CUresult.CUDA_SUCCESS,
    driver.CUresult.CUDA_ERROR_NOT_INITIALIZED,  # nothing was asked of a GPU yet
    driver.CUresult.CUDA_ERROR_INVALID_CONTEXT,
}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Wait for what the test has queued."""
    (error,) = driver.cuCtxSynchronize()
    if error in _SOUND:
        return
    if "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(1)
    pytest.exit(f"{item.nodeid} broke the GPU's context: {error.name}", returncode=1)
