"""What is normalized: two photographs and the handwritten digits, both of which scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits, load_sample_images

Floats = npt.NDArray[np.float32]

SEED = 2015  # the year of the paper
CROPS, SIDE = 128, 64
CLIPS, FRAMES, FRAME = 8, 8, 64
ROWS = 256
COLORS = {"red": 0, "green": 1, "blue": 2}


@dataclass(frozen=True)
class Data:
    """Something to train on, batch by batch, and to evaluate as a whole."""

    name: str
    axes: str  # as specs write shapes: N C H W
    whole: Floats
    batches: Callable[[], Iterator[Floats]]
    steps: int
    channels: Mapping[str, int]  # those that are shown, with a label for each

    @property
    def features(self) -> int:
        return len(self.whole[0])

    def fits(self, pattern: str) -> bool:
        """Whether a class that accepts ``pattern`` takes this; ``...`` is any number of axes."""
        start, dots, _ = pattern.partition("...")
        return self.axes.startswith(start.strip()) if dots else self.axes == pattern


def load() -> tuple[Data, ...]:
    """Every data set, the photographs first."""
    return (*photographs(), *digits())


def photographs() -> tuple[Data, ...]:
    """Both photographs, colors as channels: in random crops, and as a camera panning over them."""
    photos = np.stack(load_sample_images().images).transpose(0, 3, 1, 2)

    def crops() -> Iterator[Floats]:
        random = np.random.default_rng(SEED)
        while True:
            yield np.stack([crop(photos[i % 2], random, SIDE) for i in range(CROPS)])

    def clips() -> Iterator[Floats]:
        random = np.random.default_rng(SEED)
        while True:
            yield np.stack([clip(crop(photos[i % 2], random, FRAME, FRAMES)) for i in range(CLIPS)])

    whole = photos.astype(np.float32)
    film = np.stack([clip(photo[:, -256:, : 256 + FRAMES - 1].astype(np.float32)) for photo in photos])
    return (
        Data("photographs", "N C H W", whole, crops, 60, COLORS),
        Data("panning over them", "N C D H W", film, clips, 60, {}),
    )


def crop(photo: npt.NDArray[np.uint8], random: np.random.Generator, side: int, frames: int = 1) -> Floats:
    """A random square of a photograph, wider by what a camera moves in some frames."""
    top = random.integers(photo.shape[1] - side + 1)
    left = random.integers(photo.shape[2] - side - frames + 2)
    return photo[:, top : top + side, left : left + side + frames - 1].astype(np.float32)


def clip(strip: Floats) -> Floats:
    """A film, ``(C, D, H, W)``, of a camera moving one pixel a frame over a strip."""
    frames = np.lib.stride_tricks.sliding_window_view(strip, strip.shape[2] - FRAMES + 1, axis=2)
    return np.ascontiguousarray(frames.transpose(0, 2, 1, 3))


def digits() -> tuple[Data, ...]:
    """The digits three times: pixels as features, rows as channels, and as images of one channel."""
    pixels = load_digits().data.astype(np.float32)

    def arranged(name: str, axes: str, shape: tuple[int, ...], channels: Mapping[str, int]) -> Data:
        whole = pixels.reshape(len(pixels), *shape)
        return Data(name, axes, whole, lambda: shuffled(whole), 105, channels)

    return (
        arranged("digits", "N C", (64,), {"pixel 0, always blank": 0, "pixel 20": 20, "pixel 36": 36}),
        arranged("digits, row by row", "N C L", (8, 8), {"top row": 0, "fourth row": 3}),
        arranged("digits as images", "N C H W", (1, 8, 8), {"gray": 0}),
    )


def shuffled(whole: Floats) -> Iterator[Floats]:
    """Batches of rows in random order, each row once before any comes again."""
    random = np.random.default_rng(SEED)
    while True:
        order = random.permutation(len(whole))
        for start in range(0, len(order), ROWS):
            yield whole[order[start : start + ROWS]]
