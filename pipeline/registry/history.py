"""Week by week: the error that a model promised on its hold-out, and the one that was seen in production."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.manifest import ColumnDrift, Manifest


@dataclass(frozen=True)
class Seen:
    """A champion's RMSE, in hours, on the orders of a week after its own, and what it had promised."""

    version: str
    promised_rmse: float | None
    rmse: float


@dataclass(frozen=True)
class Week:
    """All trainings on one dataset: what the last of them promised, and what was seen of the champions of that week.

    The drift is since the week before; None where there was none that could be read.
    """

    dataset: str
    version: str
    trainings: int
    accepted: bool
    promised_rmse: float
    seen: list[Seen]
    drift: dict[str, ColumnDrift] | None


def weeks(manifests: Iterable[Manifest]) -> list[Week]:
    """Put trainings, in the order of their time, together by the bytes that they were made on."""
    by_dataset: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        by_dataset.setdefault((manifest.dataset.key, manifest.dataset.sha256), []).append(manifest)
    return [_summarize(trainings) for trainings in by_dataset.values()]


def _summarize(trainings: list[Manifest]) -> Week:
    last = trainings[-1]
    seen = {
        one.champion_version: Seen(
            one.champion_version,
            promised_rmse=one.promised_error.rmse if one.promised_error else None,
            rmse=one.production_error.rmse,
        )
        for one in trainings
        if one.champion_version and one.production_error
    }
    return Week(
        last.dataset.key,
        last.version,
        trainings=len(trainings),
        accepted=last.model is not None,
        promised_rmse=last.hold_out.candidate.rmse,
        seen=list(seen.values()),
        drift=last.previous_week.drift if last.previous_week else None,
    )
