"""Kernels of the backward pass: gradients through ``y = (x - mean) * invstd * weight + bias``, channels first.

``dy`` and ``x - mean`` are put together as x itself is in the forward pass: means, and a comoment, the sum of
``(dy - its mean) * (x - mean)``, by Chan's formula. So a ``dy`` far from zero costs no digits, and a constant one gives
a ``dx`` of exactly zero.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .pieces import Integer, Number, Pointer
from .primitives import device
from .program import BATCH, WEIGHT
from .reduction import two_sum


class Cosample(NamedTuple):
    """Statistics of ``dy`` and ``x - mean``; of two to be merged only the second may be empty."""

    count: Number
    slope: Number  # mean of dy, a pair
    residue: Number
    center: Number  # mean of x - mean
    comoment: Number


class Gradients(NamedTuple):
    """Device functions on one feature, in one arithmetic."""

    combine: Any
    given: Any
    derive: Any


@cache
def gradients(real: Any) -> Gradients:
    """Build them, for ``numpy.float32`` or ``numpy.float64``."""

    @device
    def combine(sample: Cosample, count: Number, distance: Number, drift: Number, comoment: Number) -> Cosample:
        """Merge a sample with another, whose means are ``distance`` and ``drift`` away."""
        total = sample.count + count
        share = count / total
        slope, residue = two_sum(sample.slope, sample.residue + distance * share)
        between = distance * drift * (sample.count * share)
        return Cosample(total, slope, residue, sample.center + drift * share, sample.comoment + comoment + between)

    @device
    def given(
        means: Pointer, invstds: Pointer, weight: Pointer, feature: Integer, flags: Integer
    ) -> tuple[Number, Number, Number, Number]:
        """Mean, its residue, 1 / standard deviation, and the scale, which is that times the weight."""
        mean, invstd = real(means[feature]), real(invstds[feature])
        residue = real(means[feature] - mean)
        scale = invstd
        if flags & WEIGHT:
            scale = invstd * real(weight[feature])
        return mean, residue, invstd, scale

    @device
    def derive(
        sample: Cosample, residue: Number, invstd: Number, flags: Integer
    ) -> tuple[Number, Number, Number, Number, Number]:
        """Offset, rest, tilt of ``dx = ((dy - offset) - ((x - mean) * tilt + rest)) * scale``, then dweight and dbias.

        The sums left out the residue of the mean of x, which costs less here than with every element. If the mean is
        that of the batch, ``x - mean`` has none.
        """
        product = sample.comoment
        if not flags & BATCH:
            product += sample.count * sample.slope * (sample.center - residue)
        dweight = product * invstd
        tilt = dweight / sample.count * invstd
        dbias = np.float64(sample.count) * (np.float64(sample.slope) + np.float64(sample.residue))
        return sample.slope, sample.residue - residue * tilt, tilt, np.float64(dweight), dbias

    return Gradients(combine, given, derive)
