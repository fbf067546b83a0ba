"""Train a small network on handwritten digits, with torch's batch norm and with ours: the loss curve is the same.

Run it with ``python examples/train_digits_torch.py``; it writes ``out/train_digits_torch.png``. It needs torch and
``pip install "normspec[demo]"``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

from normspec.interop.torch import replace_batch_norms

SEED, EPOCHS, BATCH = 0, 5, 64


def network() -> nn.Module:
    """Two convolutions and a linear layer; the same weights every time."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 10)),
    )


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1797 pictures of 8 by 8 pixels, and what they show."""
    data = load_digits()
    return torch.from_numpy(data.images.astype(np.float32))[:, None] / 16, torch.from_numpy(data.target)


def train(model: nn.Module) -> tuple[list[float], float]:
    """The loss of every step, and the accuracy on the last fifth, which is not trained on."""
    images, labels = digits()
    count = len(images) * 4 // 5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    order, losses = torch.Generator().manual_seed(SEED), []
    for _ in range(EPOCHS):
        for rows in torch.randperm(count, generator=order).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        right = model(images[count:]).argmax(1) == labels[count:]
    return losses, right.float().mean().item()


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Both curves, one on the other, and how far apart they are."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    above, below = figure.subplots(1, 2)
    for (name, losses), style in zip(curves.items(), ({"linewidth": 5, "alpha": 0.4}, {"color": "black"}), strict=True):
        above.plot(losses, label=name, **style)
    above.set(xlabel="step", ylabel="cross entropy", title="loss")
    above.legend()
    below.semilogy(np.abs(np.subtract(*curves.values())) + 1e-12, color="black")
    below.set(xlabel="step", title="difference of the losses", ylim=(1e-9, 1))
    below.axhline(np.finfo(np.float32).eps, color="gray", linestyle=":", label="one rounding of float32")
    below.legend()
    figure.savefig(path, dpi=100)


def main(folder: Path) -> dict[str, list[float]]:
    """Train both, print a table and draw the picture."""
    theirs, mine = train(network()), train(replace_batch_norms(network()))
    print("epoch   torch's loss     our loss   largest difference of a step")
    epochs = (np.reshape(losses, (EPOCHS, -1)) for losses, _ in (theirs, mine))
    for epoch, (one, other) in enumerate(zip(*epochs, strict=True), 1):
        print(f"{epoch:5d} {one.mean():14.6f} {other.mean():12.6f} {np.abs(one - other).max():30.1e}")
    print(f"accuracy on digits not trained on: {theirs[1]:.4f} and {mine[1]:.4f}")
    folder.mkdir(parents=True, exist_ok=True)
    draw({"torch": theirs[0], "normspec": mine[0]}, folder / "train_digits_torch.png")
    print(f"drawn to {folder / 'train_digits_torch.png'}")
    return {"torch": theirs[0], "normspec": mine[0]}


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["out"]))
