"""Stage 1: fit a model to the newest week of orders and, if every gate lets it in, promote it."""

import argparse
import hashlib
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from pipeline.errors import (
    DatasetInvalid,
    ModelError,
    NoDataset,
    ObjectNotFound,
    PromotionUnknown,
    TimeToDispatchError,
    TrainingRejected,
    WriteConflict,
)
from pipeline.keys import (
    DATASETS,
    SAME_WEEK,
    DatasetKey,
    format_version,
    latest_dataset,
    parse_dataset_key,
    rejected_report_key,
)
from pipeline.manifest import Champion, DatasetRecord, DriftReport, GateVerdict, HoldOut, Manifest, running_libraries
from pipeline.registry.models import ChampionPointer, LoadedModel, Registry, describe_model, pickle_model
from pipeline.registry.object_store import ObjectStore
from pipeline.report.render import ReportContext, render_report
from pipeline.training.challenger import (
    Challenger,
    Comparison,
    Thresholds,
    compare,
    compare_by_holdout,
    run_gates,
    train_challenger,
)
from pipeline.training.data_contract import parse_orders
from pipeline.training.drift import ReferenceWeek, compare_weeks, summarise_week
from pipeline.training.evaluation import HOLD_OUT
from pipeline.utils import LOG_FORMATS, Interrupted, configure_logger, first_few, time_limit

SEED = 42  # of the split, the folds and the candidates: the same week gives the same model
REPORTED = timedelta(weeks=26)  # of history in the report; each training and each champion in it is a read from S3
PROMOTION_TRIES = 3  # how often another training may be faster before this one gives up
RUN_SECONDS = 270  # for everything, whatever S3 does; below bodywork.yaml's max_completion_time_seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The newest dataset: its orders, the record of its bytes, how old it is, and what came before it."""

    orders: pd.DataFrame
    dataset: DatasetKey
    record: DatasetRecord
    age_days: float
    previous: ReferenceWeek | None


