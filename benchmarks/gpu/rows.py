"""What is measured on a GPU."""

from __future__ import annotations

from ..rows import Shape

LAYERS = (  # of ResNet-50: channels, and rows and columns of a plane
    (64, 112), (64, 56), (128, 56), (256, 56), (128, 28), (256, 28), (512, 28), (256, 14), (512, 14), (1024, 14),
    (512, 7), (2048, 7),
)  # fmt: skip
RESNET: tuple[Shape, ...] = tuple((batch, size, side, side) for batch in (32, 256) for size, side in LAYERS)
OTHERS: tuple[Shape, ...] = ((8, 32, 512, 512), (4, 64, 32, 64, 64), (64, 4096), (4096, 1024))
TINY: tuple[Shape, ...] = ((2, 3, 4, 4), (8, 16, 8, 8), (32, 100))
SHAPES = (*RESNET, *OTHERS, *TINY)
QUICK: tuple[Shape, ...] = ((32, 256, 56, 56), (32, 512, 7, 7), (4096, 1024), (8, 16, 8, 8))
DTYPES = ("float32", "float16", "bfloat16")
