# Generated from specs/lucid/ by `normspec generate`. Edit the specs, never this file.
"""The modules of lucid: ``lucid.nn``."""

from __future__ import annotations

from normspec.lucid._dialect import Parameter, Tensor
from normspec.lucid._module import Module, _BatchNormBase
from normspec.runtime import ArrayT, DTypeLike, State
from normspec.runtime.operators import batch_norm as _batch_norm

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Module", "Parameter"]

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
    "input": "x",
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


class BatchNorm1d(_batch_norm.BatchNorm, _BatchNormBase):
    """Batch normalization over a 2-D or 3-D input (N, C) or (N, C, L).

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Normalises each channel across the batch (and, for 3-D inputs, the length) dimension.

    For a 3-D input (N, C, L), the statistics E[x] and Var[x] are computed over the (N, L) axes for each
    channel c. For a 2-D input (N, C) only the batch axis N is reduced.

    During training, batch statistics are used and running statistics are updated via an exponential
    moving average: μ̂ ← (1 − m) μ̂ + m μ_batch.

    During evaluation (``model.eval()``), the stored running statistics ``running_mean`` and
    ``running_var`` are used instead, making inference independent of batch composition.

    Supertypes: _BatchNormBase.

    Parameters
    ----------
    num_features : int
        Number of channels C. Must be an integer, zero or more.
    eps : float, default 1e-05
        Small constant added to the variance for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
        Must be a real number or None.
    affine : bool, default True
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool, default True
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    device : DeviceLike | None, default None
        Device for parameters and buffers.
    dtype : DTypeLike | None, default None
        Data type for parameters and buffers. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C) or (N, C, L). Output: the same shape.

    Attributes
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Small constant added to the variance for numerical stability.
    momentum : float | None
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
    affine : bool
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    weight : Parameter | None
        Learnable scale γ of shape (num_features,). Shape (num_features), the parameters' element type,
        initially ones. None when affine=False.
    bias : Parameter | None
        Learnable shift β of shape (num_features,). Shape (num_features), the parameters' element type,
        initially zeros. None when affine=False.
    running_mean : Tensor | None
        Running estimate of the per-channel mean, shape (num_features,). Shape (num_features), the
        parameters' element type but float32 at least, initially zeros. None when
        track_running_stats=False.
    running_var : Tensor | None
        Running estimate of the per-channel variance, shape (num_features,); each batch adds its unbiased
        variance. Shape (num_features), the parameters' element type but float32 at least, initially ones.
        None when track_running_stats=False.
    num_batches_tracked : Tensor | None
        Scalar int64 counting the number of batches seen during training. Shape (), int64, initially zero.
        None when track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. The input is neither a tensor nor a
        NumPy array.
    ValueError
        The number of features is negative. What is given as an element type is none. The element type of
        the parameters is not floating-point. Running statistics, or their counter, that are to be updated
        cannot be written. A running statistic is missing in evaluation. One of the running statistics is
        missing in training, and not the other. The input cannot be shared, as what is sparse or of
        another kind of device, or wants gradients of its own library. The input does not have one of the
        accepted numbers of dimensions.
    ShapeMismatch
        Running statistics, weight or bias have another length than the input has features. The feature
        axis of the input has another length than the module has features.
    DtypeMismatch
        Running statistics, weight or bias are not floating-point. The input is not floating-point.
    DeviceMismatch
        The input lives on another device than the module.

    Notes
    -----
    * number of dimensions. In lucid: The documents say 2-D or 3-D, 4-D and 5-D; the code takes 2 to 5
      dimensions in every class, and any number in evaluation. Here: Each class takes what its document
      says.
    * num_features and eps. In lucid: Neither is checked. Here: num_features must be an int of zero or
      more, eps a number.
    * number of channels. In lucid: With affine=False nothing compares the channels with the buffers,
      which are then read out of bounds. Here: The channels are compared in every mode and configuration.
    * integer input. In lucid: Is converted to float32. Here: Is refused.
    * dtype of the buffers. In lucid: The document promises dtype for parameters and buffers, and the code
      gives it to running_mean and running_var, float16 and bfloat16 too. Here: They are float32 at least:
      16-bit sums of small updates stand still. num_batches_tracked is int64 in both.
    * devices. In lucid: The documents name no device; the code knows cpu and metal, which is Apple's.
      Here: There are cpu and cuda.
    * empty batch. In lucid: On the CPU the running statistics take in memory that was never written.
      Here: Updates nothing.
    * running_var. In lucid: The variance is recovered as 1 / rstd² − eps, which loses digits and can be
      negative. Here: It is the variance that was computed.
    * accuracy. In lucid: In float32 on the CPU the variance is E[x²] − E[x]², which cancels where the
      mean is large. Here: Deviations from the mean are squared, in float64 where that costs nothing.
    * num_batches_tracked. In lucid: Is another tensor after every batch, so that a saved state dict keeps
      the old count. Here: Counts in place.
    * input of forward. In lucid: The document calls it input, the code x. Here: It is x.
    * _BatchNormBase. In lucid: The documents show it as the base class, though its name is private. Here:
      It is the base class, in lucid's private module.
    * assignment. In lucid: What is assigned to a parameter or buffer takes its name out of the state
      dict, unless it is a Parameter. Here: A tensor of the same shape takes its place, as a Parameter
      that shares its memory if it is that of one; what is no tensor is refused, but for None.
    * load_state_dict. In lucid: Loading puts new tensors in the place of buffers; with a shape that does
      not fit it has changed what came before. Here: Values are copied into the tensors there are, all of
      them or none.
    * further arguments. In lucid: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent; state dicts
      carry version numbers. Here: These are left out; num_batches_tracked may be missing from a dict that
      is not one of ours.
    * further arguments of functions. In lucid: Most of randn, zeros, ones and tensor take device, randn
      takes generator. Here: These are left out, but for the device of tensor.
    * randn, manual_seed. In lucid: Draws come from Philox. Here: They come from NumPy's default
      generator: as repeatable, with other values.
    * shapes in messages. In lucid: Written (3,) in errors of loading, [3,4] without blanks in
      ShapeMismatch. Here: Written [3] and [3, 4].
    * wording. In lucid: BatchNorm2d says "If None, uses cumulative moving average" and "Running estimate
      of the per-channel mean" where BatchNorm1d says "None uses a cumulative moving average" and "Running
      per-channel mean"; only BatchNorm1d says that the counter is int64; the page of BatchNorm2d has lost
      its formulas. Here: Both say the fuller of the two; the formulas are back.
    * metal is left out: Apple's GPU; ``metal()`` and ``device="metal"`` need one.
    * forward hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * lucid API, lucid.nn.BatchNorm1d

    Examples
    --------
    >>> from normspec import lucid
    >>> from normspec.lucid import nn
    >>> # 2-D input (e.g. a linear layer's activations):
    >>> bn = nn.BatchNorm1d(128)
    >>> x = lucid.randn(32, 128)
    >>> out = bn(x)
    >>> out.shape
    (32, 128)
    >>> # 3-D input — temporal sequence with channels:
    >>> bn_seq = nn.BatchNorm1d(64)
    >>> x_seq = lucid.randn(16, 64, 200)   # (N, C, L)
    >>> out_seq = bn_seq(x_seq)
    >>> out_seq.shape
    (16, 64, 200)
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
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: ArrayT) -> ArrayT:
        """Applies normalisation to the input tensor.

        Parameters
        ----------
        x : array of shape (N, C) or (N, C, L)

        Returns
        -------
        array
            Normalised tensor of the same shape as the input.
        """
        return self.compute(x)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_batch_norm.BatchNorm, _BatchNormBase):
    """Batch normalization over a 4-D input (N, C, H, W).

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Normalises each channel across the batch and spatial dimensions, where E[x] and Var[x] are computed
    over the (N, H, W) axes for each channel c.

    During training, batch statistics are used and running statistics are updated via an exponential
    moving average: μ̂ ← (1 − m) μ̂ + m μ_batch.

    During evaluation (``model.eval()``), the stored running statistics ``running_mean`` and
    ``running_var`` are used instead, making inference independent of batch composition.

    Supertypes: _BatchNormBase.

    Parameters
    ----------
    num_features : int
        Number of channels C. Must be an integer, zero or more.
    eps : float, default 1e-05
        Small constant added to the variance for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
        Must be a real number or None.
    affine : bool, default True
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool, default True
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    device : DeviceLike | None, default None
        Device for parameters and buffers.
    dtype : DTypeLike | None, default None
        Data type for parameters and buffers. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C, H, W). Output: the same shape.

    Attributes
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Small constant added to the variance for numerical stability.
    momentum : float | None
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
    affine : bool
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    weight : Parameter | None
        Learnable scale γ of shape (num_features,). Shape (num_features), the parameters' element type,
        initially ones. None when affine=False.
    bias : Parameter | None
        Learnable shift β of shape (num_features,). Shape (num_features), the parameters' element type,
        initially zeros. None when affine=False.
    running_mean : Tensor | None
        Running estimate of the per-channel mean, shape (num_features,). Shape (num_features), the
        parameters' element type but float32 at least, initially zeros. None when
        track_running_stats=False.
    running_var : Tensor | None
        Running estimate of the per-channel variance, shape (num_features,); each batch adds its unbiased
        variance. Shape (num_features), the parameters' element type but float32 at least, initially ones.
        None when track_running_stats=False.
    num_batches_tracked : Tensor | None
        Scalar int64 counting the number of batches seen during training. Shape (), int64, initially zero.
        None when track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. The input is neither a tensor nor a
        NumPy array.
    ValueError
        The number of features is negative. What is given as an element type is none. The element type of
        the parameters is not floating-point. Running statistics, or their counter, that are to be updated
        cannot be written. A running statistic is missing in evaluation. One of the running statistics is
        missing in training, and not the other. The input cannot be shared, as what is sparse or of
        another kind of device, or wants gradients of its own library. The input does not have one of the
        accepted numbers of dimensions.
    ShapeMismatch
        Running statistics, weight or bias have another length than the input has features. The feature
        axis of the input has another length than the module has features.
    DtypeMismatch
        Running statistics, weight or bias are not floating-point. The input is not floating-point.
    DeviceMismatch
        The input lives on another device than the module.

    Notes
    -----
    * BatchNorm2d is the most commonly used normalization layer in convolutional neural networks. It
      stabilises training by keeping activations in a well-scaled range after each convolutional block.
    * At small batch sizes (e.g. N < 8) the batch statistics become noisy. Consider GroupNorm or
      InstanceNorm2d in those settings.
    * number of dimensions. In lucid: The documents say 2-D or 3-D, 4-D and 5-D; the code takes 2 to 5
      dimensions in every class, and any number in evaluation. Here: Each class takes what its document
      says.
    * num_features and eps. In lucid: Neither is checked. Here: num_features must be an int of zero or
      more, eps a number.
    * number of channels. In lucid: With affine=False nothing compares the channels with the buffers,
      which are then read out of bounds. Here: The channels are compared in every mode and configuration.
    * integer input. In lucid: Is converted to float32. Here: Is refused.
    * dtype of the buffers. In lucid: The document promises dtype for parameters and buffers, and the code
      gives it to running_mean and running_var, float16 and bfloat16 too. Here: They are float32 at least:
      16-bit sums of small updates stand still. num_batches_tracked is int64 in both.
    * devices. In lucid: The documents name no device; the code knows cpu and metal, which is Apple's.
      Here: There are cpu and cuda.
    * empty batch. In lucid: On the CPU the running statistics take in memory that was never written.
      Here: Updates nothing.
    * running_var. In lucid: The variance is recovered as 1 / rstd² − eps, which loses digits and can be
      negative. Here: It is the variance that was computed.
    * accuracy. In lucid: In float32 on the CPU the variance is E[x²] − E[x]², which cancels where the
      mean is large. Here: Deviations from the mean are squared, in float64 where that costs nothing.
    * num_batches_tracked. In lucid: Is another tensor after every batch, so that a saved state dict keeps
      the old count. Here: Counts in place.
    * input of forward. In lucid: The document calls it input, the code x. Here: It is x.
    * _BatchNormBase. In lucid: The documents show it as the base class, though its name is private. Here:
      It is the base class, in lucid's private module.
    * assignment. In lucid: What is assigned to a parameter or buffer takes its name out of the state
      dict, unless it is a Parameter. Here: A tensor of the same shape takes its place, as a Parameter
      that shares its memory if it is that of one; what is no tensor is refused, but for None.
    * load_state_dict. In lucid: Loading puts new tensors in the place of buffers; with a shape that does
      not fit it has changed what came before. Here: Values are copied into the tensors there are, all of
      them or none.
    * further arguments. In lucid: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent; state dicts
      carry version numbers. Here: These are left out; num_batches_tracked may be missing from a dict that
      is not one of ours.
    * further arguments of functions. In lucid: Most of randn, zeros, ones and tensor take device, randn
      takes generator. Here: These are left out, but for the device of tensor.
    * randn, manual_seed. In lucid: Draws come from Philox. Here: They come from NumPy's default
      generator: as repeatable, with other values.
    * shapes in messages. In lucid: Written (3,) in errors of loading, [3,4] without blanks in
      ShapeMismatch. Here: Written [3] and [3, 4].
    * wording. In lucid: BatchNorm2d says "If None, uses cumulative moving average" and "Running estimate
      of the per-channel mean" where BatchNorm1d says "None uses a cumulative moving average" and "Running
      per-channel mean"; only BatchNorm1d says that the counter is int64; the page of BatchNorm2d has lost
      its formulas. Here: Both say the fuller of the two; the formulas are back.
    * GroupNorm, InstanceNorm2d. In lucid: The document links to both. Here: They are named, but not part
      of this library.
    * metal is left out: Apple's GPU; ``metal()`` and ``device="metal"`` need one.
    * forward hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * lucid API, lucid.nn.BatchNorm2d

    Examples
    --------
    >>> from normspec import lucid
    >>> from normspec.lucid import nn
    >>> bn = nn.BatchNorm2d(64)
    >>> x = lucid.randn(8, 64, 32, 32)
    >>> out = bn(x)   # normalised per channel
    >>> out.shape
    (8, 64, 32, 32)
    >>> # Eval mode uses running statistics (no batch dependence)
    >>> bn.eval()
    >>> with lucid.no_grad():
    ...     out = bn(x)
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
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: ArrayT) -> ArrayT:
        """Applies normalisation to the input tensor.

        Parameters
        ----------
        x : array of shape (N, C, H, W)

        Returns
        -------
        array
            Normalised tensor of the same shape as the input.
        """
        return self.compute(x)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm3d(_batch_norm.BatchNorm, _BatchNormBase):
    """Batch normalization over a 5-D input (N, C, D, H, W).

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Normalises each channel across the batch and the three spatial dimensions, where E[x] and Var[x] are
    computed over the (N, D, H, W) axes for each channel c.

    During training, batch statistics are used and running statistics are updated via an exponential
    moving average: μ̂ ← (1 − m) μ̂ + m μ_batch.

    During evaluation (``model.eval()``), the stored running statistics ``running_mean`` and
    ``running_var`` are used instead, making inference independent of batch composition.

    Supertypes: _BatchNormBase.

    Parameters
    ----------
    num_features : int
        Number of channels C. Must be an integer, zero or more.
    eps : float, default 1e-05
        Small constant added to the variance for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
        Must be a real number or None.
    affine : bool, default True
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool, default True
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    device : DeviceLike | None, default None
        Device for parameters and buffers.
    dtype : DTypeLike | None, default None
        Data type for parameters and buffers. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C, D, H, W). Output: the same shape.

    Attributes
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Small constant added to the variance for numerical stability.
    momentum : float | None
        Exponential moving average factor for running statistics. If None, uses cumulative moving average.
    affine : bool
        If True, learns per-channel scale γ and shift β.
    track_running_stats : bool
        If True, maintains ``running_mean``, ``running_var``, and ``num_batches_tracked``.
    weight : Parameter | None
        Learnable scale γ of shape (num_features,). Shape (num_features), the parameters' element type,
        initially ones. None when affine=False.
    bias : Parameter | None
        Learnable shift β of shape (num_features,). Shape (num_features), the parameters' element type,
        initially zeros. None when affine=False.
    running_mean : Tensor | None
        Running estimate of the per-channel mean, shape (num_features,). Shape (num_features), the
        parameters' element type but float32 at least, initially zeros. None when
        track_running_stats=False.
    running_var : Tensor | None
        Running estimate of the per-channel variance, shape (num_features,); each batch adds its unbiased
        variance. Shape (num_features), the parameters' element type but float32 at least, initially ones.
        None when track_running_stats=False.
    num_batches_tracked : Tensor | None
        Scalar int64 counting the number of batches seen during training. Shape (), int64, initially zero.
        None when track_running_stats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. The input is neither a tensor nor a
        NumPy array.
    ValueError
        The number of features is negative. What is given as an element type is none. The element type of
        the parameters is not floating-point. Running statistics, or their counter, that are to be updated
        cannot be written. A running statistic is missing in evaluation. One of the running statistics is
        missing in training, and not the other. The input cannot be shared, as what is sparse or of
        another kind of device, or wants gradients of its own library. The input does not have one of the
        accepted numbers of dimensions.
    ShapeMismatch
        Running statistics, weight or bias have another length than the input has features. The feature
        axis of the input has another length than the module has features.
    DtypeMismatch
        Running statistics, weight or bias are not floating-point. The input is not floating-point.
    DeviceMismatch
        The input lives on another device than the module.

    Notes
    -----
    * Serves volumes and videos: D is their depth or time.
    * number of dimensions. In lucid: The documents say 2-D or 3-D, 4-D and 5-D; the code takes 2 to 5
      dimensions in every class, and any number in evaluation. Here: Each class takes what its document
      says.
    * num_features and eps. In lucid: Neither is checked. Here: num_features must be an int of zero or
      more, eps a number.
    * number of channels. In lucid: With affine=False nothing compares the channels with the buffers,
      which are then read out of bounds. Here: The channels are compared in every mode and configuration.
    * integer input. In lucid: Is converted to float32. Here: Is refused.
    * dtype of the buffers. In lucid: The document promises dtype for parameters and buffers, and the code
      gives it to running_mean and running_var, float16 and bfloat16 too. Here: They are float32 at least:
      16-bit sums of small updates stand still. num_batches_tracked is int64 in both.
    * devices. In lucid: The documents name no device; the code knows cpu and metal, which is Apple's.
      Here: There are cpu and cuda.
    * empty batch. In lucid: On the CPU the running statistics take in memory that was never written.
      Here: Updates nothing.
    * running_var. In lucid: The variance is recovered as 1 / rstd² − eps, which loses digits and can be
      negative. Here: It is the variance that was computed.
    * accuracy. In lucid: In float32 on the CPU the variance is E[x²] − E[x]², which cancels where the
      mean is large. Here: Deviations from the mean are squared, in float64 where that costs nothing.
    * num_batches_tracked. In lucid: Is another tensor after every batch, so that a saved state dict keeps
      the old count. Here: Counts in place.
    * input of forward. In lucid: The document calls it input, the code x. Here: It is x.
    * _BatchNormBase. In lucid: The documents show it as the base class, though its name is private. Here:
      It is the base class, in lucid's private module.
    * assignment. In lucid: What is assigned to a parameter or buffer takes its name out of the state
      dict, unless it is a Parameter. Here: A tensor of the same shape takes its place, as a Parameter
      that shares its memory if it is that of one; what is no tensor is refused, but for None.
    * load_state_dict. In lucid: Loading puts new tensors in the place of buffers; with a shape that does
      not fit it has changed what came before. Here: Values are copied into the tensors there are, all of
      them or none.
    * further arguments. In lucid: state_dict takes destination, prefix and keep_vars, load_state_dict
      assign, the named_ methods prefix and remove_duplicate, register_buffer persistent; state dicts
      carry version numbers. Here: These are left out; num_batches_tracked may be missing from a dict that
      is not one of ours.
    * further arguments of functions. In lucid: Most of randn, zeros, ones and tensor take device, randn
      takes generator. Here: These are left out, but for the device of tensor.
    * randn, manual_seed. In lucid: Draws come from Philox. Here: They come from NumPy's default
      generator: as repeatable, with other values.
    * shapes in messages. In lucid: Written (3,) in errors of loading, [3,4] without blanks in
      ShapeMismatch. Here: Written [3] and [3, 4].
    * wording. In lucid: BatchNorm2d says "If None, uses cumulative moving average" and "Running estimate
      of the per-channel mean" where BatchNorm1d says "None uses a cumulative moving average" and "Running
      per-channel mean"; only BatchNorm1d says that the counter is int64; the page of BatchNorm2d has lost
      its formulas. Here: Both say the fuller of the two; the formulas are back.
    * metal is left out: Apple's GPU; ``metal()`` and ``device="metal"`` need one.
    * forward hooks is left out: Modules have no hooks here.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * lucid 3.8.0, lucid.nn.BatchNorm3d (no seed document)

    Examples
    --------
    >>> from normspec import lucid
    >>> from normspec.lucid import nn
    >>> bn = nn.BatchNorm3d(32)
    >>> x = lucid.randn(2, 32, 4, 8, 8)
    >>> out = bn(x)
    >>> out.shape
    (2, 32, 4, 8, 8)
    >>> bn = nn.BatchNorm3d(32, affine=False)
    >>> [name for name, _ in bn.named_parameters()]
    []
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
    ) -> None:
        super().__init__(
            features=num_features,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=track_running_stats,
            unbiased=True,
            learns=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: ArrayT) -> ArrayT:
        """Applies normalisation to the input tensor.

        Parameters
        ----------
        x : array of shape (N, C, D, H, W)

        Returns
        -------
        array
            Normalised tensor of the same shape as the input.
        """
        return self.compute(x)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )
