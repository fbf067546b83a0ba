"""What every generated package stands on: tensors, modules, operators and their kernels.

Importing it loads NumPy and nothing else; numba is loaded by the first call that computes.
"""

from .autograd import grad
from .dtypes import DType, DTypeLike
from .errors import Speaker
from .gradients import NoGrad
from .memory import empty_cache
from .module import Module, ModuleT, State
from .tensor import Array, ArrayT, Parameter, Shape, Tensor
from .twins import twins
from .views import IncompatibleKeys, ListView, MapView, StateDict

__all__ = [
    "Array",
    "ArrayT",
    "DType",
    "DTypeLike",
    "IncompatibleKeys",
    "ListView",
    "MapView",
    "Module",
    "ModuleT",
    "NoGrad",
    "Parameter",
    "Shape",
    "Speaker",
    "State",
    "StateDict",
    "Tensor",
    "empty_cache",
    "grad",
    "twins",
]
