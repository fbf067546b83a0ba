"""A network trained with NumPy and ``normspec.functional`` alone: no framework, the chain rule by hand.

Three spirals, whose coordinates somebody recorded in unequal units and far from zero, are told apart by a network of
two hidden layers, with batch norm before each activation and without. Then the running statistics are replaced by exact
ones, merged from chunks of the training set. Run it: ``python examples/numpy_only.py``.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.functional import batch_norm, batch_norm_backward, batch_stats, merge_stats, normalize

Array = npt.NDArray[Any]
WIDTH, CLASSES, BATCH, EPOCHS, RATE = 64, 3, 64, 60, 0.1


class Result(NamedTuple):
    """Accuracy on data that was not trained on, after each epoch; and at last with exact statistics."""

    accuracy: list[float]
    recalibrated: float | None


def spirals(count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Points on three arms, and which arm each is on."""
    labels, turn = random.integers(CLASSES, size=count), random.uniform(0.1, 1, count)
    angle = 2 * np.pi * (labels / CLASSES + turn) + random.normal(0, 0.1, count)
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (points * [1, 3] + [3, -5]).astype(np.float32), labels


class Network:
    """Affine, batch norm, tanh; the same again; affine."""

    def __init__(self, normalized: bool, random: np.random.Generator) -> None:
        sizes = [2, WIDTH, WIDTH, CLASSES]
        pairs = list(itertools.pairwise(sizes))
        self.weights = [(random.normal(size=pair) / np.sqrt(pair[0])).astype(np.float32) for pair in pairs]
        self.shifts = [np.zeros(size, np.float32) for size in sizes[1:]]
        self.scales = [np.ones(WIDTH, np.float32) for _ in pairs[1:]]
        self.means = [np.zeros(WIDTH, np.float32) for _ in pairs[1:]]
        self.variances = [np.ones(WIDTH, np.float32) for _ in pairs[1:]]
        self.normalized = normalized

    def step(self, x: Array, labels: Array) -> None:
        """One step of gradient descent on the cross-entropy."""
        inputs, sums = [x], []
        for layer, scale in enumerate(self.scales):
            sums.append(inputs[-1] @ self.weights[layer])
            if self.normalized:
                state = self.means[layer], self.variances[layer]
                y = batch_norm(sums[-1], *state, scale, self.shifts[layer], training=True).output
            else:
                y = sums[-1] + self.shifts[layer]
            inputs.append(np.tanh(y))

        gradient = softmax(inputs[-1] @ self.weights[-1] + self.shifts[-1])
        gradient[np.arange(len(labels)), labels] -= 1
        gradient /= len(labels)
        self.shifts[-1] -= RATE * gradient.sum(0)
        for layer in reversed(range(len(self.weights))):
            weight = self.weights[layer].copy()
            self.weights[layer] -= RATE * inputs[layer].T @ gradient
            if layer == 0:
                break
            gradient = (gradient @ weight.T) * (1 - inputs[layer] ** 2)
            below, scale = layer - 1, self.scales[layer - 1]
            if self.normalized:
                gradient, of_scale, of_shift = batch_norm_backward(gradient, sums[below], scale=scale)
                scale -= RATE * of_scale
            else:
                of_shift = gradient.sum(0)
            self.shifts[below] -= RATE * of_shift

    def hidden(self, x: Array, layers: int) -> Array:
        """What enters batch norm after so many hidden layers, in evaluation."""
        for layer in range(layers):
            y = x @ self.weights[layer]
            if self.normalized:
                state = self.means[layer], self.variances[layer], self.scales[layer], self.shifts[layer]
                y = normalize(y, *state, out=y)
            else:
                y += self.shifts[layer]
            x = np.tanh(y)
        return x @ self.weights[layers]

    def recalibrate(self, x: Array) -> None:
        """Replace the running statistics by those of all data, taken chunk by chunk."""
        for layer in range(len(self.scales)):
            chunks = [batch_stats(self.hidden(chunk, layer)) for chunk in np.array_split(x, 7)]
            total = merge_stats(*chunks)
            self.means[layer], self.variances[layer] = total.mean, total.variance(unbiased=True)

    def accuracy(self, x: Array, labels: Array) -> float:
        """Share of points whose arm is found."""
        found = self.hidden(x, len(self.scales)) + self.shifts[-1]
        return float(np.mean(found.argmax(1) == labels))


def softmax(x: Array) -> Array:
    """Probabilities along the last axis."""
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def train(normalized: bool) -> Result:
    """Train a network, and say how well it does."""
    random = np.random.default_rng(0)
    x, labels = spirals(2048, random)
    unseen = spirals(2048, random)
    network = Network(normalized, random)
    accuracy = []
    for _ in range(EPOCHS):
        order = random.permutation(len(x))
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            network.step(x[batch], labels[batch])
        accuracy.append(network.accuracy(*unseen))
    if not normalized:
        return Result(accuracy, None)
    network.recalibrate(x)
    return Result(accuracy, network.accuracy(*unseen))


def main() -> tuple[Result, Result]:
    """Print accuracies by epoch, without batch norm and with it."""
    without, with_norm = train(False), train(True)
    print("epoch   without   with batch norm")
    for epoch in range(0, EPOCHS, 10):
        print(f"{epoch + 1:5d}   {without.accuracy[epoch]:6.1%}    {with_norm.accuracy[epoch]:6.1%}")
    print(f"{EPOCHS:5d}   {without.accuracy[-1]:6.1%}    {with_norm.accuracy[-1]:6.1%}")
    print(f"with statistics of all training data:  {with_norm.recalibrated:6.1%}")
    return without, with_norm


if __name__ == "__main__":
    main()
