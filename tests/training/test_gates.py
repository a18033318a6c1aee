"""Each gate's verdict, at its thresholds and on both sides of them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from local.generate_orders import generate_week
from pipeline.estimator import LinePerProduct, TimeToDispatchRegressor
from pipeline.manifest import GateVerdict, Metrics
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from pipeline.training.evaluation import MAX_CURVE_POINTS, Curve, curves, profile
from pipeline.training.gates import accuracy_gate, baseline_gate, behaviour_gate, champion_gate, freshness_gate


def metrics(rmse: float = 1.0, r2: float = 0.95) -> Metrics:
    return Metrics(rmse=rmse, mae=0.8 * rmse, r2=r2)


def behaviour(products: int, points: int, lowest: float, fall: float, highest: float) -> dict[str, float]:
    """The figures of a behaviour gate."""
    return {
        "products": products,
        "points": points,
        "lowest_hours": lowest,
        "largest_fall_hours": fall,
        "fall_tolerance_hours": 1e-9,
        "highest_of_observed": highest,
        "highest_allowed_of_observed": 1.25,
    }


def curve(*hours: float, highest: float = 10.0) -> Curve:
    return Curve("SKU001", np.arange(len(hours), dtype=float), np.array(hours), highest)


@pytest.mark.parametrize(
    ("r2", "outcome"),
    [(0.95, "pass"), (0.9, "pass"), (0.899, "warn"), (0.8, "warn"), (0.799, "reject"), (-3, "reject")],
)
def test_accuracy_is_judged_at_its_two_thresholds(r2: float, outcome: str) -> None:
    verdict = accuracy_gate(metrics(r2=r2), reject_below=0.8, warn_below=0.9)
    assert verdict.outcome == outcome
    assert bool(verdict.reasons) == (outcome != "pass")


@pytest.mark.parametrize(("rmse", "outcome"), [(0.9, "pass"), (1.0, "reject"), (1.1, "reject")])
def test_a_model_that_is_not_better_than_the_mean_is_rejected(rmse: float, outcome: str) -> None:
    assert baseline_gate(metrics(rmse), metrics(1.0)).outcome == outcome


def test_an_error_of_zero_is_not_better_than_the_means_error_of_zero() -> None:
    assert baseline_gate(metrics(0.0), metrics(0.0)).outcome == "reject"


@pytest.mark.parametrize(("rmse", "outcome"), [(0.5, "pass"), (1.05, "pass"), (1.0501, "reject")])
def test_a_model_may_be_5_percent_worse_than_the_champion(rmse: float, outcome: str) -> None:
    assert champion_gate(metrics(rmse), metrics(1.0), None).outcome == outcome


def test_without_a_champion_to_compare_with_the_gate_is_open_and_says_why() -> None:
    verdict = champion_gate(None, None, "no model was ever promoted")
    assert verdict.outcome == "warn"
    assert verdict.reasons == ["not compared with a champion: no model was ever promoted"]


@pytest.mark.parametrize(
    ("misbehaving", "reason"),
    [
        (curve(1.0, np.nan, 3.0), "SKU001: the estimate is not a finite number at 1 orders"),
        (curve(1.0, np.inf), "SKU001: the estimate is not a finite number at 1 orders"),
        (curve(-0.5, 1.0), "SKU001: -0.500 h at 0 orders is negative"),
        (curve(1.0, 3.0, 2.0, 4.0), "SKU001: falls from 3.000 to 2.000 h at 2 orders"),
        (curve(1.0, 12.6), "SKU001: 12.600 h at 1 orders is above 12.500 h"),
    ],
)
def test_an_estimate_that_cannot_be_shown_to_a_customer_rejects(misbehaving: Curve, reason: str) -> None:
    verdict = behaviour_gate([curve(1.0, 2.0), misbehaving])
    assert verdict.outcome == "reject"
    assert verdict.reasons == [reason]


def test_all_misbehaviour_of_all_products_is_named() -> None:
    assert len(behaviour_gate([curve(-1.0, -2.0), curve(13.0, 12.9)]).reasons) == 4


@given(st.lists(st.floats(0, 12.5), min_size=1).map(sorted))
def test_a_curve_that_rises_within_its_limits_behaves(hours: list[float]) -> None:
    assert behaviour_gate([curve(*hours)]).outcome == "pass"


@pytest.mark.parametrize(("fall", "outcome"), [(1e-9, "pass"), (2e-9, "reject")])
def test_a_fall_within_rounding_errors_is_accepted(fall: float, outcome: str) -> None:
    assert behaviour_gate([curve(fall, 0.0)]).outcome == outcome


@pytest.mark.parametrize(
    ("age", "outcome"), [(0.4, "pass"), (8.0, "pass"), (8.1, "warn"), (30.0, "warn"), (30.1, "reject")]
)
def test_an_old_dataset_warns_and_then_rejects(age: float, outcome: str) -> None:
    assert freshness_gate(age, max_age_days=30).outcome == outcome


@pytest.mark.parametrize(
    ("judge", "gate", "outcome", "reasons", "figures"),
    [
        (
            lambda: accuracy_gate(metrics(r2=0.7), reject_below=0.8, warn_below=0.9),
            *("accuracy", "reject", ["hold-out R2 0.700 is below 0.8"]),
            {"r2": 0.7, "reject_below": 0.8, "warn_below": 0.9},
        ),
        (
            lambda: accuracy_gate(metrics(r2=0.85), reject_below=0.8, warn_below=0.9),
            *("accuracy", "warn", ["hold-out R2 0.850 is below 0.9"]),
            {"r2": 0.85, "reject_below": 0.8, "warn_below": 0.9},
        ),
        (
            lambda: accuracy_gate(metrics(r2=0.95), reject_below=0.8, warn_below=0.9),
            *("accuracy", "pass", []),
            {"r2": 0.95, "reject_below": 0.8, "warn_below": 0.9},
        ),
        (
            lambda: baseline_gate(metrics(2.0), metrics(1.5)),
            *("baseline", "reject", ["hold-out RMSE 2.000 h is not below the per-product mean's 1.500 h"]),
            {"rmse": 2.0, "baseline_rmse": 1.5},
        ),
        (
            lambda: baseline_gate(metrics(1.0), metrics(1.5)),
            *("baseline", "pass", []),
            {"rmse": 1.0, "baseline_rmse": 1.5},
        ),
        (
            lambda: champion_gate(metrics(2.0), metrics(1.5), None),
            *("champion", "reject", ["hold-out RMSE 2.000 h is over 1.05 x the champion's 1.500 h"]),
            {"rmse": 2.0, "champion_rmse": 1.5, "tolerance": 1.05},
        ),
        (
            lambda: champion_gate(metrics(1.5), metrics(1.5), None),
            *("champion", "pass", []),
            {"rmse": 1.5, "champion_rmse": 1.5, "tolerance": 1.05},
        ),
        (
            lambda: champion_gate(metrics(1.5), None, "why not"),
            *("champion", "warn", ["not compared with a champion: why not"], {}),
        ),
        (
            lambda: behaviour_gate([curve(1.0), curve(2.0, 1.5, 4.0, 3.0)]),
            *("behaviour", "reject", ["SKU001: falls from 4.000 to 3.000 h at 3 orders"]),
            behaviour(2, 5, 1.0, 1.0, 0.4),
        ),
        (
            lambda: behaviour_gate([curve(2.0, 3.0, highest=4.0), curve(1.0)], "behaviour_of_refit"),
            *("behaviour_of_refit", "pass", [], behaviour(2, 3, 1.0, 0.0, 0.75)),
        ),
        (
            lambda: behaviour_gate([curve(float("nan")), curve(1.0, highest=0.0)]),
            *("behaviour", "reject"),
            ["SKU001: the estimate is not a finite number at 0 orders", "SKU001: 1.000 h at 0 orders is above 0.000 h"],
            behaviour(2, 2, 1.0, 0.0, 1.0),
        ),
        (lambda: behaviour_gate([]), "behaviour", "pass", [], behaviour(0, 0, 0.0, 0.0, 0.0)),
        (
            lambda: freshness_gate(31.25, 30.5),
            *("freshness", "reject", ["the newest dataset is 31.2 days old, more than 30.5"]),
            {"age_days": 31.25, "max_age_days": 30.5, "stale_days": 8.0},
        ),
        (
            lambda: freshness_gate(9.0, 30.5),
            *("freshness", "warn", ["the newest dataset is 9.0 days old, more than 8: Friday's dataset is missing"]),
            {"age_days": 9.0, "max_age_days": 30.5, "stale_days": 8.0},
        ),
        (
            lambda: freshness_gate(1.0, 30.5),
            *("freshness", "pass", []),
            {"age_days": 1.0, "max_age_days": 30.5, "stale_days": 8.0},
        ),
    ],
)
def test_a_verdict_has_its_gate_its_reasons_and_its_figures(
    judge: Callable[[], GateVerdict], gate: str, outcome: str, reasons: list[str], figures: dict[str, float]
) -> None:
    assert judge().model_dump() == {"gate": gate, "outcome": outcome, "reasons": reasons, "figures": figures}


def test_a_model_equal_to_the_mean_but_for_rounding_is_not_better() -> None:
    assert baseline_gate(metrics(1.0 - 0.5e-9), metrics(1.0)).outcome == "reject"
    assert baseline_gate(metrics(1.0 - 2e-9), metrics(1.0)).outcome == "pass"


def test_an_estimate_at_the_limit_is_accepted() -> None:
    assert behaviour_gate([curve(0.0, 12.5)]).outcome == "pass"
    assert behaviour_gate([curve(0.0, 12.5 + 1e-9)]).outcome == "reject"


def test_where_not_every_number_of_orders_is_asked_about_the_orders_are_named_as_they_are() -> None:
    for hours, reason in (
        ([1.0, np.nan, 2.0], "SKU001: the estimate is not a finite number at 3 orders"),
        ([0.0, -1.0, 2.0], "SKU001: -1.000 h at 3 orders is negative"),
        ([1.0, 3.0, 2.0], "SKU001: falls from 3.000 to 2.000 h at 7 orders"),
        ([1.0, 2.0, 13.0], "SKU001: 13.000 h at 7 orders is above 12.500 h"),
    ):
        asked = Curve("SKU001", np.array([0.0, 3.0, 7.0]), np.array(hours), 10.0)
        assert reason in behaviour_gate([asked]).reasons


def test_a_curve_has_every_whole_number_of_orders_or_as_many_as_are_bearable_with_the_highest_among_them() -> None:
    orders = generate_week(seed=1).astype({PRODUCT: "category"})
    orders.loc[orders.index[0], ORDERS] = 1_000_000
    model = TimeToDispatchRegressor(LinePerProduct()).fit(orders, orders[HOURS].to_numpy())
    found = {curve.product_code: curve.orders for curve in curves(model, profile(orders))}
    outlier = found.pop(orders.loc[orders.index[0], PRODUCT])
    assert (outlier[0], outlier[-1], len(outlier)) == (0, 1_000_000, MAX_CURVE_POINTS)
    assert all((asked == np.arange(asked[-1] + 1)).all() for asked in found.values())
