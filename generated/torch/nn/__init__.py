# Generated from specs/torch/ by `normspec generate`. Edit the specs, never this file.
"""The modules of PyTorch: ``torch.nn``."""

from __future__ import annotations

from normspec.runtime import ArrayT, DTypeLike, State
from normspec.runtime.operators import batch_norm as _batch_norm
from normspec.torch._dialect import Parameter, Tensor
from normspec.torch._module import Module, _BatchNorm
from normspec.torch.nn import functional

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Module", "Parameter", "functional"]

_BATCH_NORM_NAMES = {
    "features": "num_features",
    "epsilon": "eps",
    "update_rate": "momentum",
    "affine": "affine",
    "track": "track_running_stats",
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "count": "num_batches_tracked",
    "input": "input",
}
_BATCH_NORM_STATE = (
    State(
        name="weight",
        canonical="scale",
        shape=("features",),
        init="ones",
        kind="parameter",
        dtype="parameter",
        when=("affine",),
        optional=True,
    ),
    State(
        name="bias",
        canonical="shift",
        shape=("features",),
        init="zeros",
        kind="parameter",
        dtype="parameter",
        when=("affine", "shifted"),
        optional=True,
    ),
    State(
        name="running_mean",
        canonical="mean",
        shape=("features",),
        init="zeros",
        kind="buffer",
        dtype="at_least_float32",
        when=("track",),
        optional=True,
    ),
    State(
        name="running_var",
        canonical="variance",
        shape=("features",),
        init="ones",
        kind="buffer",
        dtype="at_least_float32",
        when=("track",),
        optional=True,
    ),
    State(
        name="num_batches_tracked",
        canonical="count",
        shape=(),
        init="zero",
        kind="buffer",
        dtype="int64",
        when=("track",),
        optional=True,
    ),
)


