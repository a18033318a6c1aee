"""The hold-out, and how well a model does on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from pipeline.estimator import MIN_PRODUCT_ROWS, Floats, TimeToDispatchRegressor
from pipeline.manifest import Metrics, ProductProfile
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT

Strata = NDArray[np.intp]

HOLD_OUT = 0.2  # of the rows
MAX_CURVE_POINTS = 50_000  # of a curve: 60 products of a million orders would take minutes


@dataclass(frozen=True)
class Curve:
    """A model's hours to dispatch of one product, at rising numbers of orders placed."""

    product_code: str
    orders: Floats
    hours: Floats
    highest_observed_hours: float


def too_rare(orders: pd.DataFrame) -> list[str]:
    """The products with too few rows to learn from: they are pooled, and judge no model."""
    counts = orders[PRODUCT].value_counts()
    return sorted(str(code) for code in counts.index[(counts > 0) & (counts < MIN_PRODUCT_ROWS)])


def without(orders: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """The orders of all other products."""
    return orders[~orders[PRODUCT].isin(codes)] if codes else orders


def strata(orders: pd.DataFrame) -> Strata:
    """Labels of shape (n_rows,) to stratify by: the product, or one label for all products with too few rows.

    Where those have too few rows even together, they count as the largest product's.
    """
    codes = orders[PRODUCT].cat.codes.to_numpy().astype(np.intp)
    counts = np.bincount(codes)
    small = counts < MIN_PRODUCT_ROWS
    together = len(counts) if counts[small].sum() >= MIN_PRODUCT_ROWS else int(counts.argmax())
    labels: Strata = np.where(small, together, np.arange(len(counts)))[codes]
    return labels


def split(orders: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to fit on and the rows to hold out, stratified by product.

    The rows of products that are too rare are all to fit on: their estimates are not their own, so they say nothing
    about how well the other products were learnt.
    """
    rare = too_rare(orders)
    learnt = without(orders, rare)
    if learnt.empty:
        return orders, learnt
    codes = learnt[PRODUCT].cat.codes
    fit_rows, hold_out = train_test_split(learnt, test_size=HOLD_OUT, random_state=seed, stratify=codes)
    return pd.concat([fit_rows, orders[orders[PRODUCT].isin(rare)]]) if rare else fit_rows, hold_out


def sample(orders: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """No more than `rows` rows, drawn at random."""
    return orders if len(orders) <= rows else orders.sample(rows, random_state=seed)


def measure(hours: Floats, predicted: Floats) -> Metrics:
    """Errors, in hours, of predictions of shape (n_rows,); both must be finite."""
    return Metrics(
        rmse=float(root_mean_squared_error(hours, predicted)),
        mae=float(mean_absolute_error(hours, predicted)),
        r2=float(r2_score(hours, predicted)),
    )


def product_means(fit_rows: pd.DataFrame, rows: pd.DataFrame) -> Floats:
    """The baseline: each product's mean hours in `fit_rows`, for `rows`; the mean of all for a product without any."""
    means = fit_rows.groupby(PRODUCT, observed=False)[HOURS].mean().fillna(fit_rows[HOURS].mean())
    hours: Floats = means.to_numpy()[rows[PRODUCT].cat.codes]
    return hours


def pooled_errors(model: TimeToDispatchRegressor, orders: pd.DataFrame) -> dict[str, float]:
    """By how many hours, in the mean, the pooled fit is off the orders of each product that gets it."""
    rows = orders[orders[PRODUCT].isin(model.pooled_codes_)]
    if rows.empty:
        return {}
    errors = pd.Series(np.abs(model.predict(rows) - rows[HOURS].to_numpy()))
    means = errors.groupby(rows[PRODUCT].astype(str).to_numpy()).mean()
    return {str(code): float(error) for code, error in means.items()}


def profile(orders: pd.DataFrame) -> dict[str, ProductProfile]:
    """What was seen of each product."""
    by_product = orders.groupby(PRODUCT, observed=True)
    ranges = by_product[[ORDERS, HOURS]].agg(["min", "max"])
    rows = by_product.size()
    return {
        str(code): ProductProfile(
            rows=int(rows[code]),
            orders_min=float(ranges.loc[code, (ORDERS, "min")]),
            orders_max=float(ranges.loc[code, (ORDERS, "max")]),
            hours_min=float(ranges.loc[code, (HOURS, "min")]),
            hours_max=float(ranges.loc[code, (HOURS, "max")]),
            pooled=int(rows[code]) < MIN_PRODUCT_ROWS,
        )
        for code in ranges.index
    }


def curves(model: TimeToDispatchRegressor, products: dict[str, ProductProfile]) -> list[Curve]:
    """The model's curve of each product, over every whole number of orders from 0 to the highest observed.

    Where those are more than MAX_CURVE_POINTS, over as many, evenly spaced, the first and the last among them.
    """
    highest_of_all = max(seen.hours_max for seen in products.values())
    found = []
    for place, code in enumerate(model.product_codes_):
        highest = products[code].orders_max // 1
        orders = np.unique(np.linspace(0, highest, int(min(highest + 1, MAX_CURVE_POINTS))).round())
        hours = model.predict_encoded(np.column_stack([np.full(orders.shape, place), orders]))
        limit = highest_of_all if code in model.pooled_codes_ else products[code].hours_max
        found.append(Curve(code, orders, hours, limit))
    return found
