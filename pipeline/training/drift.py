"""The drift of this week's orders since the week before: the population stability index of each column.

The index is the sum over bins of (q - p) ln(q / p), for the shares p of the earlier week and q of the later one.
Customary thresholds are 0.1 and 0.25 (N. Siddiqi, Credit Risk Scorecards, 2006). Two samples of n and m rows from the
same distribution differ too: their index is about chi-squared with bins - 1 degrees of freedom, times 1/n + 1/m
(B. Yurdakul and J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model
Validation 14(4), 2020). An index that chance reaches in one of a thousand weeks counts as stable, however large it is.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtri

from pipeline.manifest import MAJOR_DRIFT, MODERATE_DRIFT, ColumnDrift, DriftReport, DriftVerdict
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from pipeline.training.evaluation import sample

CHANCE = 1e-3
BINS = 10  # of a numeric column; the earlier week fills them equally
SAMPLE_ROWS = 100_000  # enough to distinguish an index of 0.001 from chance


@dataclass(frozen=True)
class ReferenceWeek:
    """The week before: its key, its number of rows, also by product, and a sample of at most SAMPLE_ROWS rows."""

    dataset: str
    rows: int
    rows_by_product: dict[str, int]
    orders: pd.DataFrame


def summarise_week(orders: pd.DataFrame, dataset: str, seed: int) -> ReferenceWeek:
    """Reduce a week to what the next week is compared with."""
    counts = orders[PRODUCT].value_counts()
    return ReferenceWeek(
        dataset,
        rows=len(orders),
        rows_by_product={str(code): int(count) for code, count in counts.items()},
        orders=sample(orders, SAMPLE_ROWS, seed),
    )


def compare_weeks(previous: ReferenceWeek, orders: pd.DataFrame, seed: int) -> DriftReport:
    """Compare each column and the products of two weeks."""
    before, now = previous.orders, sample(orders, SAMPLE_ROWS, seed)
    products_before, products_now = (set(week[PRODUCT].cat.categories) for week in (before, orders))
    codes = pd.api.types.union_categoricals([before[PRODUCT], now[PRODUCT]], sort_categories=True).codes
    return DriftReport(
        dataset=previous.dataset,
        rows=previous.rows,
        drift={
            HOURS: _numeric_drift(before[HOURS].to_numpy(), now[HOURS].to_numpy()),
            ORDERS: _numeric_drift(before[ORDERS].to_numpy(), now[ORDERS].to_numpy()),
            PRODUCT: _drift(codes[: len(before)], codes[len(before) :]),
        },
        new_products=sorted(products_now - products_before),
        vanished_products=sorted(products_before - products_now),
    )


def _numeric_drift(before: NDArray[np.float64], now: NDArray[np.float64]) -> ColumnDrift:
    """Bin by the earlier week's deciles; with ten distinct values or fewer, each value is a bin.

    A value that is two deciles at once, since many rows share it, gets a bin of its own.
    """
    values = np.unique(before)
    if len(values) <= BINS:
        both = np.unique(np.concatenate([before, now]), return_inverse=True)[1]
        return _drift(both[: len(before)], both[len(before) :])
    deciles = np.quantile(before, np.linspace(0, 1, BINS + 1))
    shared = deciles[1:][np.diff(deciles) == 0]
    edges = np.unique(np.concatenate([deciles[1:-1], np.nextafter(shared, -np.inf)]))
    return _drift(np.searchsorted(edges, before), np.searchsorted(edges, now))


def _drift(before: NDArray[np.intp], now: NDArray[np.intp]) -> ColumnDrift:
    """Return the index of two arrays of bin numbers; half a row in each bin keeps the index finite."""
    bins = 1 + max(before.max(), now.max())
    counts_before, counts_now = np.bincount(before, minlength=bins), np.bincount(now, minlength=bins)
    used = counts_before + counts_now > 0
    p, q = ((counts[used] + 0.5) / (counts.sum() + 0.5 * used.sum()) for counts in (counts_before, counts_now))
    psi = float(((q - p) * np.log(q / p)).sum())
    by_chance = float(chdtri(max(used.sum() - 1, 1), CHANCE) * (1 / len(before) + 1 / len(now)))
    return ColumnDrift(psi=psi, by_chance=by_chance, verdict=_verdict(psi, by_chance))


def _verdict(psi: float, by_chance: float) -> DriftVerdict:
    if psi < max(MODERATE_DRIFT, by_chance):
        return "stable"
    return "moderate" if psi < MAJOR_DRIFT else "major"
