"""Stage 1: fit a model to the newest week of orders and, if every gate passes, promote it."""

import argparse
import hashlib
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

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
from pipeline.registry.champion import PROMOTED, ChampionPointer, ChampionRegistry
from pipeline.registry.models import LoadedModel, ModelRegistry, describe_model, pickle_model
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

SEED = 42  # of split, folds and candidates: the same week gives the same model
REPORTED_HISTORY = timedelta(weeks=26)  # each training and each champion in it is one read from S3
MAX_PROMOTION_TRIES = 3  # other trainings may be faster this often before this one gives up
RUN_SECONDS = 270  # limit of the whole stage; below max_completion_time_seconds of bodywork.yaml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The newest dataset: its orders, the record of its bytes, its age, and the week before for comparison."""

    orders: pd.DataFrame
    dataset: DatasetKey
    record: DatasetRecord
    age_days: float
    previous: ReferenceWeek | None


@dataclass(frozen=True)
class Incumbent:
    """The current champion: its pointer, if any, and its model or the reason why it is missing."""

    pointer: ChampionPointer | None
    model: LoadedModel | None
    missing: str | None

    @property
    def version(self) -> str | None:
        """The champion's version; None before the first promotion."""
        return self.pointer.champion.version if self.pointer else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage and return its exit code.

    0: the new model was stored and promoted, or stored and held back because its week was taken out by hand.
    1: it was rejected or the training failed, and the old champion stays; or S3 did not confirm the promotion.
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
        log.error("The new model is stored, but S3 did not confirm its promotion: %s", error)
        return 1
    except (TimeToDispatchError, Interrupted) as error:
        log.error("Nothing was promoted: %s", error)
        return 1
    return 0


def run(store: ObjectStore, thresholds: Thresholds, now: datetime, git_commit: str) -> None:
    """Train on the newest dataset as of `now`, and promote the model if every gate passes.

    Raises a TimeToDispatchError if nothing was promoted. A model whose week was taken out by hand is stored only.
    """
    registry = ChampionRegistry(store)
    incumbent = _read_incumbent(registry)
    data = _gather(store, now)
    challenger = train_challenger(data.orders, SEED)
    _log_challenger(challenger)
    drift = _measure_drift(data)

    for _ in range(MAX_PROMOTION_TRIES):
        comparison = _compare(registry, challenger, incumbent, data)
        verdicts = run_gates(challenger, comparison, thresholds, data.age_days)
        _log_verdicts(verdicts)
        manifest = _describe(data, challenger, incumbent, comparison, drift, verdicts, now, git_commit)
        context = _report_context(registry, data, challenger, incumbent, now)
        if any(verdict.outcome == "reject" for verdict in verdicts):
            _reject(registry.models, manifest, context)
        version = _store(registry.models, challenger, manifest, context)
        if context.taken_out:
            log.warning(
                "Stored %s without promoting it: %s, of the same week, was taken out by hand. To promote it anyway: "
                "python -m pipeline.registry BUCKET promote %s",
                version,
                context.taken_out,
                version,
            )
            return
        if _promote(registry, version, incumbent, data, git_commit):
            return
        incumbent = _read_incumbent(registry)
    raise WriteConflict(
        f"{version} is stored, but other trainings replaced the champion {MAX_PROMOTION_TRIES} times before its "
        "promotion: run the training again"
    )


def _read_incumbent(registry: ChampionRegistry) -> Incumbent:
    pointer = registry.read_champion()
    if pointer is None:
        return Incumbent(None, None, "no model was ever promoted")
    try:
        return Incumbent(pointer, registry.models.load(pointer.champion.version), None)
    except ModelError as error:
        return Incumbent(pointer, None, f"the champion cannot be loaded: {error}")


