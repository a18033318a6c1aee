"""The history of a bucket's models, week by week: the error on the hold-out, and the error measured in production."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.manifest import ColumnDrift, Manifest


@dataclass(frozen=True)
class ObservedError:
    """A champion's RMSE on the orders of a week in production, and the RMSE that it had on its hold-out, in hours."""

    version: str
    holdout_rmse: float | None
    rmse: float


@dataclass(frozen=True)
class WeekSummary:
    """All trainings on one dataset: the last one's hold-out error, and the error of each champion during that week.

    `drift` is None if the week before was missing or unreadable.
    """

    dataset: str
    version: str
    trainings: int
    accepted: bool
    holdout_rmse: float
    observed: list[ObservedError]
    drift: dict[str, ColumnDrift] | None


def summarise_weeks(manifests: Iterable[Manifest]) -> list[WeekSummary]:
    """Group trainings by the bytes of their dataset; both the argument and the result are ordered by time."""
    by_dataset: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        by_dataset.setdefault((manifest.dataset.key, manifest.dataset.sha256), []).append(manifest)
    return [_summarise(trainings) for trainings in by_dataset.values()]


def _summarise(trainings: list[Manifest]) -> WeekSummary:
    last = trainings[-1]
    observed = {
        manifest.champion_version: ObservedError(
            manifest.champion_version,
            holdout_rmse=manifest.holdout_error.rmse if manifest.holdout_error else None,
            rmse=manifest.production_error.rmse,
        )
        for manifest in trainings
        if manifest.champion_version and manifest.production_error
    }
    return WeekSummary(
        last.dataset.key,
        last.version,
        trainings=len(trainings),
        accepted=last.model is not None,
        holdout_rmse=last.hold_out.candidate.rmse,
        observed=list(observed.values()),
        drift=last.previous_week.drift if last.previous_week else None,
    )
