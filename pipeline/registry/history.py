"""Week by week: the error that a model promised on its hold-out, and the one that was seen in production."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.manifest import ColumnDrift, Manifest


@dataclass(frozen=True)
class ObservedError:
    """A champion's RMSE, in hours, on the orders of a week after its own, and what it had promised."""

    version: str
    holdout_rmse: float | None
    rmse: float


@dataclass(frozen=True)
class WeekSummary:
    """All trainings on one dataset: what the last of them promised, and what was seen of the champions of that week.

    The drift is since the week before; None where there was none that could be read.
    """

    dataset: str
    version: str
    trainings: int
    accepted: bool
    holdout_rmse: float
    seen: list[ObservedError]
    drift: dict[str, ColumnDrift] | None


def summarise_weeks(manifests: Iterable[Manifest]) -> list[WeekSummary]:
    """Put trainings, in the order of their time, together by the bytes that they were made on."""
    by_dataset: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        by_dataset.setdefault((manifest.dataset.key, manifest.dataset.sha256), []).append(manifest)
    return [_summarize(trainings) for trainings in by_dataset.values()]


def _summarize(trainings: list[Manifest]) -> WeekSummary:
    last = trainings[-1]
    seen = {
        one.champion_version: ObservedError(
            one.champion_version,
            holdout_rmse=one.holdout_error.rmse if one.holdout_error else None,
            rmse=one.production_error.rmse,
        )
        for one in trainings
        if one.champion_version and one.production_error
    }
    return WeekSummary(
        last.dataset.key,
        last.version,
        trainings=len(trainings),
        accepted=last.model is not None,
        holdout_rmse=last.hold_out.candidate.rmse,
        seen=list(seen.values()),
        drift=last.previous_week.drift if last.previous_week else None,
    )