@dataclass(frozen=True)
class Incumbent:
    """The champion that is served: its pointer if there is one, and its model, or why that cannot be had."""

    pointer: ChampionPointer | None
    model: LoadedModel | None
    missing: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Train once; 0 if the new model was stored and promoted, 1 if not: then the old champion is served on.

    1, too, if S3 did not say whether it took the promotion; 0, too, if the model was stored and not promoted, because
    somebody took its week out by hand.
    """
    args = _parse(arguments)
    configure_logger(args.log_format)
    log.info("Starting train-model stage.")
    thresholds = Thresholds(args.reject_below, args.warn_below, args.max_dataset_age_days)
    try:
        with time_limit(RUN_SECONDS):
            store = ObjectStore.connect(args.bucket)
            run(store, thresholds, datetime.now(UTC), os.environ.get("GIT_COMMIT_HASH", "unknown"))
    except PromotionUnknown as error:
        log.error("The new model is stored, and may have been promoted or not: %s", error)
        return 1
    except (TimeToDispatchError, Interrupted) as error:
        log.error("Nothing was promoted: %s", error)
        return 1
    return 0


def run(store: ObjectStore, thresholds: Thresholds, now: datetime, git_commit: str) -> None:
    """Train on the newest dataset as of `now`, and promote the model unless its week was taken out by hand.

    A TimeToDispatchError says that nothing was promoted.
    """
    registry = Registry(store)
    incumbent = _read_incumbent(registry)
    week = _gather(store, now)
    challenger = train_challenger(week.orders, SEED)
    _log_challenger(challenger)
    estimator = pickle_model(challenger.refit)
    drift = _compare_weeks(week)

    for _ in range(PROMOTION_TRIES):
        comparison = _compare(registry, challenger, incumbent, week)
        verdicts = run_gates(challenger, comparison, thresholds, week.age_days)
        _log_verdicts(verdicts)
        manifest = Manifest(
            version=format_version(now),
            trained_at=now,
            git_commit=git_commit,
            dataset=week.record,
            model=describe_model(estimator),
            chosen=challenger.choice.chosen,
            candidates=challenger.choice.scores,
            hold_out=_describe_hold_out(challenger, comparison),
            champion_version=incumbent.pointer and incumbent.pointer.champion.version,
            production_error=comparison.production_error,
            holdout_error=incumbent.model and incumbent.model.manifest.hold_out.candidate,
            products=challenger.products,
            pooled_error=challenger.pooled_error,
            previous_week=drift,
            gates=verdicts,
            libraries=running_libraries(),
        )
        evidence = ReportContext(
            orders=week.orders,
            hold_out=challenger.hold_out,
            predicted=challenger.predicted,
            model=challenger.refit,
            previous=week.previous,
            champion=incumbent.model.estimator if incumbent.model else None,
            earlier=registry.trainings(_left_out, since=now - REPORTED),
            champions=registry.champions(_left_out, since=now - REPORTED),
            taken_out=registry.taken_out(week.dataset, week.record.etag, incumbent.pointer, _left_out),
        )
        if any(verdict.outcome == "reject" for verdict in verdicts):
            _reject(registry, manifest, evidence)
        version = registry.store(estimator, manifest, lambda named: render_report(named, evidence))  # noqa: B023
        registry.load(version)
        log.info("Stored %s, read it back and verified it.", version)
        if evidence.taken_out:
            log.warning(
                "Not promoted: %s, of the same week, was taken out by hand. The registry's command `promote %s` would.",
                evidence.taken_out,
                version,
            )
            return
        champion = Champion(
            version=version,
            previous=incumbent.pointer and incumbent.pointer.champion.version,
            promoted_at=datetime.now(UTC),
            reason=f"trained on {week.record.key}",
            git_commit=git_commit,
        )
        try:
            registry.promote(champion, incumbent.pointer)
        except WriteConflict:
            log.warning("Not promoted: the champion is another one since %s was judged. Judging again.", version)
            incumbent = _read_incumbent(registry)
            continue
        log.info("Promoted %s instead of %s.", version, champion.previous or "no model")
        return
    raise WriteConflict(f"{version} is stored, but the champion was replaced {PROMOTION_TRIES} times meanwhile")


def _gather(store: ObjectStore, now: datetime) -> TrainingData:
    latest = latest_dataset(store.keys(DATASETS), now)
    for dataset in latest.dated_ahead:
        log.warning("Ignored %s: it is dated more than an hour ahead of now, %s.", dataset.key, now.isoformat())
    if latest.newest is None:
        raise NoDataset(
            f"no dataset under {DATASETS}: a key like {DATASETS}time_to_dispatch_2026-11-20T23:00:00Z.csv is expected"
        )
    previous = _read_previous(store, latest.previous)
    stored = store.get(latest.newest.key)
    orders = parse_orders(stored.body, stored.key)
    log.info("Read %s: %d orders.", stored.key, len(orders))
    record = DatasetRecord(
        key=stored.key,
        etag=stored.etag,
        version_id=stored.version_id,
        sha256=hashlib.sha256(stored.body).hexdigest(),
        rows=len(orders),
    )
    return TrainingData(orders, latest.newest, record, (now - latest.newest.timestamp) / timedelta(days=1), previous)


def _read_previous(store: ObjectStore, previous: DatasetKey | None) -> ReferenceWeek | None:
    """The week to compare with; none where it cannot be read, since nothing is decided by it."""
    if previous is None:
        return None
    try:
        return summarise_week(parse_orders(store.get(previous.key).body, previous.key), previous.key, SEED)
    except (DatasetInvalid, ObjectNotFound) as error:
        log.warning("Not compared with the week before: %s", error)
        return None


def _compare_weeks(week: TrainingData) -> DriftReport | None:
    if week.previous is None:
        return None
    found = compare_weeks(week.previous, week.orders, SEED)
    for column, drift in found.drift.items():
        level = logging.INFO if drift.verdict == "stable" else logging.WARNING
        log.log(level, "Drift of %s since %s: %s, index %.3f.", column, found.dataset, drift.verdict, drift.psi)
    for what, codes in (("New", found.new_products), ("Vanished", found.vanished_products)):
        if codes:
            log.warning("%s products: %s.", what, first_few(codes))
    return found


def _left_out(problem: TimeToDispatchError) -> None:
    log.warning("Left out of the report's history: %s", problem)


def _read_incumbent(registry: Registry) -> Incumbent:
    pointer = registry.read_champion()
    if pointer is None:
        return Incumbent(None, None, "no model was ever promoted")
    try:
        return Incumbent(pointer, registry.load(pointer.champion.version), None)
    except ModelError as error:
        return Incumbent(pointer, None, f"it no longer loads: {error}")


def _compare(registry: Registry, challenger: Challenger, incumbent: Incumbent, week: TrainingData) -> Comparison:
    if incumbent.model is None:
        return Comparison(not_compared=incumbent.missing)
    manifest = incumbent.model.manifest
    if manifest.dataset.sha256 == week.record.sha256:
        log.info("%s was trained on this very week: it is held to what it promised then.", manifest.version)
        return compare_by_holdout(challenger, manifest)
    if _saw(manifest, week):
        return _compare_with_the_one_before(registry, challenger, manifest, week)
    comparison = compare(challenger, manifest.version, incumbent.model.estimator, week.orders)
    trained_on = parse_dataset_key(manifest.dataset.key)
    if trained_on and trained_on.timestamp > week.dataset.timestamp:
        return replace(comparison, production_error=None)  # the week was over before the champion was made
    if comparison.production_error:
        log.info(
            "Production error of %s, on this week's orders: RMSE %.3f h, MAE %.3f h.",
            manifest.version,
            comparison.production_error.rmse,
            comparison.production_error.mae,
        )
    return comparison


def _compare_with_the_one_before(
    registry: Registry, challenger: Challenger, champion: Manifest, week: TrainingData
) -> Comparison:
    """Compare with the last champion that saw no upload of the week, in the place of one that saw another of them."""
    reason = f"it was fitted on another upload of this week, {champion.dataset.key}"
    for earlier in reversed(registry.champions(_left_out)):
        try:
            if not _saw(registry.read_manifest(earlier.version), week):
                before = registry.load(earlier.version).estimator
                log.info("Not compared with the champion, %s: compared with %s before it.", reason, earlier.version)
                return replace(compare(challenger, earlier.version, before, week.orders), production_error=None)
        except ModelError as error:
            log.warning("Not compared with %s, an earlier champion: %s", earlier.version, error)
    return Comparison(not_compared=f"{reason}, and there is no champion before it")


def _saw(manifest: Manifest, week: TrainingData) -> bool:
    """Was a model fitted on an upload of this week?"""
    trained_on = parse_dataset_key(manifest.dataset.key)
    return trained_on is not None and abs(week.dataset.timestamp - trained_on.timestamp) < SAME_WEEK


def _describe_hold_out(challenger: Challenger, comparison: Comparison) -> HoldOut:
    return HoldOut(
        rows=len(challenger.hold_out),
        share=HOLD_OUT,
        seed=SEED,
        candidate=challenger.metrics,
        baseline=challenger.baseline,
        rows_champion_knows=comparison.rows,
        candidate_where_champion_knows=comparison.challenger,
        champion=comparison.champion,
        compared_with=comparison.compared_with,
    )


def _reject(registry: Registry, manifest: Manifest, evidence: ReportContext) -> None:
    rejected = manifest.model_copy(update={"model": None})
    version = registry.store_rejected(rejected, lambda named: render_report(named, evidence))
    reasons = "; ".join(
        f"{verdict.gate}: {first_few(verdict.reasons)}" for verdict in manifest.gates if verdict.outcome == "reject"
    )
    raise TrainingRejected(f"rejected, see {rejected_report_key(version)}: {reasons}")


def _log_challenger(challenger: Challenger) -> None:
    for name, score in challenger.choice.scores.items():
        if score.failure:
            log.warning("Candidate %s was left out: %s", name, score.failure)
        else:
            mean, spread = np.mean(score.rmse_folds), np.std(score.rmse_folds, ddof=1)
            log.info("Candidate %s: cross-validated RMSE %.3f h, spread %.3f h.", name, mean, spread)
    metrics = challenger.metrics
    log.info(
        "Chose %s: hold-out RMSE %.3f h, MAE %.3f h, R2 %.3f; per-product mean RMSE %.3f h.",
        challenger.choice.chosen,
        metrics.rmse,
        metrics.mae,
        metrics.r2,
        challenger.baseline.rmse,
    )
    if challenger.pooled_error:
        pooled = [f"{code} (off by {error:.1f} h)" for code, error in challenger.pooled_error.items()]
        log.warning("Too few rows to learn from, answered by the fit of all products together: %s.", first_few(pooled))


def _log_verdicts(verdicts: Sequence[GateVerdict]) -> None:
    for verdict in verdicts:
        level = logging.INFO if verdict.outcome == "pass" else logging.WARNING
        figures = ", ".join(f"{name} {figure:.4g}" for name, figure in verdict.figures.items())
        reasons = "; " + first_few(verdict.reasons, "; ") if verdict.reasons else ""
        log.log(level, "Gate %s: %s (%s)%s", verdict.gate, verdict.outcome, figures or "no figures", reasons)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_model", description=__doc__, allow_abbrev=False)
    parser.add_argument("bucket", metavar="BUCKET", help="where datasets/ and models/ lie")
    parser.add_argument(
        "--reject-below",
        type=_r_squared,
        default=0.8,
        metavar="R2",
        help="reject a model whose R2 on the hold-out is below this (default: %(default)s)",
    )
    parser.add_argument(
        "--warn-below",
        type=_r_squared,
        default=0.9,
        metavar="R2",
        help="warn of a model whose R2 on the hold-out is below this (default: %(default)s)",
    )
    parser.add_argument(
        "--max-dataset-age-days",
        type=_days,
        default=30.0,
        metavar="DAYS",
        help="reject a model if the newest dataset is older than this (default: %(default)s)",
    )
    parser.add_argument("--log-format", choices=LOG_FORMATS, default="text", help="of each line (default: text)")
    return parser.parse_args(arguments)


def _r_squared(text: str) -> float:
    if not -math.inf < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no R2, which is at most 1")
    return float(text)


def _days(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of days above 0")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
