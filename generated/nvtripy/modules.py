# Generated from specs/nvtripy/ by `normspec generate`. Edit the specs, never this file.
"""The modules of nvtripy that normalize, and what they need."""

from __future__ import annotations

from normspec.nvtripy._dialect import Tensor, float32
from normspec.nvtripy._module import Module
from normspec.runtime import ArrayT, DType, DTypeLike, State
from normspec.runtime.operators import batch_norm as _batch_norm
from normspec.runtime.operators import linear as _linear

__all__ = ["BatchNorm", "Linear", "Module"]

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

_LINEAR_NAMES = {
    "in_features": "in_features",
    "out_features": "out_features",
    "dtype": "dtype",
    "weight": "weight",
    "shift": "bias",
    "input": "x",
}
_LINEAR_STATE = (
    State(
        name="weight",
        canonical="weight",
        shape=("out_features", "in_features"),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=(),
        optional=False,
    ),
    State(
        name="bias",
        canonical="shift",
        shape=("out_features",),
        init="arange",
        kind="parameter",
        dtype="parameter",
        when=("shifted",),
        optional=True,
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
    weight : Tensor
        The γ parameter of shape [num_features]. Shape (num_features), the parameters' element type,
        initially arange.
    bias : Tensor
        The β parameter of shape [num_features]. Shape (num_features), the parameters' element type,
        initially arange.
    running_mean : Tensor
        The running mean for the feature channels of shape [num_features]. Shape (num_features), the
        parameters' element type, initially arange.
    running_var : Tensor
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
    * loc. In nvtripy: Documents print loc=gpu:0, where TensorRT evaluates. Here: loc says where the
      tensor really lives: cpu:0, unless it was moved.
    * dtype. In nvtripy: The attribute is documented and never set, so that repr, == and hash raise. Here:
      It is set, and cannot be assigned to, like num_features.
    * float64. In nvtripy: Has no float64, but int4, int8 and float8. Here: float64 is there as in the
      other dialects; 4- and 8-bit types are not.
    * rank. In nvtripy: An input of rank 1 is accepted and comes back with rank 2, against the document's
      "same shape"; rank and channels are checked late or by broadcasting. Here: Refused at the call, with
      the class and the shape.
    * accuracy. In nvtripy: Computes in the element type of the parameters. Here: Computes in float32 at
      least.
    * assignment. In nvtripy: Assigning a list, or None, to a parameter removes it from the state dict.
      Here: Refused, but for None where there may be no bias.
    * shape in messages. In nvtripy: Shapes print as tuples, one problem is told at a time. Here: Every
      problem is told at once, shapes as lists.
    * num_features and eps. In nvtripy: A negative num_features gives parameters of negative size; an eps
      that is an int is refused, 1 as well. Here: A negative num_features is refused, and any real eps is
      taken.
    * tensors in lists and dicts. In nvtripy: Those in lists and dicts are parameters too. Here: Only
      lists and dicts of modules are looked into.
    * incompatible state dict. In nvtripy: Loading stops at the first tensor that does not fit, with those
      before it loaded. Here: Nothing is loaded unless everything fits.
    * parameters that were never set. In nvtripy: Later versions refuse to run until all four are
      assigned. Here: They count up from zero at first, as the documents print.
    * wording. In nvtripy: "wieight and bias"; "typically the second dimension", though it is always the
      second. Here: The first is corrected.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * nvtripy API, nvtripy.BatchNorm

    Examples
    --------
    >>> from normspec import nvtripy as tp
    >>> batch_norm = tp.BatchNorm(2)
    >>> input = tp.iota((1, 2, 1, 1))
    >>> output = batch_norm(input)
    >>> batch_norm
    BatchNorm(
        weight: Parameter = (shape=[2], dtype=float32),
        bias: Parameter = (shape=[2], dtype=float32),
        running_mean: Parameter = (shape=[2], dtype=float32),
        running_var: Parameter = (shape=[2], dtype=float32),
    )
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
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

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


class Linear(_linear.Linear, Module):
    """Applies a linear transformation to the input.

    ::

        y = x @ transpose(weight) + bias

    Supertypes: Module.

    Parameters
    ----------
    in_features : int
        Size of input features.
    out_features : int
        Size of output features.
    bias : bool, default True
        Whether to include the bias term.
    dtype : dtype, default float32
        The data type to use for the weight and bias parameters. Must be an element type, floating-point.

    Shape
    -----
    Input: (..., in_features). Output: (..., out_features).

    Attributes
    ----------
    in_features : int
        Size of input features. Cannot be assigned to.
    out_features : int
        Size of output features. Cannot be assigned to.
    dtype : dtype
        The data type to use for the weight and bias parameters. Cannot be assigned to.
    weight : Tensor
        The weight, of shape [out_features, in_features]. Shape (out_features, in_features), the
        parameters' element type, initially arange.
    bias : Tensor | None
        The bias, of shape [out_features]. Shape (out_features), the parameters' element type, initially
        arange. None when bias=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter).

    Raises
    ------
    TripyException
        What is given as an element type is none. The element type of the parameters is not
        floating-point. The input is neither a tensor nor a NumPy array. The input cannot be shared, as
        what is sparse or of another kind of device, or wants gradients of its own library. The input
        lives on another device than the module. A number of features is not an integer. A number of
        features is negative. The last axis of the input has another length than the layer has features.
        The input is not floating-point. The element type of the input is not that of the parameters.

    Notes
    -----
    * loc. In nvtripy: Documents print loc=gpu:0, where TensorRT evaluates. Here: loc says where the
      tensor really lives: cpu:0, unless it was moved.
    * float64. In nvtripy: Has no float64, but int4, int8 and float8. Here: float64 is there as in the
      other dialects; 4- and 8-bit types are not.
    * accuracy. In nvtripy: Computes in the element type of the parameters. Here: Computes in float32 at
      least.
    * assignment. In nvtripy: Assigning a list, or None, to a parameter removes it from the state dict.
      Here: Refused, but for None where there may be no bias.
    * sizes and input of Linear. In nvtripy: A negative size gives parameters of negative size; the last
      axis of the input is compared when the result is computed. Here: Refused where it is given, with the
      class and the argument.
    * shape in messages. In nvtripy: Shapes print as tuples, one problem is told at a time. Here: Every
      problem is told at once, shapes as lists.
    * tensors in lists and dicts. In nvtripy: Those in lists and dicts are parameters too. Here: Only
      lists and dicts of modules are looked into.
    * incompatible state dict. In nvtripy: Loading stops at the first tensor that does not fit, with those
      before it loaded. Here: Nothing is loaded unless everything fits.
    * quant_dtype is left out: The examples quantize nothing.
    * weight_quant_dim is left out: The examples quantize nothing.

    References
    ----------
    * nvtripy API, nvtripy.Linear, as its examples of Module call it
    """

    _accepts = ("... in_features",)
    _names = _LINEAR_NAMES
    _state = _LINEAR_STATE
    _constants = ("in_features", "out_features", "dtype")

    in_features: int
    out_features: int
    dtype: DType
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(
            in_features=in_features,
            out_features=out_features,
            shifted=bias,
            dtype=dtype,
        )

    def __call__(self, x: ArrayT) -> ArrayT:
        """Transforms the input.

        Parameters
        ----------
        x : array of shape (..., in_features)

        Returns
        -------
        array
            A tensor whose last axis has out_features elements.
        """
        return self.compute(x)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return f"{self.in_features}, {self.out_features}"