def _gather(store: ObjectStore, now: datetime) -> TrainingData:
    latest = latest_dataset(store.keys(DATASETS), now)
    for dataset in latest.dated_ahead:
        log.warning("Ignored %s: its date is more than one hour ahead of now, %s.", dataset.key, now.isoformat())
    if latest.newest is None:
        raise NoDataset(
            f"there is no dataset below {DATASETS}: upload one "
            f"(expected e.g. {DATASETS}time_to_dispatch_2026-11-20T23:00:00Z.csv)"
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
    """Return the week before; None if it cannot be read, since no decision depends on it."""
    if previous is None:
        return None
    try:
        return summarise_week(parse_orders(store.get(previous.key).body, previous.key), previous.key, SEED)
    except (DatasetInvalid, ObjectNotFound) as error:
        log.warning("Skipped the comparison with the week before: %s", error)
        return None


def _measure_drift(data: TrainingData) -> DriftReport | None:
    if data.previous is None:
        return None
    report = compare_weeks(data.previous, data.orders, SEED)
    for column, drift in report.drift.items():
        level = logging.INFO if drift.verdict == "stable" else logging.WARNING
        log.log(level, "Drift of %s since %s: %s, index %.3f.", column, report.dataset, drift.verdict, drift.psi)
    for what, codes in (("New", report.new_products), ("Vanished", report.vanished_products)):
        if codes:
            log.warning("%s products: %s.", what, first_few(codes))
    return report


def _compare(
    registry: ChampionRegistry, challenger: Challenger, incumbent: Incumbent, data: TrainingData
) -> Comparison:
    if incumbent.model is None:
        return Comparison(not_compared=incumbent.missing)
    champion = incumbent.model.manifest
    if champion.dataset.sha256 == data.record.sha256:
        log.info("%s was trained on the same dataset: comparing with its own hold-out error.", champion.version)
        return compare_by_holdout(challenger, champion)
    if _is_of_same_week(champion, data):
        return _compare_with_earlier_champion(registry, challenger, champion, data)
    comparison = compare(challenger, champion.version, incumbent.model.estimator, data.orders)
    trained_on = parse_dataset_key(champion.dataset.key)
    if trained_on and trained_on.timestamp > data.dataset.timestamp:
        return replace(comparison, production_error=None)  # the week ended before the champion was trained
    if comparison.production_error:
        log.info(
            "Production error of %s on this week's orders: RMSE %.3f h, MAE %.3f h.",
            champion.version,
            comparison.production_error.rmse,
            comparison.production_error.mae,
        )
    return comparison


def _compare_with_earlier_champion(
    registry: ChampionRegistry, challenger: Challenger, champion: Manifest, data: TrainingData
) -> Comparison:
    """Compare with the last champion that no upload of this week trained: the champion knows most of the hold-out."""
    reason = f"the champion was trained on another upload of this week, {champion.dataset.key}"
    for earlier in reversed(registry.champions()):
        try:
            if not _is_of_same_week(registry.models.read_manifest(earlier.version), data):
                estimator = registry.models.load(earlier.version).estimator
                log.info("Compared with %s instead: %s.", earlier.version, reason)
                return replace(compare(challenger, earlier.version, estimator, data.orders), production_error=None)
        except ModelError as error:
            log.warning("Skipped the comparison with %s, an earlier champion: %s", earlier.version, error)
    return Comparison(not_compared=f"{reason}, and there is no earlier champion")


def _is_of_same_week(manifest: Manifest, data: TrainingData) -> bool:
    trained_on = parse_dataset_key(manifest.dataset.key)
    return trained_on is not None and abs(data.dataset.timestamp - trained_on.timestamp) < SAME_WEEK


def _describe(
    data: TrainingData,
    challenger: Challenger,
    incumbent: Incumbent,
    comparison: Comparison,
    drift: DriftReport | None,
    verdicts: list[GateVerdict],
    now: datetime,
    git_commit: str,
) -> Manifest:
    return Manifest(
        version=format_version(now),
        trained_at=now,
        git_commit=git_commit,
        dataset=data.record,
        chosen=challenger.choice.chosen,
        candidates=challenger.choice.scores,
        hold_out=HoldOut(
            rows=len(challenger.hold_out),
            share=HOLD_OUT,
            seed=SEED,
            candidate=challenger.metrics,
            baseline=challenger.baseline,
            rows_champion_knows=comparison.rows,
            candidate_where_champion_knows=comparison.challenger,
            champion=comparison.champion,
            compared_with=comparison.compared_with,
        ),
        champion_version=incumbent.version,
        production_error=comparison.production_error,
        holdout_error=incumbent.model and incumbent.model.manifest.hold_out.candidate,
        products=challenger.products,
        pooled_error=challenger.pooled_error,
        previous_week=drift,
        gates=verdicts,
        libraries=running_libraries(),
    )


def _report_context(
    registry: ChampionRegistry, data: TrainingData, challenger: Challenger, incumbent: Incumbent, now: datetime
) -> ReportContext:
    return ReportContext(
        orders=data.orders,
        hold_out=challenger.hold_out,
        predicted=challenger.predicted,
        model=challenger.refit,
        previous=data.previous,
        champion=incumbent.model.estimator if incumbent.model else None,
        earlier=registry.models.trainings(since=now - REPORTED_HISTORY),
        champions=registry.champions(since=now - REPORTED_HISTORY),
        taken_out=registry.taken_out(data.dataset, data.record.etag, incumbent.pointer),
    )


def _reject(models: ModelRegistry, manifest: Manifest, context: ReportContext) -> NoReturn:
    version = models.store_rejected(manifest, lambda named: render_report(named, context))
    reasons = "; ".join(
        f"{verdict.gate}: {first_few(verdict.reasons)}" for verdict in manifest.gates if verdict.outcome == "reject"
    )
    raise TrainingRejected(f"rejected, see {rejected_report_key(version)}: {reasons}")


def _store(models: ModelRegistry, challenger: Challenger, manifest: Manifest, context: ReportContext) -> str:
    """Store the challenger, and prove that it can be read back and loaded; return its version."""
    body = pickle_model(challenger.refit)
    described = manifest.model_copy(update={"model": describe_model(body)})
    version = models.store(body, described, lambda named: render_report(named, context))
    models.load(version)
    log.info("Stored %s, read it back and verified it.", version)
    return version


def _promote(
    registry: ChampionRegistry, version: str, incumbent: Incumbent, data: TrainingData, git_commit: str
) -> bool:
    """Promote a version in place of the incumbent; False if another training was faster."""
    champion = Champion(
        version=version,
        previous=incumbent.version,
        promoted_at=datetime.now(UTC),
        reason=f"trained on {data.record.key}",
        git_commit=git_commit,
    )
    try:
        registry.promote(champion, incumbent.pointer)
    except WriteConflict:
        log.warning("Not promoted: another training replaced the champion that %s was compared with.", version)
        return False
    log.info(PROMOTED, version, champion.previous or "no model")
    return True


def _log_challenger(challenger: Challenger) -> None:
    for name, score in challenger.choice.scores.items():
        if score.failure:
            log.warning("Left out the candidate %s: %s", name, score.failure)
        else:
            mean, spread = np.mean(score.rmse_folds), np.std(score.rmse_folds, ddof=1)
            log.info("Candidate %s: cross-validated RMSE %.3f h, spread %.3f h.", name, mean, spread)
    metrics = challenger.metrics
    log.info(
        "Chose %s: hold-out RMSE %.3f h, MAE %.3f h, R2 %.3f; RMSE of the per-product mean %.3f h.",
        challenger.choice.chosen,
        metrics.rmse,
        metrics.mae,
        metrics.r2,
        challenger.baseline.rmse,
    )
    if challenger.pooled_error:
        pooled = [f"{code} (off by {error:.1f} h)" for code, error in challenger.pooled_error.items()]
        log.warning("Products with too few rows, estimated by the pooled fit: %s.", first_few(pooled))


def _log_verdicts(verdicts: Sequence[GateVerdict]) -> None:
    for verdict in verdicts:
        level = logging.INFO if verdict.outcome == "pass" else logging.WARNING
        figures = ", ".join(f"{name} {figure:.4g}" for name, figure in verdict.figures.items())
        reasons = "; " + first_few(verdict.reasons, "; ") if verdict.reasons else ""
        log.log(level, "Gate %s: %s (%s)%s", verdict.gate, verdict.outcome, figures or "no figures", reasons)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_model", description=__doc__, allow_abbrev=False)
    parser.add_argument("bucket", metavar="BUCKET", help="S3 bucket with datasets/ and models/")
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
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="format of the log lines (default: text)"
    )
    return parser.parse_args(arguments)


def _r_squared(text: str) -> float:
    if not -math.inf < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not an R2 (expected a number up to 1)")
    return float(text)


def _days(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days (expected one above 0)")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
