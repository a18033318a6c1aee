import pandas as pd
import pytest
from hypothesis import given, strategies as st

from local.generate_orders import PRODUCTS, generate_week
from pipeline.manifest import ColumnDrift, DriftReport
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from pipeline.training.drift import compare_weeks, summarise_week


def typed(orders: pd.DataFrame) -> pd.DataFrame:
    return orders.astype({HOURS: "float64", ORDERS: "float64", PRODUCT: "category"})


def compare(before: pd.DataFrame, now: pd.DataFrame) -> DriftReport:
    return compare_weeks(summarise_week(typed(before), "datasets/before.csv", 1), typed(now), 1)


def orders_of(hours: list[float]) -> pd.DataFrame:
    return pd.DataFrame({HOURS: hours, ORDERS: 1.0, PRODUCT: "SKU001"})


@given(st.integers(0, 10_000), st.sampled_from([100, 1_000, 20_000]))
def test_weeks_of_one_distribution_do_not_drift(seed: int, rows: int) -> None:
    found = compare(generate_week(seed=2 * seed, rows=rows), generate_week(seed=2 * seed + 1, rows=rows))
    assert {drift.verdict for drift in found.drift.values()} == {"stable"}


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "stable"), (0.15, "moderate"), (1.0, "major")])
def test_the_verdict_grows_with_the_shift(shift: float, verdict: str) -> None:
    week = generate_week(seed=1, rows=5_000)
    assert compare(week, week.assign(**{HOURS: week[HOURS] * (1 + shift)})).drift[HOURS].verdict == verdict


def test_the_index_follows_its_definition() -> None:
    before, now = orders_of([1.0] * 500 + [2.0] * 500), orders_of([1.0] * 250 + [2.0] * 750)
    # (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5), but for the half a row that is added to each bin
    assert compare(before, now).drift[HOURS].psi == pytest.approx(0.2747, abs=1e-3)


def test_an_index_explained_by_chance_in_a_small_week_is_stable() -> None:
    """The 99.9 % quantile of chi-squared with one degree of freedom is 10.828."""
    small = compare(orders_of([1.0] * 5 + [2.0] * 5), orders_of([1.0] * 2 + [2.0] * 8)).drift[HOURS]
    assert small.psi > 0.25
    assert small.by_chance == pytest.approx(10.828 * (1 / 10 + 1 / 10), rel=1e-3)
    assert small.verdict == "stable"


def test_a_column_that_was_constant_drifts_when_it_falls_and_when_it_rises() -> None:
    for other in (1.0, 3.0):
        assert compare(orders_of([2.0] * 200), orders_of([other] * 200)).drift[HOURS].verdict == "major"


@pytest.mark.parametrize("shared", [24.0, 0.0, 48.0])
def test_a_value_that_half_the_orders_share_drifts_when_they_fall_and_when_they_rise(shared: float) -> None:
    """Whether the others are below it, above it, or on both sides."""
    others = [1.0 + number * 46 / 500 for number in range(500)]
    week = orders_of([shared] * 500 + others)
    for other in (shared - 0.5, shared + 0.5):
        assert compare(week, orders_of([other] * 500 + others)).drift[HOURS].verdict == "major"
    assert compare(week, week).drift[HOURS].psi == 0


def test_a_column_that_is_constant_is_stable() -> None:
    found = compare(orders_of([2.0] * 200), orders_of([2.0] * 200)).drift[HOURS]
    assert found == ColumnDrift(psi=0.0, by_chance=found.by_chance, verdict="stable")


def test_new_and_vanished_products_are_named_and_move_the_products_index() -> None:
    found = compare(generate_week(seed=1, products=PRODUCTS[:4]), generate_week(seed=2, products=PRODUCTS[1:]))
    assert (found.new_products, found.vanished_products) == (["SKU005"], ["SKU001"])
    assert found.drift[PRODUCT].verdict == "major"
    assert found.drift[ORDERS].verdict == "stable"


def test_a_large_week_is_compared_by_a_sample_and_counted_whole() -> None:
    week = typed(generate_week(seed=1, rows=150_000))
    previous = summarise_week(week, "datasets/before.csv", 1)
    assert len(previous.orders) == 100_000
    assert previous.rows == len(week) == sum(previous.rows_by_product.values())
