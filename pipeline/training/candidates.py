"""The models that are tried on a week of orders, and how one of them is chosen.

To add a candidate, add a line to `candidates()`, ahead of the more complex ones.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from pipeline.errors import CandidatesFailed
from pipeline.estimator import LinePerProduct, TimeToDispatchRegressor
from pipeline.manifest import CandidateScore
from pipeline.training.data_contract import HOURS, PRODUCT
from pipeline.training.evaluation import sample, stratification_labels

FOLDS = 5
SAMPLE_ROWS = 100_000  # enough to choose by: more rows take longer and choose the same


@dataclass(frozen=True)
class Choice:
    """The name of the chosen candidate, and each candidate's score or the reason why it has none."""

    chosen: str
    scores: dict[str, CandidateScore]


def candidates(seed: int) -> dict[str, TimeToDispatchRegressor]:
    """Return every candidate, unfitted, from the simplest to the most complex.

    No candidate can fall as the orders placed rise; otherwise noise would make the behaviour gate reject it. In the
    boosted trees, `monotonic_cst` (product, orders) ensures it. They accept at most 255 products, as categories.
    """
    return {
        name: TimeToDispatchRegressor(regressor)
        for name, regressor in {
            "line_per_product": LinePerProduct(),
            # a few large trees take a third of the time of the defaults on 10,000,000 rows; the error is 1 % higher on
            # 100,000 curved orders
            "boosted_trees": HistGradientBoostingRegressor(
                learning_rate=0.2,
                max_iter=40,
                max_leaf_nodes=127,
                categorical_features=[0],
                monotonic_cst=[0, 1],
                early_stopping=False,
                random_state=seed,
            ),
        }.items()
    }


def choose(among: Mapping[str, TimeToDispatchRegressor], orders: pd.DataFrame, seed: int) -> Choice:
    """Choose one of the candidates, which are ordered from simple to complex, by stratified cross-validation.

    The simplest candidate wins whose mean RMSE is within one standard error of the best one's (Breiman et al.,
    Classification and Regression Trees, 1984): folds are noisy, and a simpler model extrapolates better. A candidate
    that fails or does not converge is left out, with its reason. `orders` has no rare products.

    Raises CandidatesFailed if every candidate fails.
    """
    rows = sample(orders, SAMPLE_ROWS, seed)
    with threadpool_limits(1):  # 100,000 rows: 4 s with one thread, 38 s with two beside busy neighbours
        return choose_by_scores({name: _score(candidate, rows, seed) for name, candidate in among.items()})


def choose_by_scores(scores: Mapping[str, CandidateScore]) -> Choice:
    """Choose by scores; CandidatesFailed if every candidate failed."""
    fitted = {name: score for name, score in scores.items() if score.failure is None}
    if not fitted:
        reasons = "; ".join(f"{name}: {score.failure}" for name, score in scores.items())
        raise CandidatesFailed(f"every candidate failed to fit: {reasons}")
    return Choice(_simplest_within_one_standard_error(fitted), dict(scores))


def failed_score(error: Exception) -> CandidateScore:
    """Return the score of a candidate that failed to fit."""
    return CandidateScore(rmse_folds=[], failure=f"{type(error).__name__}: {error}")


def _score(candidate: TimeToDispatchRegressor, orders: pd.DataFrame, seed: int) -> CandidateScore:
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            errors = [
                _fold_rmse(candidate, orders.iloc[fit_rows], orders.iloc[test_rows])
                for fit_rows, test_rows in folds.split(orders, stratification_labels(orders))
            ]
    except Exception as error:  # noqa: B902 - whatever one candidate raises, the others are still tried
        return failed_score(error)
    return CandidateScore(rmse_folds=errors)


def _fold_rmse(candidate: TimeToDispatchRegressor, fit_rows: pd.DataFrame, test_rows: pd.DataFrame) -> float:
    candidate.fit(fit_rows, fit_rows[HOURS].to_numpy(), pooled=())
    known = test_rows[test_rows[PRODUCT].isin(candidate.product_codes_)]
    return float(root_mean_squared_error(known[HOURS], candidate.predict(known)))


def _simplest_within_one_standard_error(scores: dict[str, CandidateScore]) -> str:
    best = min(scores.values(), key=lambda score: np.mean(score.rmse_folds))
    limit = np.mean(best.rmse_folds) + np.std(best.rmse_folds, ddof=1) / np.sqrt(len(best.rmse_folds))
    return next(name for name, score in scores.items() if np.mean(score.rmse_folds) <= limit)
