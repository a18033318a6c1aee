"""Week by week: the error that a model promised on its hold-out, and the one that was seen in production later."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.manifest import DriftVerdict, Manifest


@dataclass(frozen=True)
class SeenError:
    """A champion's RMSE, in hours, on all the orders of a later week that it knew the products of."""

    dataset: str
    rmse: float


@dataclass(frozen=True)
class TrainingWeek:
    """One training: what it promised, and what was seen of it for as long as it was the champion."""

    version: str
    dataset: str
    accepted: bool
    promised_rmse: float
    seen: list[SeenError]
    drift: dict[str, DriftVerdict]


def weeks(manifests: Sequence[Manifest]) -> list[TrainingWeek]:
    """Put trainings, in the order of their time, beside what later ones measured of them."""
    seen: dict[str, list[SeenError]] = defaultdict(list)
    for manifest in manifests:
        if manifest.champion_version and manifest.production_error:
            found = SeenError(manifest.dataset.key, manifest.production_error.rmse)
            if found not in seen[manifest.champion_version]:  # the same orders, in another training
                seen[manifest.champion_version].append(found)
    return [
        TrainingWeek(
            manifest.version,
            manifest.dataset.key,
            accepted=manifest.model is not None,
            promised_rmse=manifest.hold_out.candidate.rmse,
            seen=seen[manifest.version] if manifest.model else [],
            drift={name: found.verdict for name, found in manifest.previous_week.drift.items()}
            if manifest.previous_week
            else {},
        )
        for manifest in manifests
    ]
