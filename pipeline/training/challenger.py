"""The challenger: fitted to a week of orders, measured on the hold-out, compared with the champion, and judged."""

from dataclasses import dataclass

import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.errors import DatasetInvalid
from pipeline.estimator import MIN_PRODUCT_ROWS, Floats, TimeToDispatchRegressor
from pipeline.manifest import GateVerdict, Manifest, Metrics, ProductProfile
from pipeline.training import gates
from pipeline.training.candidates import SAMPLE_ROWS, Choice, candidates, choose, choose_by_scores, failed_score
from pipeline.training.data_contract import HOURS, PRODUCT
from pipeline.training.evaluation import (
    HOLD_OUT,
    curves,
    exclude_products,
    measure,
    pooled_errors,
    product_means,
    profile,
    rare_products,
    sample,
    split,
)

MIN_HOLDOUT_ROWS = 10  # to judge a model or to compare two: the error on fewer rows means nothing


@dataclass(frozen=True)
class Thresholds:
    """The adjustable limits of the gates: R2 on the hold-out, and the age of the newest dataset in days."""

    reject_below: float
    warn_below: float
    max_dataset_age_days: float


@dataclass(frozen=True)
class Challenger:
    """The chosen candidate: fitted without the hold-out and measured on it, and refitted on all rows to be served."""

    seed: int
    choice: Choice
    model: TimeToDispatchRegressor
    refit: TimeToDispatchRegressor
    hold_out: pd.DataFrame
    predicted: Floats
    metrics: Metrics
    baseline: Metrics
    products: dict[str, ProductProfile]
    pooled_error: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Challenger and champion on the hold-out rows of products that both know, or why they were not compared.

    `production_error` is the champion's error on a sample of this week's orders of products that it knows.
    """

    rows: int = 0
    challenger: Metrics | None = None
    champion: Metrics | None = None
    compared_with: str | None = None
    production_error: Metrics | None = None
    not_compared: str | None = None


def train_challenger(orders: pd.DataFrame, seed: int) -> Challenger:
    """Choose a candidate without the hold-out, measure it once on the hold-out, and refit it on all rows.

    Raises DatasetInvalid if too few rows can be held out. A usual week is fitted on one core: OpenMP's threads spin
    while they wait for each other, and a fit of 0.1 s took a minute beside a busy process. A large week uses all cores.
    """
    with threadpool_limits(1 if len(orders) <= SAMPLE_ROWS else None):
        return _train_challenger(orders, seed)


def _train_challenger(orders: pd.DataFrame, seed: int) -> Challenger:
    fit_rows, hold_out = split(orders, seed)
    if len(hold_out) < MIN_HOLDOUT_ROWS:
        raise DatasetInvalid(
            f"only {len(hold_out)} orders can be held out (at least {MIN_HOLDOUT_ROWS} needed): most of the "
            f"{orders[PRODUCT].nunique()} products have fewer than {MIN_PRODUCT_ROWS} rows; check {PRODUCT}"
        )
    rare = rare_products(orders)
    choice = choose(candidates(seed), exclude_products(fit_rows, rare), seed)
    while True:
        try:
            model, refit = (
                candidates(seed)[choice.chosen].fit(rows, rows[HOURS].to_numpy(), pooled=rare)
                for rows in (fit_rows, orders)
            )
        except Exception as error:  # noqa: B902 - all rows may have more products than the boosted trees accept
            choice = choose_by_scores({**choice.scores, choice.chosen: failed_score(error)})
        else:
            break
    predicted = model.predict(hold_out)
    hours = hold_out[HOURS].to_numpy()
    return Challenger(
        seed,
        choice,
        model,
        refit=refit,
        hold_out=hold_out,
        predicted=predicted,
        metrics=measure(hours, predicted),
        baseline=measure(hours, product_means(fit_rows, hold_out)),
        products=profile(orders),
        pooled_error=pooled_errors(refit, orders),
    )


def compare(
    challenger: Challenger, version: str, champion: TimeToDispatchRegressor, orders: pd.DataFrame
) -> Comparison:
    """Measure challenger and champion on the same rows, if the hold-out has enough of products that both know."""
    drawn = sample(orders, SAMPLE_ROWS, challenger.seed)
    known = drawn[drawn[PRODUCT].isin(champion.product_codes_)]
    production_error = (
        measure(known[HOURS].to_numpy(), champion.predict(known)) if len(known) >= MIN_HOLDOUT_ROWS else None
    )
    learned = set(champion.product_codes_).difference(champion.pooled_codes_)
    both = challenger.hold_out[PRODUCT].isin(learned).to_numpy()
    if both.sum() < MIN_HOLDOUT_ROWS:
        return Comparison(
            production_error=production_error,
            not_compared=f"only {both.sum()} hold-out rows are of products the champion was trained on "
            f"(at least {MIN_HOLDOUT_ROWS} needed)",
        )
    rows = challenger.hold_out[both]
    return Comparison(
        rows=len(rows),
        challenger=measure(rows[HOURS].to_numpy(), challenger.predicted[both]),
        champion=measure(rows[HOURS].to_numpy(), champion.predict(rows)),
        compared_with=version,
        production_error=production_error,
    )


def compare_by_holdout(challenger: Challenger, champion: Manifest) -> Comparison:
    """Compare with a champion of the same week by its own hold-out error.

    The champion was refitted on the challenger's hold-out, so its error there means nothing. Its manifest has the error
    that it had on the same rows before it was refitted.
    """
    stored = champion.hold_out
    if (stored.rows, stored.share, stored.seed) != (len(challenger.hold_out), HOLD_OUT, challenger.seed):
        return Comparison(
            not_compared="the champion was trained on this dataset with another hold-out (other rows, share or seed)"
        )
    return Comparison(
        rows=stored.rows,
        challenger=challenger.metrics,
        champion=stored.candidate,
        compared_with=champion.version,
    )


def run_gates(
    challenger: Challenger, comparison: Comparison, thresholds: Thresholds, dataset_age_days: float
) -> list[GateVerdict]:
    """Return the verdict of every gate."""
    return [
        gates.accuracy_gate(challenger.metrics, thresholds.reject_below, thresholds.warn_below),
        gates.baseline_gate(challenger.metrics, challenger.baseline),
        gates.champion_gate(comparison.challenger, comparison.champion, comparison.not_compared),
        gates.behaviour_gate(curves(challenger.model, challenger.products)),
        gates.behaviour_gate(curves(challenger.refit, challenger.products), "behaviour_of_refit"),
        gates.freshness_gate(dataset_age_days, thresholds.max_dataset_age_days),
    ]
