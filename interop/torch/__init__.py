"""Batch norm for torch: its function, its modules and a model's modules, computed by our kernels.

Parameters, buffers, outputs and gradients are torch's tensors, whose memory the kernels read and write where it lies.
"""

from .functional import batch_norm
from .modules import BatchNorm1d, BatchNorm2d, BatchNorm3d, replace_batch_norms, restore_batch_norms

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "replace_batch_norms", "restore_batch_norms"]
