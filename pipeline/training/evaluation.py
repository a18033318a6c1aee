"""The hold-out, the errors of a model on it, and the model's curves."""

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

HOLD_OUT = 0.2  # of the rows
MAX_CURVE_POINTS = 50_000  # with one for each order, 60 products of a million orders would take minutes


@dataclass(frozen=True)
class Curve:
    """A model's hours to dispatch for one product, at rising numbers of orders placed."""

    product_code: str
    orders: Floats
    hours: Floats
    highest_observed_hours: float


def rare_products(orders: pd.DataFrame) -> list[str]:
    """Return the products with too few rows of their own: they are pooled, and no gate depends on them."""
    counts = orders[PRODUCT].value_counts()
    return sorted(str(code) for code in counts.index[(counts > 0) & (counts < MIN_PRODUCT_ROWS)])


def exclude_products(orders: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """Return the orders of all other products."""
    return orders[~orders[PRODUCT].isin(codes)] if codes else orders


def stratification_labels(orders: pd.DataFrame) -> NDArray[np.intp]:
    """Return labels of shape (n_rows,) to stratify by: the product, or one label for all rare products together.

    If the rare products together are still too few rows, they get the label of the largest product.
    """
    codes = orders[PRODUCT].cat.codes.to_numpy().astype(np.intp)
    counts = np.bincount(codes)
    small = counts < MIN_PRODUCT_ROWS
    together = len(counts) if counts[small].sum() >= MIN_PRODUCT_ROWS else int(counts.argmax())
    labels: NDArray[np.intp] = np.where(small, together, np.arange(len(counts)))[codes]
    return labels


def split(orders: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a week into the rows to fit on and the hold-out, stratified by product.

    All rows of rare products are fitted on: their estimates are pooled, so they do not show how good the model is.
    """
    rare = rare_products(orders)
    frequent = exclude_products(orders, rare)
    if frequent.empty:
        return orders, frequent
    codes = frequent[PRODUCT].cat.codes
    fit_rows, hold_out = train_test_split(frequent, test_size=HOLD_OUT, random_state=seed, stratify=codes)
    return pd.concat([fit_rows, orders[orders[PRODUCT].isin(rare)]]) if rare else fit_rows, hold_out


def sample(orders: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Return at most `rows` rows, drawn at random."""
    return orders if len(orders) <= rows else orders.sample(rows, random_state=seed)


def measure(hours: Floats, predicted: Floats) -> Metrics:
    """Return the errors, in hours, of predictions of shape (n_rows,); all values must be finite."""
    return Metrics(
        rmse=float(root_mean_squared_error(hours, predicted)),
        mae=float(mean_absolute_error(hours, predicted)),
        r2=float(r2_score(hours, predicted)),
    )


def product_means(fit_rows: pd.DataFrame, rows: pd.DataFrame) -> Floats:
    """Return the baseline for `rows`: mean hours of the product in `fit_rows`, or of all rows if it has none."""
    means = fit_rows.groupby(PRODUCT, observed=False)[HOURS].mean().fillna(fit_rows[HOURS].mean())
    hours: Floats = means.to_numpy()[rows[PRODUCT].cat.codes]
    return hours


def pooled_errors(model: TimeToDispatchRegressor, orders: pd.DataFrame) -> dict[str, float]:
    """Return the mean absolute error of the pooled fit, in hours, for each pooled product."""
    rows = orders[orders[PRODUCT].isin(model.pooled_codes_)]
    if rows.empty:
        return {}
    errors = pd.Series(np.abs(model.predict(rows) - rows[HOURS].to_numpy()))
    means = errors.groupby(rows[PRODUCT].astype(str).to_numpy()).mean()
    return {str(code): float(error) for code, error in means.items()}


def profile(orders: pd.DataFrame) -> dict[str, ProductProfile]:
    """Return the profile of each product in the week."""
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
    """Return the model's curve for each product, at every whole number of orders from 0 to the highest observed.

    A longer range than MAX_CURVE_POINTS gets that many evenly spaced points, with both ends included.
    """
    highest_of_all = max(product.hours_max for product in products.values())
    found = []
    for place, code in enumerate(model.product_codes_):
        highest = products[code].orders_max // 1
        orders = np.unique(np.linspace(0, highest, int(min(highest + 1, MAX_CURVE_POINTS))).round())
        hours = model.predict_encoded(np.column_stack([np.full(orders.shape, place), orders]))
        limit = highest_of_all if code in model.pooled_codes_ else products[code].hours_max
        found.append(Curve(code, orders, hours, limit))
    return found
