# Generated from specs/storch/ by `normspec generate`. Edit the specs, never this file.
"""The modules of storch: ``storch.nn``."""

from __future__ import annotations

from typing import overload

from normspec import runtime
from normspec.runtime import ArrayT, DTypeLike, State
from normspec.runtime.operators import batch_norm as _batch_norm
from normspec.storch._dialect import Parameter, Tensor
from normspec.storch._module import HasParams, HasWeight, Module, TensorModule

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "HasParams", "HasWeight", "Module", "Parameter", "TensorModule"]

_BATCH_NORM_NAMES = {
    "features": "numFeatures",
    "epsilon": "eps",
    "update_rate": "momentum",
    "affine": "affine",
    "track": "trackRunningStats",
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "count": "num_batches_tracked",
    "input": "t",
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
        dtype="at_least_float32",
        when=("track",),
        optional=True,
    ),
)


class BatchNorm1d(_batch_norm.BatchNorm, HasParams, HasWeight, TensorModule):
    """Applies Batch Normalization over a 2D or 3D input.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    As described in the paper Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the number of features or channels of the input). By
    default, the elements of γ are set to 1 and the elements of β are set to 0. The standard-deviation is
    calculated via the biased estimator, equivalent to ``torch.var(input, unbiased=False)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    momentum of 0.1.

    If trackRunningStats is set to false, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: HasParams, HasWeight, TensorModule.

    Parameters
    ----------
    numFeatures : int
        Number of features or channels C of the input. Also spelled ``num_features``. Must be an integer,
        zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool, default True
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes. Also spelled ``track_running_stats``.
    dtype : dtype | None, default None
        The type parameter ParamType, which Scala gives in brackets: ``BatchNorm1d[torch.float64](3)`` is
        ``BatchNorm1d(3, dtype=torch.float64)``. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C) or (N, C, L). Output: the same shape.
    N is the batch size, C is the number of features or channels, and L is the sequence length.

    Attributes
    ----------
    numFeatures : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Tensor | None
        The learnable vector γ of size C, ones at first. Shape (numFeatures), the parameters' element
        type, initially ones. None when affine=False.
    bias : Tensor | None
        The learnable vector β of size C, zeros at first. Shape (numFeatures), the parameters' element
        type, initially zeros. None when affine=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first; the documents write runningMean. Shape
        (numFeatures), the parameters' element type but float32 at least, initially zeros. None when
        trackRunningStats=False.
    running_var : Tensor | None
        The running (unbiased) variance of each channel, ones at first; the documents write runningVar.
        Shape (numFeatures), the parameters' element type but float32 at least, initially ones. None when
        trackRunningStats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), the parameters' element type but float32 at least,
        initially zero. None when trackRunningStats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none. The element type of the parameters is not floating-point. The input is neither a tensor nor
        a NumPy array.
    RuntimeError
        The number of features is negative. Running statistics, weight or bias have another length than
        the input has features. Running statistics, weight or bias are not floating-point. Running
        statistics, or their counter, that are to be updated cannot be written. A running statistic is
        missing in evaluation. One of the running statistics is missing in training, and not the other.
        The input cannot be shared, as what is sparse or of another kind of device, or wants gradients of
        its own library. The input does not have one of the accepted numbers of dimensions. The feature
        axis of the input has another length than the module has features. The input is not
        floating-point. The element type of the input does not go with that of the parameters. Statistics
        of the batch are needed and there is one value per feature. The input lives on another device than
        the module.

    Notes
    -----
    * This momentum argument is different from one used in optimizer classes and the conventional notion
      of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 - momentum)
      × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, L) slices,
      it's common terminology to call this Temporal Batch Normalization.
    * num_batches_tracked. In storch: The counter has the element type of the parameters, in bfloat16 too,
      where it sticks at 256. Here: It has that type, but never less than float32.
    * running_mean, running_var. In storch: Running statistics have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * momentum. In storch: The document says that it can be None; the type is Double, so it cannot. Here:
      None gives the cumulative average that the document promises.
    * affine=false. In storch: weight and bias are undefined tensors, on which most operations throw.
      Here: They are None, as the document says of the other missing tensors.
    * assignment. In storch: weight and bias are values, which cannot be assigned to. Here: A tensor of
      the same shape can take their place, and becomes a parameter that shares its memory; so can None.
    * hasBias. In storch: Is true whatever affine is. Here: Is whether there is a bias.
    * modules, namedModules, apply(fn). In storch: modules leaves out the module itself and ignores
      recurse, namedModules is always empty, apply(fn) never calls fn. Here: They do what their names say;
      modules leaves out the module itself.
    * empty batch. In storch: Counts as a batch. Here: Updates nothing.
    * failing step. In storch: A step that raises has counted its batch already. Here: A call that raises
      has changed nothing.
    * complex parameters. In storch: ParamType may be complex; then every call throws. Here: There are no
      complex element types.
    * wording. In storch: "runningVean", "Default: True" beside "true", a stray "Args:", Shape within the
      last parameter. Here: Corrected.
    * Tensor[ParamType] => Tensor[ParamType] is left out: Scala's type of functions; in Python every
      callable is one, and TensorModule has its andThen and compose.
    * Object is left out: A class of the JVM.
    * Matchable is left out: A trait of the Scala compiler.
    * Any is left out: The root of Scala's types; ``object`` is Python's.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * storch API, torch.nn.modules.batchnorm.BatchNorm1d (source: BatchNorm1d.scala; the page files it
      under nn_conv)

    Examples
    --------
    >>> from normspec import storch as torch
    >>> from normspec.storch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm1d(numFeatures=100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm1d(100, affine=False)
    >>> input = torch.randn((20, 100))
    >>> output = m(input)
    """

    _accepts = ("N C", "N C L")
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    numFeatures: int
    eps: float
    momentum: float | None
    affine: bool
    trackRunningStats: bool
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    @overload
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @runtime.twins(numFeatures="num_features", trackRunningStats="track_running_stats")
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            features=numFeatures,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=trackRunningStats,
            unbiased=True,
            learns=True,
            device=None,
            dtype=dtype,
        )

    def __call__(self, t: ArrayT) -> ArrayT:
        """Normalizes a tensor; ``m(t)`` is the same.

        Parameters
        ----------
        t : array of shape (N, C) or (N, C, L)
            N is the batch size, C is the number of features or channels, and L is the sequence length.

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(t)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return f"numFeatures={self.numFeatures}"

    @property
    def num_features(self) -> int:
        """The same as ``numFeatures``."""
        return self.numFeatures

    @num_features.setter
    def num_features(self, value: int) -> None:
        self.numFeatures = value

    @property
    def track_running_stats(self) -> bool:
        """The same as ``trackRunningStats``."""
        return self.trackRunningStats

    @track_running_stats.setter
    def track_running_stats(self, value: bool) -> None:
        self.trackRunningStats = value

    @property
    def runningMean(self) -> Tensor | None:
        """The same as ``running_mean``."""
        return self.running_mean

    @runningMean.setter
    def runningMean(self, value: Tensor | None) -> None:
        self.running_mean = value

    @property
    def runningVar(self) -> Tensor | None:
        """The same as ``running_var``."""
        return self.running_var

    @runningVar.setter
    def runningVar(self, value: Tensor | None) -> None:
        self.running_var = value

    @property
    def numBatchesTracked(self) -> Tensor | None:
        """The same as ``num_batches_tracked``."""
        return self.num_batches_tracked

    @numBatchesTracked.setter
    def numBatchesTracked(self, value: Tensor | None) -> None:
        self.num_batches_tracked = value


class BatchNorm2d(_batch_norm.BatchNorm, HasParams, HasWeight, TensorModule):
    """Applies Batch Normalization over a 4D input.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    As described in the paper Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the number of features or channels of the input). By
    default, the elements of γ are set to 1 and the elements of β are set to 0. The standard-deviation is
    calculated via the biased estimator, equivalent to ``torch.var(input, unbiased=False)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    momentum of 0.1.

    If trackRunningStats is set to false, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: HasParams, HasWeight, TensorModule.

    Parameters
    ----------
    numFeatures : int
        Number of features or channels C of the input. Also spelled ``num_features``. Must be an integer,
        zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool, default True
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes. Also spelled ``track_running_stats``.
    dtype : dtype | None, default None
        The type parameter ParamType, which Scala gives in brackets: ``BatchNorm1d[torch.float64](3)`` is
        ``BatchNorm1d(3, dtype=torch.float64)``. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C, H, W). Output: the same shape.
    N is the batch size, C is the number of features or channels, H is the height and W is the width.

    Attributes
    ----------
    numFeatures : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Tensor | None
        The learnable vector γ of size C, ones at first. Shape (numFeatures), the parameters' element
        type, initially ones. None when affine=False.
    bias : Tensor | None
        The learnable vector β of size C, zeros at first. Shape (numFeatures), the parameters' element
        type, initially zeros. None when affine=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first; the documents write runningMean. Shape
        (numFeatures), the parameters' element type but float32 at least, initially zeros. None when
        trackRunningStats=False.
    running_var : Tensor | None
        The running (unbiased) variance of each channel, ones at first; the documents write runningVar.
        Shape (numFeatures), the parameters' element type but float32 at least, initially ones. None when
        trackRunningStats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), the parameters' element type but float32 at least,
        initially zero. None when trackRunningStats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none. The element type of the parameters is not floating-point. The input is neither a tensor nor
        a NumPy array.
    RuntimeError
        The number of features is negative. Running statistics, weight or bias have another length than
        the input has features. Running statistics, weight or bias are not floating-point. Running
        statistics, or their counter, that are to be updated cannot be written. A running statistic is
        missing in evaluation. One of the running statistics is missing in training, and not the other.
        The input cannot be shared, as what is sparse or of another kind of device, or wants gradients of
        its own library. The input does not have one of the accepted numbers of dimensions. The feature
        axis of the input has another length than the module has features. The input is not
        floating-point. The element type of the input does not go with that of the parameters. Statistics
        of the batch are needed and there is one value per feature. The input lives on another device than
        the module.

    Notes
    -----
    * This momentum argument is different from one used in optimizer classes and the conventional notion
      of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 - momentum)
      × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, H, W)
      slices, it's common terminology to call this Spatial Batch Normalization.
    * num_batches_tracked. In storch: The counter has the element type of the parameters, in bfloat16 too,
      where it sticks at 256. Here: It has that type, but never less than float32.
    * running_mean, running_var. In storch: Running statistics have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * momentum. In storch: The document says that it can be None; the type is Double, so it cannot. Here:
      None gives the cumulative average that the document promises.
    * affine=false. In storch: weight and bias are undefined tensors, on which most operations throw.
      Here: They are None, as the document says of the other missing tensors.
    * assignment. In storch: weight and bias are values, which cannot be assigned to. Here: A tensor of
      the same shape can take their place, and becomes a parameter that shares its memory; so can None.
    * hasBias. In storch: Is true whatever affine is. Here: Is whether there is a bias.
    * modules, namedModules, apply(fn). In storch: modules leaves out the module itself and ignores
      recurse, namedModules is always empty, apply(fn) never calls fn. Here: They do what their names say;
      modules leaves out the module itself.
    * empty batch. In storch: Counts as a batch. Here: Updates nothing.
    * failing step. In storch: A step that raises has counted its batch already. Here: A call that raises
      has changed nothing.
    * complex parameters. In storch: ParamType may be complex; then every call throws. Here: There are no
      complex element types.
    * wording. In storch: "runningVean", "Default: True" beside "true", a stray "Args:", Shape within the
      last parameter. Here: Corrected.
    * Tensor[ParamType] => Tensor[ParamType] is left out: Scala's type of functions; in Python every
      callable is one, and TensorModule has its andThen and compose.
    * Object is left out: A class of the JVM.
    * Matchable is left out: A trait of the Scala compiler.
    * Any is left out: The root of Scala's types; ``object`` is Python's.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * storch API, torch.nn.modules.batchnorm.BatchNorm2d (source: BatchNorm2d.scala; the page files it
      under nn_conv)

    Examples
    --------
    >>> from normspec import storch as torch
    >>> from normspec.storch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm2d(numFeatures=100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm2d(100, affine=False)
    >>> input = torch.randn((20, 100, 35, 45))
    >>> output = m(input)
    """

    _accepts = ("N C H W",)
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    numFeatures: int
    eps: float
    momentum: float | None
    affine: bool
    trackRunningStats: bool
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    @overload
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @runtime.twins(numFeatures="num_features", trackRunningStats="track_running_stats")
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            features=numFeatures,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=trackRunningStats,
            unbiased=True,
            learns=True,
            device=None,
            dtype=dtype,
        )

    def __call__(self, t: ArrayT) -> ArrayT:
        """Normalizes a tensor; ``m(t)`` is the same.

        Parameters
        ----------
        t : array of shape (N, C, H, W)
            N is the batch size, C is the number of features or channels, H is the height and W is the width.

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(t)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return f"numFeatures={self.numFeatures}"

    @property
    def num_features(self) -> int:
        """The same as ``numFeatures``."""
        return self.numFeatures

    @num_features.setter
    def num_features(self, value: int) -> None:
        self.numFeatures = value

    @property
    def track_running_stats(self) -> bool:
        """The same as ``trackRunningStats``."""
        return self.trackRunningStats

    @track_running_stats.setter
    def track_running_stats(self, value: bool) -> None:
        self.trackRunningStats = value

    @property
    def runningMean(self) -> Tensor | None:
        """The same as ``running_mean``."""
        return self.running_mean

    @runningMean.setter
    def runningMean(self, value: Tensor | None) -> None:
        self.running_mean = value

    @property
    def runningVar(self) -> Tensor | None:
        """The same as ``running_var``."""
        return self.running_var

    @runningVar.setter
    def runningVar(self, value: Tensor | None) -> None:
        self.running_var = value

    @property
    def numBatchesTracked(self) -> Tensor | None:
        """The same as ``num_batches_tracked``."""
        return self.num_batches_tracked

    @numBatchesTracked.setter
    def numBatchesTracked(self, value: Tensor | None) -> None:
        self.num_batches_tracked = value


class BatchNorm3d(_batch_norm.BatchNorm, HasParams, HasWeight, TensorModule):
    """Applies Batch Normalization over a 5D input.

    An extension: The document has BatchNorm1d and BatchNorm2d only; this is their continuation, as in
    torch.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    As described in the paper Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift.

    The mean and standard-deviation are calculated per-dimension over the mini-batches and γ and β are
    learnable parameter vectors of size C (where C is the number of features or channels of the input). By
    default, the elements of γ are set to 1 and the elements of β are set to 0. The standard-deviation is
    calculated via the biased estimator, equivalent to ``torch.var(input, unbiased=False)``.

    Also by default, during training this layer keeps running estimates of its computed mean and variance,
    which are then used for normalization during evaluation. The running estimates are kept with a default
    momentum of 0.1.

    If trackRunningStats is set to false, this layer then does not keep running estimates, and batch
    statistics are instead used during evaluation time as well.

    Supertypes: HasParams, HasWeight, TensorModule.

    Parameters
    ----------
    numFeatures : int
        Number of features or channels C of the input. Also spelled ``num_features``. Must be an integer,
        zero or more.
    eps : float, default 1e-05
        A value added to the denominator for numerical stability. Must be a real number.
    momentum : float | None, default 0.1
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average). Must be a real number or None.
    affine : bool, default True
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool, default True
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes. Also spelled ``track_running_stats``.
    dtype : dtype | None, default None
        The type parameter ParamType, which Scala gives in brackets: ``BatchNorm1d[torch.float64](3)`` is
        ``BatchNorm1d(3, dtype=torch.float64)``. Must be an element type, floating-point.

    Shape
    -----
    Input: (N, C, D, H, W). Output: the same shape.
    N is the batch size, C is the number of features or channels, D is the depth, H is the height and W is
    the width.

    Attributes
    ----------
    numFeatures : int
        Number of features or channels C of the input.
    eps : float
        A value added to the denominator for numerical stability.
    momentum : float | None
        The value used for the runningMean and runningVar computation. Can be set to None for cumulative
        moving average (i.e. simple average).
    affine : bool
        A boolean value that when set to true, this module has learnable affine parameters.
    trackRunningStats : bool
        A boolean value that when set to true, this module tracks the running mean and variance, and when
        set to false, this module does not track such statistics, and initializes statistics buffers
        runningMean and runningVar as None. When these buffers are None, this module always uses batch
        statistics, in both training and eval modes.
    weight : Tensor | None
        The learnable vector γ of size C, ones at first. Shape (numFeatures), the parameters' element
        type, initially ones. None when affine=False.
    bias : Tensor | None
        The learnable vector β of size C, zeros at first. Shape (numFeatures), the parameters' element
        type, initially zeros. None when affine=False.
    running_mean : Tensor | None
        The running mean of each channel, zeros at first; the documents write runningMean. Shape
        (numFeatures), the parameters' element type but float32 at least, initially zeros. None when
        trackRunningStats=False.
    running_var : Tensor | None
        The running (unbiased) variance of each channel, ones at first; the documents write runningVar.
        Shape (numFeatures), the parameters' element type but float32 at least, initially ones. None when
        trackRunningStats=False.
    num_batches_tracked : Tensor | None
        Number of batches seen in training. Shape (), the parameters' element type but float32 at least,
        initially zero. None when trackRunningStats=False.

    State
    -----
    The state dict has, in this order: ``weight`` (parameter), ``bias`` (parameter), ``running_mean``
    (buffer), ``running_var`` (buffer), ``num_batches_tracked`` (buffer).

    Raises
    ------
    TypeError
        The number of features is not an integer. The epsilon is not a real number. The weight of a batch
        in the running statistics is neither a real number nor None. What is given as an element type is
        none. The element type of the parameters is not floating-point. The input is neither a tensor nor
        a NumPy array.
    RuntimeError
        The number of features is negative. Running statistics, weight or bias have another length than
        the input has features. Running statistics, weight or bias are not floating-point. Running
        statistics, or their counter, that are to be updated cannot be written. A running statistic is
        missing in evaluation. One of the running statistics is missing in training, and not the other.
        The input cannot be shared, as what is sparse or of another kind of device, or wants gradients of
        its own library. The input does not have one of the accepted numbers of dimensions. The feature
        axis of the input has another length than the module has features. The input is not
        floating-point. The element type of the input does not go with that of the parameters. Statistics
        of the batch are needed and there is one value per feature. The input lives on another device than
        the module.

    Notes
    -----
    * This momentum argument is different from one used in optimizer classes and the conventional notion
      of momentum. Mathematically, the update rule for running statistics here is x̂_new = (1 - momentum)
      × x̂ + momentum × x_t, where x̂ is the estimated statistic and x_t is the new observed value.
    * Because the Batch Normalization is done over the C dimension, computing statistics on (N, D, H, W)
      slices, it's common terminology to call this Volumetric Batch Normalization or Spatio-temporal Batch
      Normalization.
    * num_batches_tracked. In storch: The counter has the element type of the parameters, in bfloat16 too,
      where it sticks at 256. Here: It has that type, but never less than float32.
    * running_mean, running_var. In storch: Running statistics have the element type of the parameters,
      float16 and bfloat16 too. Here: They are float32 at least: 16-bit sums of small updates stand still.
    * momentum. In storch: The document says that it can be None; the type is Double, so it cannot. Here:
      None gives the cumulative average that the document promises.
    * affine=false. In storch: weight and bias are undefined tensors, on which most operations throw.
      Here: They are None, as the document says of the other missing tensors.
    * assignment. In storch: weight and bias are values, which cannot be assigned to. Here: A tensor of
      the same shape can take their place, and becomes a parameter that shares its memory; so can None.
    * hasBias. In storch: Is true whatever affine is. Here: Is whether there is a bias.
    * modules, namedModules, apply(fn). In storch: modules leaves out the module itself and ignores
      recurse, namedModules is always empty, apply(fn) never calls fn. Here: They do what their names say;
      modules leaves out the module itself.
    * empty batch. In storch: Counts as a batch. Here: Updates nothing.
    * failing step. In storch: A step that raises has counted its batch already. Here: A call that raises
      has changed nothing.
    * complex parameters. In storch: ParamType may be complex; then every call throws. Here: There are no
      complex element types.
    * wording. In storch: "runningVean", "Default: True" beside "true", a stray "Args:", Shape within the
      last parameter. Here: Corrected.
    * Tensor[ParamType] => Tensor[ParamType] is left out: Scala's type of functions; in Python every
      callable is one, and TensorModule has its andThen and compose.
    * Object is left out: A class of the JVM.
    * Matchable is left out: A trait of the Scala compiler.
    * Any is left out: The root of Scala's types; ``object`` is Python's.

    References
    ----------
    * Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift, 2015, https://arxiv.org/abs/1502.03167
    * After BatchNorm2d; storch itself has no BatchNorm3d.

    Examples
    --------
    >>> from normspec import storch as torch
    >>> from normspec.storch import nn
    >>> # With Learnable Parameters
    >>> m = nn.BatchNorm3d(numFeatures=100)
    >>> # Without Learnable Parameters
    >>> m = nn.BatchNorm3d(100, affine=False)
    >>> input = torch.randn((2, 100, 7, 9, 5))
    >>> output = m(input)
    """

    _accepts = ("N C D H W",)
    _names = _BATCH_NORM_NAMES
    _state = _BATCH_NORM_STATE

    numFeatures: int
    eps: float
    momentum: float | None
    affine: bool
    trackRunningStats: bool
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    @overload
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None: ...

    @runtime.twins(numFeatures="num_features", trackRunningStats="track_running_stats")
    def __init__(
        self,
        numFeatures: int,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        trackRunningStats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            features=numFeatures,
            axis=1,
            epsilon=eps,
            update_rate=momentum,
            affine=affine,
            shifted=True,
            track=trackRunningStats,
            unbiased=True,
            learns=True,
            device=None,
            dtype=dtype,
        )

    def __call__(self, t: ArrayT) -> ArrayT:
        """Normalizes a tensor; ``m(t)`` is the same.

        Parameters
        ----------
        t : array of shape (N, C, D, H, W)
            N is the batch size, C is the number of features or channels, D is the depth, H is the height and
            W is the width.

        Returns
        -------
        array
            A tensor of the same shape and dtype.
        """
        return self.compute(t)

    def extra_repr(self) -> str:
        """The arguments, as they print between the brackets."""
        return f"numFeatures={self.numFeatures}"

    @property
    def num_features(self) -> int:
        """The same as ``numFeatures``."""
        return self.numFeatures

    @num_features.setter
    def num_features(self, value: int) -> None:
        self.numFeatures = value

    @property
    def track_running_stats(self) -> bool:
        """The same as ``trackRunningStats``."""
        return self.trackRunningStats

    @track_running_stats.setter
    def track_running_stats(self, value: bool) -> None:
        self.trackRunningStats = value

    @property
    def runningMean(self) -> Tensor | None:
        """The same as ``running_mean``."""
        return self.running_mean

    @runningMean.setter
    def runningMean(self, value: Tensor | None) -> None:
        self.running_mean = value

    @property
    def runningVar(self) -> Tensor | None:
        """The same as ``running_var``."""
        return self.running_var

    @runningVar.setter
    def runningVar(self, value: Tensor | None) -> None:
        self.running_var = value

    @property
    def numBatchesTracked(self) -> Tensor | None:
        """The same as ``num_batches_tracked``."""
        return self.num_batches_tracked

    @numBatchesTracked.setter
    def numBatchesTracked(self, value: Tensor | None) -> None:
        self.num_batches_tracked = value
