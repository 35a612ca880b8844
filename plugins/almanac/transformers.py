"""Transformers that scikit-learn lacks, for a pipeline's estimators. docs/transformers.md lists those that it has.

Each takes columns of numbers, keeps their type, and is exported to ONNX with the pipeline that it is part of.
"""

from __future__ import annotations

import functools
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

Array = npt.NDArray[Any]
NEAR = 1e-5  # a mean this far below a breakpoint reaches it: means that differ only by rounding get the same symbol


class Clip(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clips outliers of each column to quantiles of the training rows. A null stays null.

    Args:
        low, high: shares from 0 to 1, the lower first.

    Raises (in `fit`):
        ValueError: the shares are invalid.
    """

    def __init__(self, low: float = 0.01, high: float = 0.99) -> None:
        self.low = low
        self.high = high

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's names
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"Clip: expected shares from 0 to 1, low below high; got low={self.low!r}, high={self.high!r}.")
        rows = validate_data(self, X, ensure_all_finite="allow-nan", dtype="numeric")
        # A column of only nulls has no quantiles: it is not clipped.
        self.low_ = np.nan_to_num(np.nanquantile(rows, self.low, axis=0), nan=-np.inf).astype(rows.dtype)
        self.high_ = np.nan_to_num(np.nanquantile(rows, self.high, axis=0), nan=np.inf).astype(rows.dtype)
        return self

    def transform(self, X: Any) -> Array:
        check_is_fitted(self)
        rows = validate_data(self, X, ensure_all_finite="allow-nan", dtype="numeric", reset=False)
        return np.asarray(np.clip(rows, self.low_.astype(rows.dtype), self.high_.astype(rows.dtype)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class DropCorrelated(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Drops each column that repeats an earlier one: their absolute Pearson correlation on the training rows is above a bound.
    A column with the same value in all rows is dropped as well.

    Args:
        above: the bound, above 0 and at most 1. Rows with a null in either column are ignored for the two.

    Raises (in `fit`):
        ValueError: `above` is invalid.
    """

    def __init__(self, above: float = 0.95) -> None:
        self.above = above

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        if not 0 < self.above <= 1:
            raise ValueError(f"DropCorrelated.above: expected a number above 0 and at most 1, got {self.above!r}.")
        rows = validate_data(self, X, ensure_all_finite="allow-nan", dtype="numeric").astype(np.float64)
        kept: list[int] = []
        for place in range(rows.shape[1]):
            column = rows[:, place]
            if np.nanmin(column, initial=np.inf) < np.nanmax(column, initial=-np.inf) and not any(
                abs(_correlation(rows[:, other], column)) > self.above for other in kept
            ):
                kept.append(place)
        self.kept_ = np.array(kept, dtype=np.int64)
        return self

    def _get_support_mask(self) -> Array:
        check_is_fitted(self)
        return np.isin(np.arange(self.n_features_in_), self.kept_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _correlation(one: Array, other: Array) -> float:
    """Pearson's correlation over the rows in which both have a value; 0 where it is undefined."""
    both = ~(np.isnan(one) | np.isnan(other))
    one, other = one[both], other[both]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


class Sax(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A series of numbers as a word: the columns of a row, in their order, as symbols from 0.

    Symbolic Aggregate approXimation: a row is scaled to mean 0 and deviation 1, so that its level and scale do not count. Each
    segment, of about equally many columns, is replaced by its mean. A mean's symbol is the number of breakpoints that it reaches;
    they divide a normal distribution into equally likely parts. A row with the same value in all columns gives the middle symbol.
    Lin, Keogh, Lonardi, Chiu: A symbolic representation of time series, DMKD 2003.

    Args:
        segments: how many columns it returns; at most the number of its input columns.
        symbols: how many there are, two or more.

    Raises (in `fit`):
        ValueError: a number is too small, or a value is null.
    """

    def __init__(self, segments: int = 4, symbols: int = 4) -> None:
        self.segments = segments
        self.symbols = symbols

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        rows = validate_data(self, X, dtype=(np.float64, np.float32))
        if self.segments < 1 or self.symbols < 2:
            raise ValueError(
                "Sax: expected 1 or more segments and 2 or more symbols, "
                f"got segments={self.segments!r}, symbols={self.symbols!r}."
            )
        parts = np.array_split(np.arange(rows.shape[1]), min(self.segments, rows.shape[1]))
        self.means_ = np.stack([np.isin(np.arange(rows.shape[1]), part) / len(part) for part in parts], axis=1)
        self.breakpoints_ = norm.ppf(np.arange(1, self.symbols) / self.symbols)
        return self

    def transform(self, X: Any) -> Array:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        # In float32, with the same operations as the export: where a mean lies at a breakpoint, the last digit decides.
        count, given = np.float32(rows.shape[1]), rows.astype(np.float32)
        ones = np.ones((rows.shape[1], 1), dtype=np.float32)
        moved = given - given[:, :1]  # so rounding errors scale with the variation, not with the level
        level = moved - moved @ ones / count
        scale = np.sqrt((level * level) @ ones / count)
        means = level / np.where(scale > 0, scale, np.float32(1)) @ self.means_.astype(np.float32)
        reached = means[:, :, None] >= self.breakpoints_.astype(np.float32) - np.float32(NEAR)
        return np.asarray(reached.sum(axis=2).astype(rows.dtype))

    def get_feature_names_out(self, input_features: Any = None) -> Array:  # noqa: ARG002
        check_is_fitted(self)
        return np.array([f"sax{place}" for place in range(self.means_.shape[1])], dtype=object)


def register_converters() -> None:
    """Registers with skl2onnx how these are exported."""
    from onnx import TensorProto
    from skl2onnx import update_registered_converter
    from skl2onnx.algebra import onnx_ops as ops
    from skl2onnx.common.data_types import FloatTensorType

    def shape(operator: Any) -> None:
        if len(operator.inputs) > 1:  # the exporter tries again with the columns joined
            raise RuntimeError(f"{type(operator.raw_operator).__name__} expects its columns as one input")
        rows = operator.inputs[0].get_first_dimension()
        columns = len(operator.raw_operator.get_feature_names_out())
        operator.outputs[0].type = FloatTensorType([rows, columns])

    def clip(scope: Any, operator: Any, container: Any) -> None:
        fitted, given, version = operator.raw_operator, operator.inputs[0], container.target_opset
        low, high = fitted.low_.astype(np.float32), fitted.high_.astype(np.float32)
        moved = ops.OnnxMin(ops.OnnxMax(given, low, op_version=version), high, op_version=version)
        null = ops.OnnxIsNaN(given, op_version=version)
        kept = ops.OnnxWhere(null, given, moved, op_version=version, output_names=operator.outputs[:1])
        kept.add_to(scope, container)

    def drop(scope: Any, operator: Any, container: Any) -> None:
        fitted, version = operator.raw_operator, container.target_opset
        kept = ops.OnnxGather(operator.inputs[0], fitted.kept_, axis=1, op_version=version, output_names=operator.outputs[:1])
        kept.add_to(scope, container)

    def sax(scope: Any, operator: Any, container: Any) -> None:
        fitted, given, version = operator.raw_operator, operator.inputs[0], {"op_version": container.target_opset}
        ones, count = np.ones((fitted.n_features_in_, 1), dtype=np.float32), np.array([fitted.n_features_in_], dtype=np.float32)
        first = ops.OnnxGather(given, np.array([0], dtype=np.int64), axis=1, **version)
        moved = ops.OnnxSub(given, first, **version)
        level = ops.OnnxSub(moved, ops.OnnxDiv(ops.OnnxMatMul(moved, ones, **version), count, **version), **version)
        squares = ops.OnnxMatMul(ops.OnnxMul(level, level, **version), ones, **version)
        scale = ops.OnnxSqrt(ops.OnnxDiv(squares, count, **version), **version)
        swings = ops.OnnxLess(np.array([0], dtype=np.float32), scale, **version)
        divisor = ops.OnnxWhere(swings, scale, np.array([1], dtype=np.float32), **version)
        means = ops.OnnxMatMul(ops.OnnxDiv(level, divisor, **version), fitted.means_.astype(np.float32), **version)
        bounds = fitted.breakpoints_.astype(np.float32) - np.float32(NEAR)
        reached = [
            ops.OnnxNot(ops.OnnxLess(means, bounds[place : place + 1], **version), **version) for place in range(len(bounds))
        ]
        ones_or_zeros = [ops.OnnxCast(one, to=TensorProto.FLOAT, **version) for one in reached]
        symbols = functools.reduce(lambda one, other: ops.OnnxAdd(one, other, **version), ones_or_zeros)
        kept = ops.OnnxIdentity(symbols, **version, output_names=operator.outputs[:1])
        kept.add_to(scope, container)

    update_registered_converter(Sax, "AlmanacSax", shape, sax)
    update_registered_converter(Clip, "AlmanacClip", shape, clip)
    update_registered_converter(DropCorrelated, "AlmanacDropCorrelated", shape, drop)
