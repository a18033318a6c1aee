"""A candidate is chosen by cross-validation alone, even if another candidate fails."""

import warnings
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning

from local.generate_orders import PRODUCTS, Product, generate_week
from pipeline.errors import CandidatesFailed
from pipeline.estimator import Floats, LinePerProduct, TimeToDispatchRegressor
from pipeline.training.candidates import FOLDS, SAMPLE_ROWS, candidates, choose
from pipeline.training.challenger import train_challenger
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from pipeline.training.evaluation import split

SEED = 42


class Constant(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn's base classes are untyped
    """Says the mean hours plus `off`; counts the rows that it was fitted on."""

    fitted_on: ClassVar[list[int]] = []

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def fit(self, X: Floats, y: Floats) -> Self:  # noqa: N803 - scikit-learn's names
        self.fitted_on.append(len(y))
        self.mean_ = float(np.mean(y)) + self.off
        return self

    def predict(self, X: Floats) -> Floats:  # noqa: N803 - scikit-learn's names
        return np.full(len(X), self.mean_)


class Failing(Constant):
    """Raises or warns while it is fitted."""

    def __init__(self, problem: Any = None) -> None:
        self.problem = problem

    def fit(self, X: Floats, y: Floats) -> Self:  # noqa: N803 - scikit-learn's names
        if isinstance(self.problem, Warning):
            warnings.warn(self.problem, stacklevel=1)
        else:
            raise self.problem
        return self


def typed(orders: pd.DataFrame) -> pd.DataFrame:
    return orders.astype({HOURS: "float64", ORDERS: "float64", PRODUCT: "category"})


@pytest.fixture(scope="module")
def orders() -> pd.DataFrame:
    return typed(generate_week(seed=1))


def among(**regressors: BaseEstimator) -> dict[str, TimeToDispatchRegressor]:
    return {name: TimeToDispatchRegressor(regressor) for name, regressor in regressors.items()}


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("no such matrix"),
        np.linalg.LinAlgError("singular"),
        TypeError("wrong"),
        MemoryError("too large"),
        ConvergenceWarning("not in 100 steps"),
    ],
)
def test_a_candidate_that_fails_is_reported_and_does_not_stop_the_others(
    orders: pd.DataFrame, problem: Exception
) -> None:
    choice = choose(among(failing=Failing(problem), line=LinePerProduct()), orders, SEED)
    assert choice.chosen == "line"
    assert choice.scores["failing"].failure == f"{type(problem).__name__}: {problem}"
    assert len(choice.scores["line"].rmse_folds) == FOLDS


def test_where_every_candidate_fails_each_reason_is_named(orders: pd.DataFrame) -> None:
    failing = among(one=Failing(ValueError("first")), other=Failing(ValueError("second")))
    with pytest.raises(CandidatesFailed, match="one: ValueError: first; other: ValueError: second"):
        choose(failing, orders, SEED)


def test_a_candidate_that_says_no_number_is_left_out(orders: pd.DataFrame) -> None:
    choice = choose(among(nan=Constant(float("nan")), line=LinePerProduct()), orders, SEED)
    assert choice.chosen == "line"
    assert "NaN" in (choice.scores["nan"].failure or "")


def test_of_two_equally_good_candidates_the_simpler_one_is_chosen(orders: pd.DataFrame) -> None:
    choice = choose(among(simple=Constant(0.5), complex=Constant(0.0)), orders, SEED)
    simple, complex_ = (np.array(choice.scores[name].rmse_folds) for name in ("simple", "complex"))
    assert complex_.mean() < simple.mean() < complex_.mean() + complex_.std(ddof=1) / np.sqrt(FOLDS)
    assert choice.chosen == "simple"


def test_one_that_is_better_by_more_than_a_standard_error_is_chosen(orders: pd.DataFrame) -> None:
    choice = choose(among(simple=Constant(5.0), complex=Constant(0.0)), orders, SEED)
    assert choice.chosen == "complex"


def test_the_choice_does_not_depend_on_the_hold_out(orders: pd.DataFrame) -> None:
    rows = split(orders, SEED)[1].index
    other = orders.copy()
    other.loc[rows, HOURS] = np.random.default_rng(1).uniform(0, 100, len(rows))
    assert train_challenger(other, SEED).choice == train_challenger(orders, SEED).choice


def test_the_choice_on_a_large_week_is_made_on_a_bounded_sample() -> None:
    Constant.fitted_on.clear()
    choose(among(constant=Constant()), typed(generate_week(seed=1, rows=2 * SAMPLE_ROWS)), SEED)
    assert Constant.fitted_on == [SAMPLE_ROWS * (FOLDS - 1) // FOLDS] * FOLDS


def test_every_fold_has_every_product(orders: pd.DataFrame) -> None:
    rare = typed(pd.concat([orders, typed(generate_week(seed=2, rows=60, products=[Product("SKU-RARE", 90.0, 0.0)]))]))
    choice = choose(candidates(SEED), rare, SEED)
    assert choice.chosen == "line_per_product"
    assert max(choice.scores["line_per_product"].rmse_folds) < 1  # a fold that misses SKU-RARE is off by 80 h there


def test_boosted_trees_are_left_out_where_they_cannot_tell_the_products_apart() -> None:
    many = [Product(f"SKU{number:03d}", 1.0 + number / 50, 0.05) for number in range(300)]
    choice = choose(candidates(SEED), typed(generate_week(seed=1, rows=9_000, products=many)), SEED)
    assert "cardinality" in (choice.scores["boosted_trees"].failure or "")
    assert choice.chosen == "line_per_product"


@pytest.mark.parametrize("rows", [1_000, 20_000])
def test_where_hours_bend_the_boosted_trees_are_chosen_and_never_fall(rows: int) -> None:
    orders = typed(generate_week(seed=1, rows=rows))
    bent = orders.assign(**{HOURS: orders[HOURS] + np.maximum(orders[ORDERS] - 120, 0) ** 2 / 300})
    challenger = train_challenger(bent, SEED)
    assert challenger.choice.chosen == "boosted_trees"
    for place in range(len(PRODUCTS)):
        at = np.column_stack([np.full(201, place), np.arange(201)])
        assert (np.diff(challenger.refit.predict_encoded(at)) >= 0).all()


class FailsOnMany(LinePerProduct):
    """A line per product that can be fitted to a fold of 1,000 orders, and not to all that are not held out."""

    def fit(self, X: Floats, y: Floats) -> Self:  # noqa: N803 - scikit-learn's names
        if len(y) > 700:
            raise ValueError(f"{len(y)} rows are too many")
        return super().fit(X, y)


def test_a_candidate_that_fails_when_all_rows_are_there_is_left_out_too(
    orders: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0.8 * 0.8 * len(orders) < 700 < 0.8 * len(orders)
    monkeypatch.setattr(
        "pipeline.training.challenger.candidates", lambda seed: among(fails=FailsOnMany(), line=LinePerProduct())
    )
    challenger = train_challenger(orders, SEED)
    assert challenger.choice.chosen == "line"
    assert challenger.choice.scores["fails"].failure == "ValueError: 800 rows are too many"
