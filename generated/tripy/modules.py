# Generated from specs/tripy/ by `normspec generate`. Edit the specs, never this file.
"""The modules of tripy that normalize, and what they need."""

from __future__ import annotations

from normspec.runtime import ArrayT, DType, DTypeLike, State
from normspec.runtime.operators import batch_norm as _batch_norm
from normspec.tripy._dialect import Parameter, float32
from normspec.tripy._module import Module

__all__ = ["BatchNorm", "Module"]

_BATCH_NORM_NAMES = {
    "features": "num_features",
    "dtype": "dtype",
    "epsilon": "eps",
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "input": "x",
}
_BATCH_NORM_STATE = (
    State(
        name="weight",
        canonical="scale",
        shape=("features",),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=("affine",),
        optional=False,
    ),
    State(
        name="bias",
        canonical="shift",
        shape=("features",),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=("affine", "shifted"),
        optional=False,
    ),
    State(
        name="running_mean",
        canonical="mean",
        shape=("features",),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=("track",),
        optional=False,
    ),
    State(
        name="running_var",
        canonical="variance",
        shape=("features",),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=("track",),
        optional=False,
    ),
)


class BatchNorm(_batch_norm.BatchNorm, Module):
    """Applies batch normalization over an N-dimensional input tensor using precomputed statistics.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Here the mean is the precomputed running mean μ, the variance is the precomputed running variance σ²,
    and γ and β are learnable parameter vectors (weight and bias).

    This implementation supports 1D, 2D, and 3D inputs (e.g., time-series, images, and volumetric data).
    Batch Normalization normalizes across the specified feature dimension (typically the second dimension
    in the input).

    Supertypes: Module.

    Parameters
    ----------
    num_features : int
        The number of feature channels in the input tensor (the size of the second dimension). Must be an
        integer, zero or more.
    dtype : dtype, default float32
        The data type to use for the weight, bias, running_mean and running_var parameters. Must be an
        element type, floating-point.
    eps : float, default 1e-05
        ε value added to the denominator to prevent division by zero during normalization. Must be a real
        number.

    Shape
    -----
    Input: (N, C, ...). Output: the same shape.
    C is the feature dimension.

    Attributes
    ----------
    num_features : int
        The number of feature channels in the input tensor (the size of the second dimension). Cannot be
        assigned to.
    dtype : dtype
        The data type used to perform the operation. Cannot be assigned to.
    eps : float
        ε value added to the denominator to prevent division by zero during normalization.
    weight : Parameter
        The γ parameter of shape [num_features]. Shape (num_features), the parameters' element type,
        initially arange.
    bias : Parameter
        The β parameter of shape [num_features]. Shape (num_features), the parameters' element type,
        initially arange.
    running_mean : Parameter
        The running mean for the feature channels of shape [num_features]. Shape (num_features), the
        parameters' element type, initially arange.
    running_var : Parameter
        The running variance for the feature channels of shape [num_features]. Shape (num_features), the
        parameters' element type, initially arange.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (parameter), ``running_var`` (parameter).

    Raises
    ------
    TripyException
        The number of features is not an integer. The number of features is negative. The epsilon is not a
        real number. What is given as an element type is none. The element type of the parameters is not
        floating-point. Running statistics, weight or bias have another length than the input has
        features. The input is neither a tensor nor a NumPy array. The input cannot be shared, as what is
        sparse or of another kind of device, or wants gradients of its own library. The input does not
        have one of the accepted numbers of dimensions. The feature axis of the input has another length
        than the module has features. The input is not floating-point. The element type of the input does
        not go with that of the parameters. The input lives on another device than the module.

    Notes
    -----
    * The attribute ``dtype`` is the data type used to perform the operation.
    * loc. In tripy: Documents print loc=gpu:0, where TensorRT evaluates. Here: loc says where the tensor
      really lives: cpu:0, unless it was moved.
    * dtype. In tripy: The attribute is documented and never set, so that repr, == and hash raise. Here:
      It is set, and cannot be assigned to, like num_features.
    * float64. In tripy: Has no float64, but int4, int8 and float8. Here: float64 is there as in the other
      dialects; 4- and 8-bit types are not.
    * rank. In tripy: An input of rank 1 is accepted and comes back with rank 2, against the document's
      "same shape"; rank and channels are checked late or by broadcasting. Here: Refused at the call, with
      the class and the shape.
    * accuracy. In tripy: Computes in the element type of the parameters. Here: Computes in float32 at
      least.
    * assignment. In tripy: Assigning a list, or a tensor that is no Parameter, removes it from the state
      dict. Here: A list is refused; a tensor becomes a Parameter that shares its memory.
    * shape in messages. In tripy: Shapes print as tuples, one problem is told at a time. Here: Every
      problem is told at once, shapes as lists.
    * num_features and eps. In tripy: A negative num_features gives parameters of negative size; an eps
      that is an int is refused, 1 as well. Here: A negative num_features is refused, and any real eps is
      taken.
    * tensors in lists and dicts. In tripy: Those in lists and dicts are parameters too. Here: Only lists
      and dicts of modules are looked into.
    * incompatible state dict. In tripy: Loading stops at the first tensor that does not fit, with those
      before it loaded. Here: Nothing is loaded unless everything fits.
    * modules. In tripy: Print a line weight=[2] for each parameter; the document does not show it. Here:
      Print as in the later document, nvtripy's.
    * wording. In tripy: "wieight and bias"; "typically the second dimension", though it is always the
      second. Here: The first is corrected.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * tripy API, tripy.BatchNorm

    Examples
    --------
    >>> from normspec import tripy as tp
    >>> batch_norm = tp.BatchNorm(2)
    >>> input = tp.iota((1, 2, 1, 1))
    >>> output = batch_norm(input)
    >>> batch_norm.state_dict()
    {
        weight: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
        bias: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
        running_mean: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
        running_var: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
    }
    >>> input
    tensor(
        [[[[0.0000]],

          [[0.0000]]]],
        dtype=float32, loc=cpu:0, shape=(1, 2, 1, 1))
    >>> output
    tensor(
        [[[[0.0000]],

          [[0.0000]]]],
        dtype=float32, loc=cpu:0, shape=(1, 2, 1, 1))
    """

    _accepts = ("N C ...",)
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE
    _constants = ("num_features", "dtype")

    num_features: int
    dtype: DType
    eps: float
    weight: Parameter
    bias: Parameter
    running_mean: Parameter
    running_var: Parameter

    def __init__(
        self,
        num_features: int,
        dtype: DTypeLike = float32,
        eps: float = 1e-05,
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=None,
            affine=True,
            shifted=True,
            track=True,
            unbiased=False,
            learns=False,
            device=None,
            dtype=dtype,
        )

    def __call__(self, x: ArrayT) -> ArrayT:
        """Normalizes the input.

        Parameters
        ----------
        x : array of shape (N, C, ...)
            C is the feature dimension.

        Returns
        -------
        array
            A tensor of the same shape as the input.
        """
        return self.compute(x)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return f"{self.num_features}"
