"""The estimator in every stored model: product codes and orders placed in, hours to dispatch out.

Pickles hold these classes by their import path, so this module must stay importable as `pipeline.estimator`.
It needs numpy and scikit-learn only: `serve_model` runs without pandas.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

MIN_PRODUCT_ROWS = 10  # a product with fewer rows is pooled


class LinePerProduct(RegressorMixin, BaseEstimator):
    """A straight line of hours over orders placed for each product, which never falls.

    The slope is zero or above (non-negative least squares): more orders never make an order faster, and noise must not
    suggest it for a product whose hours do not depend on the orders.
    """

    def fit(self, X: Floats, y: Floats) -> Self:  # noqa: N803 - scikit-learn's names
        """Fit a line to each product; X is an array of shape (n_rows, 2): product index, orders placed."""
        products = X[:, 0].astype(np.intp)
        by_product = np.argsort(products, kind="stable")
        ends = np.bincount(products).cumsum()
        self.slopes_, self.intercepts_ = np.full((2, len(ends)), np.nan)
        for product, rows in enumerate(np.split(by_product, ends[:-1])):
            if rows.size:
                line = rising_line().fit(X[rows, 1:], y[rows])
                self.slopes_[product], self.intercepts_[product] = line.coef_[0], line.intercept_
        return self

    def predict(self, X: Floats) -> Floats:  # noqa: N803 - scikit-learn's names
        """Return hours to dispatch of shape (n_rows,); NaN for a product index that was not fitted."""
        products = X[:, 0].astype(np.intp)
        hours: Floats = self.intercepts_[products] + self.slopes_[products] * X[:, 1]
        return hours


class TimeToDispatchRegressor(RegressorMixin, BaseEstimator):
    """Hours to dispatch from the columns product_code and orders_placed.

    Parameters
    ----------
    regressor : estimator
        Fitted on arrays of shape (n_rows, 2): product index, orders placed.

    Attributes
    ----------
    product_codes_ : list of str
        The product codes in fit, sorted; a product's position is its index.
    pooled_codes_ : list of str
        The rare products: they share one line through the rows of all products.
    """

    def __init__(self, regressor: BaseEstimator) -> None:
        self.regressor = regressor

    def fit(self, X: "pd.DataFrame", y: Floats, pooled: Collection[str] | None = None) -> Self:  # noqa: N803
        """Fit the regressor to the frequent products, and one line through all rows for the pooled ones.

        `pooled` names the pooled products; by default, those with fewer than MIN_PRODUCT_ROWS rows. A fit to a part of
        a week passes the codes that are rare in the whole week: both fits then pool the same products.
        """
        codes = X["product_code"].astype("category").cat.remove_unused_categories()
        self.product_codes_: list[str] = codes.cat.categories.tolist()
        encoded = np.column_stack([codes.cat.codes, X["orders_placed"]]).astype(np.float64, copy=False)
        hours = np.asarray(y, dtype=np.float64)
        counts = np.bincount(codes.cat.codes, minlength=len(self.product_codes_))
        self.pooled_ = (
            counts < MIN_PRODUCT_ROWS if pooled is None else np.array([code in pooled for code in self.product_codes_])
        )
        self.pooled_codes_ = [code for code, pooled in zip(self.product_codes_, self.pooled_, strict=True) if pooled]
        if self.pooled_.any():
            self.pooled_line_ = rising_line().fit(encoded[:, 1:], hours)
            enough = ~self.pooled_[codes.cat.codes]
            encoded, hours = encoded[enough], hours[enough]
        if not self.pooled_.all():
            self.regressor_ = clone(self.regressor).fit(encoded, hours)
        return self

    def predict(self, X: "pd.DataFrame") -> Floats:  # noqa: N803 - scikit-learn's names
        """Return hours to dispatch, zero or above; a ValueError names product codes that were not in fit."""
        codes = X["product_code"].astype("category").cat.remove_unused_categories()
        index = {code: place for place, code in enumerate(self.product_codes_)}
        unknown = [code for code in codes.cat.categories if code not in index]
        if unknown:
            raise ValueError(f"unknown product codes: {unknown}")
        places = np.array([index[code] for code in codes.cat.categories], dtype=np.float64)
        return self.predict_encoded(np.column_stack([places[codes.cat.codes], X["orders_placed"]]))

    def predict_encoded(self, X: Floats) -> Floats:  # noqa: N803 - scikit-learn's names
        """Return hours to dispatch for an array of shape (n_rows, 2): product index, orders placed.

        An order cannot be dispatched before it is placed, so estimates below zero become zero.
        """
        pooled = self.pooled_[X[:, 0].astype(np.intp)]
        if not len(X):
            return np.empty(0)
        if not pooled.any():
            hours: Floats = self.regressor_.predict(X)
        else:
            hours = self.pooled_line_.predict(X[:, 1:])
            if not pooled.all():
                hours[~pooled] = self.regressor_.predict(X[~pooled])
        return np.maximum(hours, 0.0)


def rising_line() -> LinearRegression:
    """Return an unfitted least-squares line whose slope is zero or above."""
    return LinearRegression(positive=True)
