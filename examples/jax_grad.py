"""Train with JAX: batch norm under ``jit`` and ``grad``, its running statistics handed on from step to step.

Run it with ``python examples/jax_grad.py``; it needs ``pip install "normspec[jax,demo]"``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from normspec.interop.jax import batch_norm

STEPS, BATCH, HIDDEN, RATE = 200, 128, 64, 0.3
State = dict[str, Any]


def start(features: int) -> tuple[State, State]:
    """What is learned, and the running statistics."""
    first, second = jax.random.split(jax.random.key(0))
    learned = {
        "first": jax.random.normal(first, (features, HIDDEN)) / features**0.5,
        "scale": jnp.ones(HIDDEN),
        "shift": jnp.zeros(HIDDEN),
        "second": jax.random.normal(second, (HIDDEN, 10)) / HIDDEN**0.5,
    }
    return learned, {"mean": jnp.zeros(HIDDEN), "variance": jnp.ones(HIDDEN)}


def forward(learned: State, running: State, x: Any, training: bool) -> tuple[Any, State]:
    """Scores of the ten digits, and the running statistics after this batch."""
    x = x @ learned["first"]
    x, mean, variance = batch_norm(x, **running, scale=learned["scale"], shift=learned["shift"], training=training)
    return jax.nn.relu(x) @ learned["second"], {"mean": mean, "variance": variance}


def loss(learned: State, running: State, x: Any, labels: Any) -> tuple[Any, State]:
    """Cross entropy."""
    scores, running = forward(learned, running, x, True)
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean(), running


@jax.jit
def step(learned: State, running: State, x: Any, labels: Any) -> tuple[Any, State, State]:
    """One of gradient descent; nothing is changed, all is returned."""
    (value, running), gradients = jax.value_and_grad(loss, has_aux=True)(learned, running, x, labels)
    return value, jax.tree.map(lambda one, slope: one - RATE * slope, learned, gradients), running


def main() -> float:
    """Train, print a table, and return the accuracy on digits that were not trained on."""
    data = load_digits()
    x, labels = data.data.astype(np.float32), data.target
    count = len(x) * 4 // 5
    learned, running = start(x.shape[1])
    draw = np.random.default_rng(0)
    print("step    loss   accuracy with running statistics")
    accuracy = 0.0
    for number in range(STEPS + 1):
        if number % 50 == 0:
            scores, _ = forward(learned, running, x[count:], False)
            accuracy = float((scores.argmax(1) == labels[count:]).mean())
        rows = draw.choice(count, BATCH, replace=False)
        value, learned, running = step(learned, running, x[rows], labels[rows])
        if number % 50 == 0:
            print(f"{number:4d} {value:7.3f} {accuracy:10.3f}")
    return accuracy


if __name__ == "__main__":
    main()
