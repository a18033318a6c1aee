"""How the model behaves: what it recovers, what it never does, and whom it knows."""

import io

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeRegressor

from local.generate_orders import NOISE_HOURS, PRODUCTS, generate_week
from pipeline.estimator import MIN_PRODUCT_ROWS, LinePerProduct, TimeToDispatchRegressor
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT


def fitted(orders: pd.DataFrame) -> TimeToDispatchRegressor:
    return TimeToDispatchRegressor(LinePerProduct()).fit(orders, orders[HOURS].to_numpy())


def orders_of(product: str, placed: list[float], hours: list[float]) -> pd.DataFrame:
    return pd.DataFrame({HOURS: hours, ORDERS: placed, PRODUCT: product})


def test_the_line_per_product_recovers_the_generated_lines() -> None:
    model = fitted(generate_week(seed=3, rows=20_000))
    for product in PRODUCTS:
        at = pd.DataFrame({PRODUCT: product.code, ORDERS: [50.0, 150.0]})
        truth = [product.base + product.slope * placed for placed in (50.0, 150.0)]
        assert model.predict(at) == pytest.approx(truth, abs=0.1 * NOISE_HOURS)


def test_rows_in_another_order_give_the_same_model(week: pd.DataFrame) -> None:
    shuffled = week.sample(frac=1, random_state=1)
    assert fitted(shuffled).predict(week) == pytest.approx(fitted(week).predict(week), abs=1e-9)


def test_other_names_for_the_products_give_the_same_estimates(week: pd.DataFrame) -> None:
    renamed = week.assign(product_code="x" + week[PRODUCT].str[::-1])
    assert fitted(renamed).predict(renamed) == pytest.approx(fitted(week).predict(week), abs=1e-9)


def test_another_products_rows_do_not_move_a_products_line(week: pd.DataFrame) -> None:
    of_one = week[week[PRODUCT] == "SKU001"]
    doubled = week.assign(hours_to_dispatch=week[HOURS].where(week[PRODUCT] == "SKU001", 2 * week[HOURS]))
    assert fitted(doubled).predict(of_one) == pytest.approx(fitted(week).predict(of_one), abs=1e-9)


def test_more_orders_never_make_an_order_faster_even_where_the_data_say_so() -> None:
    falling = orders_of("SKU001", list(range(20)), [20.0 - placed for placed in range(20)])
    assert fitted(falling).predict(falling) == pytest.approx([10.5] * 20)


def test_no_order_is_dispatched_before_it_is_placed() -> None:
    steep = orders_of("SKU001", list(range(100, 120)), [float(placed) - 100 for placed in range(100, 120)])
    below = pd.DataFrame({PRODUCT: "SKU001", ORDERS: [0.0, 99.0]})
    assert fitted(steep).predict(below).tolist() == [0.0, 0.0]


def test_a_product_with_too_few_rows_gets_the_line_of_all_products_together(week: pd.DataFrame) -> None:
    rare = orders_of("RARE", [10.0] * (MIN_PRODUCT_ROWS - 1), [9.0] * (MIN_PRODUCT_ROWS - 1))
    together = pd.concat([week, rare])
    model = fitted(together)
    assert model.pooled_codes_ == ["RARE"]
    line = np.polyfit(together[ORDERS], together[HOURS], deg=1)
    assert model.predict(rare)[0] == pytest.approx(np.polyval(line, 10.0))
    assert model.predict(week) == pytest.approx(fitted(week).predict(week), abs=1e-9)


def test_a_product_with_enough_rows_gets_its_own_line(week: pd.DataFrame) -> None:
    enough = orders_of("ENOUGH", [float(placed) for placed in range(MIN_PRODUCT_ROWS)], [500.0] * MIN_PRODUCT_ROWS)
    model = fitted(pd.concat([week, enough]))
    assert model.pooled_codes_ == []
    assert model.predict(enough) == pytest.approx([500.0] * MIN_PRODUCT_ROWS)


def test_a_week_in_which_every_product_is_rare_is_one_line() -> None:
    orders = pd.concat([orders_of(f"SKU{n}", [1.0, 2.0], [1.0, 2.0]) for n in range(30)])
    assert fitted(orders).predict(orders) == pytest.approx(orders[HOURS])


def test_an_unknown_product_is_named(week: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="unknown product codes: \\['SKU-OF-NEXT-WEEK'\\]"):
        fitted(week).predict(pd.DataFrame({PRODUCT: ["SKU-OF-NEXT-WEEK"], ORDERS: [1.0]}))


def test_a_model_that_was_stored_and_loaded_says_the_same(week: pd.DataFrame) -> None:
    model = TimeToDispatchRegressor(DecisionTreeRegressor(random_state=1)).fit(week, week[HOURS].to_numpy())
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    assert joblib.load(buffer).predict(week).tolist() == model.predict(week).tolist()