class BatchNorm1d(_batch_norm.BatchNorm, _BatchNorm):
    """Applies Batch Normalization over a 2D or 3D input.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Method described in the paper Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the number of features or channels of the input). By
    default, the elements of γ are set to 1 and the elements of β are set to 0. At train time in the
    forward pass, the variance is calculated via the biased estimator, equivalent to ``torch.var(input,
    correction=0)``. However, the value stored in the moving average of the variance is calculated via the
    unbiased estimator, equivalent to ``torch.var(input, correction=1)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    ``momentum`` of 0.1.

    If ``track_running_stats`` is set to False, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: _BatchNorm.

    Parameters
    ----------
    num_features : int
        Number of features or channels C of the input. Must be an integer, zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number, above zero in
        training, zero or more in evaluation.
    momentum : float | None, default 0.1
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool, default True
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    device : device | None, default None
        Where parameters and buffers live.
    dtype : dtype | None, default None
        Element type of parameters and running statistics. Must be an element type, floating-point.
    bias : bool, default True
        If set to False, the layer will not learn an additive bias (only relevant if affine is True).

    Shape
    -----
    Input: (N, C) or (N, C, L). Output: the same shape.
    N is the batch size, C is the number of features or channels, and L is the sequence length.

    Attributes
    ----------
    num_features : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Parameter | None
        The learnable vector γ of size C, ones at first. Shape (num_features), the parameters' element
        type, initially ones. None when affine=False.
    bias : Parameter | None
        The learnable vector β of size C, zeros at first. Shape (num_features), the parameters' element
        type, initially zeros. None when affine=False or bias=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first. Shape (num_features), the parameters' element
        type but float32 at least, initially zeros. None when track_running_stats=False.
    running_var : Tensor | None
        The running unbiased variance of each channel, ones at first. Shape (num_features), the
        parameters' element type but float32 at least, initially ones. None when
        track_running_stats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), int64, initially zero. None when
        track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none.
    RuntimeError
        The number of features is negative. The element type of the parameters is not floating-point.
        Running statistics, weight or bias have another length than the input has features. Running
        statistics, weight or bias are not floating-point. A running statistic is missing in evaluation.
        The feature axis of the input has another length than the module has features. The element type of
        the input does not go with that of the parameters. Running statistics want gradients. The input
        lives on another device than the module.
    ValueError
        Running statistics, or their counter, that are to be updated cannot be written. One of the running
        statistics is missing in training, and not the other. The input cannot be shared, as what is
        sparse or of another kind of device, or wants gradients of its own library. The input does not
        have one of the accepted numbers of dimensions. Statistics of the batch are needed and there is
        one value per feature. The epsilon is zero or negative in training. The epsilon is negative in
        evaluation.
    AttributeError
        The input is neither a tensor nor a NumPy array.
    NotImplementedError
        The input is not floating-point.

    Notes
    -----
    * This ``momentum`` argument is different from one used in optimizer classes and the conventional
      notion of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 -
      momentum) × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed
      value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, L) slices,
      it's common terminology to call this Temporal Batch Normalization.
    * element types of nn.functional.batch_norm. In PyTorch: Refuses an input of float64 beside float32
      vectors, and vectors of float64 beside a float32 input. Here: Takes any floating-point types
      together; the output has the input's.
    * empty batch. In PyTorch: Is counted by num_batches_tracked, so that with momentum=None the next
      average comes out too small. Here: Updates nothing and is not counted.
    * failing step. In PyTorch: A training step that raises, for one value per channel, has counted its
      batch already. Here: A call that raises has changed nothing.
    * accuracy at a large mean. In PyTorch: y is x * a + c in the input's precision: where the mean is 1e4
      times the deviation, float32 is off by 1e-3, and a constant channel does not give the bias exactly.
      Here: The mean is subtracted first, in float64 or as two float32 numbers; a constant channel gives
      the bias exactly.
    * channels_last. In PyTorch: Statistics of channels_last and (N, C) inputs on the CPU are float32
      sums: at a mean of 1e5 outputs are off by 5, and they depend on the number of threads. Here: Every
      layout gives the same accuracy, and the same bits for any number of threads.
    * long channels. In PyTorch: Float32 sums stand still: the running variance of 2^26 values of one
      channel is off by 11 %. Here: Sums are float64 or compensated, counts have 64 bits.
    * device. In PyTorch: Batch norm on a GPU runs in cuDNN; there are many kinds of device. Here: There
      are cpu and cuda, and the kernels are numba's.
    * 16-bit parameters. In PyTorch: running_mean and running_var have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * dtype. In PyTorch: Takes a torch.dtype and no text; complex parameters can be made, though not used.
      Here: Takes the whole name of an element type and a NumPy dtype as well, but no short name such as
      "float"; there are no complex ones.
    * eps. In PyTorch: What is no number is found out by the first call. Here: It is found out by the
      constructor.
    * num_features. In PyTorch: With affine=False and track_running_stats=False it is neither checked nor
      compared with the input; with track_running_stats=False the message names weight instead of
      running_mean. Here: It is always checked and compared; the message names running_mean.
    * input. In PyTorch: NumPy arrays are refused. Here: Arrays of NumPy, the real torch, CuPy, JAX and
      whatever else speaks DLPack are taken, and come back as what they were.
    * mixed element types. In PyTorch: The message is "expect parameter to have scalar type of Float"
      where the parameters are not float32 Here: The message is the one for float32 parameters.
    * weight. In PyTorch: A tensor that is no Parameter cannot be assigned to weight or bias; for a buffer
      the message names torch.nn.Buffer. Here: Any tensor can be, and becomes a Parameter that shares its
      memory; the message is the one for a parameter.
    * shapes and state dicts. In PyTorch: A shape prints as torch.Size([2, 3]), a state dict as
      OrderedDict, an empty tensor with its size; loading returns _IncompatibleKeys. Here: A shape is a
      tuple, a state dict prints as a dict; loading returns IncompatibleKeys, equal to a tuple of two
      lists.
    * grad_fn. In PyTorch: Prints as the class of a node and a number, grad_fn=<NativeBatchNormBackward0>.
      Here: Prints as what was done, grad_fn=<batch_norm>.
    * further arguments. In PyTorch: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent, to non_blocking,
      copy and memory_format. Here: These are left out, and recurse of named_parameters and named_buffers
      is keyword-only, so that a prefix is not taken for it.
    * add_module, register_parameter. In PyTorch: Refuse names that are taken, and register_parameter
      refuses what is no Parameter. Here: Refuse names that are taken; a tensor becomes a Parameter that
      shares its memory.
    * further arguments of functions. In PyTorch: randn, zeros, ones and tensor take out, layout, device
      and more. Here: They take dtype and requires_grad, and tensor takes device.
    * load_state_dict. In PyTorch: An entry that does not fit is refused after those that fit have been
      copied; a tensor of shape (1,) fits a scalar. Here: Everything is checked before anything is copied,
      and shapes must be equal.
    * _NormBase. In PyTorch: Stands between _BatchNorm and Module. Here: _BatchNorm extends Module.
    * wording. In PyTorch: BatchNorm2d and BatchNorm3d say of num_features "C from an expected input of
      size (N, C, H, W)"; a full stop parts "always uses batch statistics. in both training and eval
      modes". Here: All say what BatchNorm1d says; the sentence is one.
    * hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * torch API, torch.nn.BatchNorm1d

    Examples
    --------
    >>> from normspec import torch
    >>> from normspec.torch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm1d(100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm1d(100, affine=False)
    >>> input = torch.randn(20, 100)
    >>> output = m(input)
    """

    _accepts = ("N C", "N C L")
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=bias,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: ArrayT) -> ArrayT:
        """Normalizes the input; in training, updates the running statistics.

        Parameters
        ----------
        input : array of shape (N, C) or (N, C, L)
            N is the batch size, C is the number of features or channels, and L is the sequence length.

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(input)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self._shifted}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_batch_norm.BatchNorm, _BatchNorm):
    """Applies Batch Normalization over a 4D input.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    4D is a mini-batch of 2D inputs with additional channel dimension. Method described in the paper Batch
    Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the input size). By default, the elements of γ are
    set to 1 and the elements of β are set to 0. At train time in the forward pass, the standard-deviation
    is calculated via the biased estimator, equivalent to ``torch.var(input, correction=0)``. However, the
    value stored in the moving average of the standard-deviation is calculated via the unbiased estimator,
    equivalent to ``torch.var(input, correction=1)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    ``momentum`` of 0.1.

    If ``track_running_stats`` is set to False, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: _BatchNorm.

    Parameters
    ----------
    num_features : int
        Number of features or channels C of the input. Must be an integer, zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number, above zero in
        training, zero or more in evaluation.
    momentum : float | None, default 0.1
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool, default True
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    device : device | None, default None
        Where parameters and buffers live.
    dtype : dtype | None, default None
        Element type of parameters and running statistics. Must be an element type, floating-point.
    bias : bool, default True
        If set to False, the layer will not learn an additive bias (only relevant if affine is True).

    Shape
    -----
    Input: (N, C, H, W). Output: the same shape.

    Attributes
    ----------
    num_features : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Parameter | None
        The learnable vector γ of size C, ones at first. Shape (num_features), the parameters' element
        type, initially ones. None when affine=False.
    bias : Parameter | None
        The learnable vector β of size C, zeros at first. Shape (num_features), the parameters' element
        type, initially zeros. None when affine=False or bias=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first. Shape (num_features), the parameters' element
        type but float32 at least, initially zeros. None when track_running_stats=False.
    running_var : Tensor | None
        The running unbiased variance of each channel, ones at first. Shape (num_features), the
        parameters' element type but float32 at least, initially ones. None when
        track_running_stats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), int64, initially zero. None when
        track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none.
    RuntimeError
        The number of features is negative. The element type of the parameters is not floating-point.
        Running statistics, weight or bias have another length than the input has features. Running
        statistics, weight or bias are not floating-point. A running statistic is missing in evaluation.
        The feature axis of the input has another length than the module has features. The element type of
        the input does not go with that of the parameters. Running statistics want gradients. The input
        lives on another device than the module.
    ValueError
        Running statistics, or their counter, that are to be updated cannot be written. One of the running
        statistics is missing in training, and not the other. The input cannot be shared, as what is
        sparse or of another kind of device, or wants gradients of its own library. The input does not
        have one of the accepted numbers of dimensions. Statistics of the batch are needed and there is
        one value per feature. The epsilon is zero or negative in training. The epsilon is negative in
        evaluation.
    AttributeError
        The input is neither a tensor nor a NumPy array.
    NotImplementedError
        The input is not floating-point.

    Notes
    -----
    * This ``momentum`` argument is different from one used in optimizer classes and the conventional
      notion of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 -
      momentum) × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed
      value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, H, W)
      slices, it's common terminology to call this Spatial Batch Normalization.
    * element types of nn.functional.batch_norm. In PyTorch: Refuses an input of float64 beside float32
      vectors, and vectors of float64 beside a float32 input. Here: Takes any floating-point types
      together; the output has the input's.
    * empty batch. In PyTorch: Is counted by num_batches_tracked, so that with momentum=None the next
      average comes out too small. Here: Updates nothing and is not counted.
    * failing step. In PyTorch: A training step that raises, for one value per channel, has counted its
      batch already. Here: A call that raises has changed nothing.
    * accuracy at a large mean. In PyTorch: y is x * a + c in the input's precision: where the mean is 1e4
      times the deviation, float32 is off by 1e-3, and a constant channel does not give the bias exactly.
      Here: The mean is subtracted first, in float64 or as two float32 numbers; a constant channel gives
      the bias exactly.
    * channels_last. In PyTorch: Statistics of channels_last and (N, C) inputs on the CPU are float32
      sums: at a mean of 1e5 outputs are off by 5, and they depend on the number of threads. Here: Every
      layout gives the same accuracy, and the same bits for any number of threads.
    * long channels. In PyTorch: Float32 sums stand still: the running variance of 2^26 values of one
      channel is off by 11 %. Here: Sums are float64 or compensated, counts have 64 bits.
    * device. In PyTorch: Batch norm on a GPU runs in cuDNN; there are many kinds of device. Here: There
      are cpu and cuda, and the kernels are numba's.
    * 16-bit parameters. In PyTorch: running_mean and running_var have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * dtype. In PyTorch: Takes a torch.dtype and no text; complex parameters can be made, though not used.
      Here: Takes the whole name of an element type and a NumPy dtype as well, but no short name such as
      "float"; there are no complex ones.
    * eps. In PyTorch: What is no number is found out by the first call. Here: It is found out by the
      constructor.
    * num_features. In PyTorch: With affine=False and track_running_stats=False it is neither checked nor
      compared with the input; with track_running_stats=False the message names weight instead of
      running_mean. Here: It is always checked and compared; the message names running_mean.
    * input. In PyTorch: NumPy arrays are refused. Here: Arrays of NumPy, the real torch, CuPy, JAX and
      whatever else speaks DLPack are taken, and come back as what they were.
    * mixed element types. In PyTorch: The message is "expect parameter to have scalar type of Float"
      where the parameters are not float32 Here: The message is the one for float32 parameters.
    * weight. In PyTorch: A tensor that is no Parameter cannot be assigned to weight or bias; for a buffer
      the message names torch.nn.Buffer. Here: Any tensor can be, and becomes a Parameter that shares its
      memory; the message is the one for a parameter.
    * shapes and state dicts. In PyTorch: A shape prints as torch.Size([2, 3]), a state dict as
      OrderedDict, an empty tensor with its size; loading returns _IncompatibleKeys. Here: A shape is a
      tuple, a state dict prints as a dict; loading returns IncompatibleKeys, equal to a tuple of two
      lists.
    * grad_fn. In PyTorch: Prints as the class of a node and a number, grad_fn=<NativeBatchNormBackward0>.
      Here: Prints as what was done, grad_fn=<batch_norm>.
    * further arguments. In PyTorch: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent, to non_blocking,
      copy and memory_format. Here: These are left out, and recurse of named_parameters and named_buffers
      is keyword-only, so that a prefix is not taken for it.
    * add_module, register_parameter. In PyTorch: Refuse names that are taken, and register_parameter
      refuses what is no Parameter. Here: Refuse names that are taken; a tensor becomes a Parameter that
      shares its memory.
    * further arguments of functions. In PyTorch: randn, zeros, ones and tensor take out, layout, device
      and more. Here: They take dtype and requires_grad, and tensor takes device.
    * load_state_dict. In PyTorch: An entry that does not fit is refused after those that fit have been
      copied; a tensor of shape (1,) fits a scalar. Here: Everything is checked before anything is copied,
      and shapes must be equal.
    * _NormBase. In PyTorch: Stands between _BatchNorm and Module. Here: _BatchNorm extends Module.
    * wording. In PyTorch: BatchNorm2d and BatchNorm3d say of num_features "C from an expected input of
      size (N, C, H, W)"; a full stop parts "always uses batch statistics. in both training and eval
      modes". Here: All say what BatchNorm1d says; the sentence is one.
    * hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * torch API, torch.nn.BatchNorm2d

    Examples
    --------
    >>> from normspec import torch
    >>> from normspec.torch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm2d(100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm2d(100, affine=False)
    >>> input = torch.randn(20, 100, 35, 45)
    >>> output = m(input)
    """

    _accepts = ("N C H W",)
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=bias,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: ArrayT) -> ArrayT:
        """Normalizes the input; in training, updates the running statistics.

        Parameters
        ----------
        input : array of shape (N, C, H, W)

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(input)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self._shifted}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm3d(_batch_norm.BatchNorm, _BatchNorm):
    """Applies Batch Normalization over a 5D input.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    5D is a mini-batch of 3D inputs with additional channel dimension as described in the paper Batch
    Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the input size). By default, the elements of γ are
    set to 1 and the elements of β are set to 0. At train time in the forward pass, the standard-deviation
    is calculated via the biased estimator, equivalent to ``torch.var(input, correction=0)``. However, the
    value stored in the moving average of the standard-deviation is calculated via the unbiased estimator,
    equivalent to ``torch.var(input, correction=1)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    ``momentum`` of 0.1.

    If ``track_running_stats`` is set to False, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: _BatchNorm.

    Parameters
    ----------
    num_features : int
        Number of features or channels C of the input. Must be an integer, zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number, above zero in
        training, zero or more in evaluation.
    momentum : float | None, default 0.1
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool, default True
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    device : device | None, default None
        Where parameters and buffers live.
    dtype : dtype | None, default None
        Element type of parameters and running statistics. Must be an element type, floating-point.
    bias : bool, default True
        If set to False, the layer will not learn an additive bias (only relevant if affine is True).

    Shape
    -----
    Input: (N, C, D, H, W). Output: the same shape.

    Attributes
    ----------
    num_features : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the running_mean and running_var computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to True, this module has learnable affine parameters.
    track_running_stats : bool
        A boolean value that when set to True, this module tracks the running mean and variance, and when
        set to False, this module does not track such statistics, and initializes statistics buffers
        running_mean and running_var as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Parameter | None
        The learnable vector γ of size C, ones at first. Shape (num_features), the parameters' element
        type, initially ones. None when affine=False.
    bias : Parameter | None
        The learnable vector β of size C, zeros at first. Shape (num_features), the parameters' element
        type, initially zeros. None when affine=False or bias=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first. Shape (num_features), the parameters' element
        type but float32 at least, initially zeros. None when track_running_stats=False.
    running_var : Tensor | None
        The running unbiased variance of each channel, ones at first. Shape (num_features), the
        parameters' element type but float32 at least, initially ones. None when
        track_running_stats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), int64, initially zero. None when
        track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none.
    RuntimeError
        The number of features is negative. The element type of the parameters is not floating-point.
        Running statistics, weight or bias have another length than the input has features. Running
        statistics, weight or bias are not floating-point. A running statistic is missing in evaluation.
        The feature axis of the input has another length than the module has features. The element type of
        the input does not go with that of the parameters. Running statistics want gradients. The input
        lives on another device than the module.
    ValueError
        Running statistics, or their counter, that are to be updated cannot be written. One of the running
        statistics is missing in training, and not the other. The input cannot be shared, as what is
        sparse or of another kind of device, or wants gradients of its own library. The input does not
        have one of the accepted numbers of dimensions. Statistics of the batch are needed and there is
        one value per feature. The epsilon is zero or negative in training. The epsilon is negative in
        evaluation.
    AttributeError
        The input is neither a tensor nor a NumPy array.
    NotImplementedError
        The input is not floating-point.

    Notes
    -----
    * This ``momentum`` argument is different from one used in optimizer classes and the conventional
      notion of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 -
      momentum) × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed
      value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, D, H, W)
      slices, it's common terminology to call this Volumetric Batch Normalization or Spatio-temporal Batch
      Normalization.
    * element types of nn.functional.batch_norm. In PyTorch: Refuses an input of float64 beside float32
      vectors, and vectors of float64 beside a float32 input. Here: Takes any floating-point types
      together; the output has the input's.
    * empty batch. In PyTorch: Is counted by num_batches_tracked, so that with momentum=None the next
      average comes out too small. Here: Updates nothing and is not counted.
    * failing step. In PyTorch: A training step that raises, for one value per channel, has counted its
      batch already. Here: A call that raises has changed nothing.
    * accuracy at a large mean. In PyTorch: y is x * a + c in the input's precision: where the mean is 1e4
      times the deviation, float32 is off by 1e-3, and a constant channel does not give the bias exactly.
      Here: The mean is subtracted first, in float64 or as two float32 numbers; a constant channel gives
      the bias exactly.
    * channels_last. In PyTorch: Statistics of channels_last and (N, C) inputs on the CPU are float32
      sums: at a mean of 1e5 outputs are off by 5, and they depend on the number of threads. Here: Every
      layout gives the same accuracy, and the same bits for any number of threads.
    * long channels. In PyTorch: Float32 sums stand still: the running variance of 2^26 values of one
      channel is off by 11 %. Here: Sums are float64 or compensated, counts have 64 bits.
    * device. In PyTorch: Batch norm on a GPU runs in cuDNN; there are many kinds of device. Here: There
      are cpu and cuda, and the kernels are numba's.
    * 16-bit parameters. In PyTorch: running_mean and running_var have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * dtype. In PyTorch: Takes a torch.dtype and no text; complex parameters can be made, though not used.
      Here: Takes the whole name of an element type and a NumPy dtype as well, but no short name such as
      "float"; there are no complex ones.
    * eps. In PyTorch: What is no number is found out by the first call. Here: It is found out by the
      constructor.
    * num_features. In PyTorch: With affine=False and track_running_stats=False it is neither checked nor
      compared with the input; with track_running_stats=False the message names weight instead of
      running_mean. Here: It is always checked and compared; the message names running_mean.
    * input. In PyTorch: NumPy arrays are refused. Here: Arrays of NumPy, the real torch, CuPy, JAX and
      whatever else speaks DLPack are taken, and come back as what they were.
    * mixed element types. In PyTorch: The message is "expect parameter to have scalar type of Float"
      where the parameters are not float32 Here: The message is the one for float32 parameters.
    * weight. In PyTorch: A tensor that is no Parameter cannot be assigned to weight or bias; for a buffer
      the message names torch.nn.Buffer. Here: Any tensor can be, and becomes a Parameter that shares its
      memory; the message is the one for a parameter.
    * shapes and state dicts. In PyTorch: A shape prints as torch.Size([2, 3]), a state dict as
      OrderedDict, an empty tensor with its size; loading returns _IncompatibleKeys. Here: A shape is a
      tuple, a state dict prints as a dict; loading returns IncompatibleKeys, equal to a tuple of two
      lists.
    * grad_fn. In PyTorch: Prints as the class of a node and a number, grad_fn=<NativeBatchNormBackward0>.
      Here: Prints as what was done, grad_fn=<batch_norm>.
    * further arguments. In PyTorch: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent, to non_blocking,
      copy and memory_format. Here: These are left out, and recurse of named_parameters and named_buffers
      is keyword-only, so that a prefix is not taken for it.
    * add_module, register_parameter. In PyTorch: Refuse names that are taken, and register_parameter
      refuses what is no Parameter. Here: Refuse names that are taken; a tensor becomes a Parameter that
      shares its memory.
    * further arguments of functions. In PyTorch: randn, zeros, ones and tensor take out, layout, device
      and more. Here: They take dtype and requires_grad, and tensor takes device.
    * load_state_dict. In PyTorch: An entry that does not fit is refused after those that fit have been
      copied; a tensor of shape (1,) fits a scalar. Here: Everything is checked before anything is copied,
      and shapes must be equal.
    * _NormBase. In PyTorch: Stands between _BatchNorm and Module. Here: _BatchNorm extends Module.
    * wording. In PyTorch: BatchNorm2d and BatchNorm3d say of num_features "C from an expected input of
      size (N, C, H, W)"; a full stop parts "always uses batch statistics. in both training and eval
      modes". Here: All say what BatchNorm1d says; the sentence is one.
    * hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * torch API, torch.nn.BatchNorm3d

    Examples
    --------
    >>> from normspec import torch
    >>> from normspec.torch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm3d(100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm3d(100, affine=False)
    >>> input = torch.randn(20, 100, 35, 45, 10)
    >>> output = m(input)
    """

    _accepts = ("N C D H W",)
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=bias,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: ArrayT) -> ArrayT:
        """Normalizes the input; in training, updates the running statistics.

        Parameters
        ----------
        input : array of shape (N, C, D, H, W)

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(input)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self._shifted}, track_running_stats={self.track_running_stats}"
        )
