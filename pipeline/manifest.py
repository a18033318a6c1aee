"""What is stored beside a model: where it comes from, how it was measured, and why it was promoted or rejected.

Reading is tolerant, since the pointer moves before the roll-out: a replica may read what newer code wrote. Unknown
fields are ignored, unknown gates load, and optional fields may be missing.
"""

import platform
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.keys import parse_version

MANIFEST_FORMAT = 1  # raise it when old code must not read a new manifest
BY_HAND = "by hand:"  # in the reason of a promotion that an engineer made

Outcome = Literal["pass", "warn", "reject"]
DriftVerdict = Literal["stable", "moderate", "major"]
# of the population stability index, unless chance explains it: training/drift.py
MODERATE_DRIFT, MAJOR_DRIFT = 0.1, 0.25
DRIFT_SOURCE = "Siddiqi, Credit Risk Scorecards, 2006"


def _check_version(text: str) -> str:
    if parse_version(text) is None:
        raise ValueError(f"invalid version {text!r} (expected e.g. time_to_dispatch_2026-11-20T23:31:07Z)")
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # the offset leads out of the years 1 to 9999
        raise ValueError(str(error)) from error


Version = Annotated[str, AfterValidator(_check_version)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class DatasetRecord(_Record):
    """The bytes that a model was trained on."""

    key: str
    etag: str
    version_id: str | None = None
    sha256: Sha256
    rows: int


class ModelRecord(_Record):
    """The bytes of model.joblib."""

    sha256: Sha256
    size_bytes: int


class Metrics(_Record):
    """Errors in hours (rmse, mae) and the explained share of the variance (r2)."""

    rmse: float
    mae: float
    r2: float


class ProductProfile(_Record):
    """What the week has of a product: its rows, and the ranges of orders placed and of hours."""

    rows: int
    orders_min: float
    orders_max: float
    hours_min: float
    hours_max: float
    pooled: bool = Field(False, description="too few rows of its own: estimated by the fit of all products together")


class CandidateScore(_Record):
    """A candidate's RMSE on each fold of the cross-validation, in hours, or why it was left out."""

    rmse_folds: list[float]
    failure: str | None = None


class HoldOut(_Record):
    """The errors of the chosen candidate on the hold-out."""

    measured_on: str = "the fit without the hold-out; the stored model is the same candidate, refitted on all rows"
    rows: int
    share: float
    seed: int
    candidate: Metrics
    baseline: Metrics
    rows_champion_knows: int = Field(0, description="rows of products that champion and challenger both learned")
    candidate_where_champion_knows: Metrics | None = None
    champion: Metrics | None = None
    compared_with: Version | None = Field(None, description="the version that the champion's figures belong to")


class GateVerdict(_Record):
    """One gate's verdict, all reasons for it, and the figures that it is based on."""

    gate: str
    outcome: Outcome
    reasons: list[str]
    figures: dict[str, float]


class ColumnDrift(_Record):
    """The drift of one column since the week before: see training/drift.py."""

    psi: float
    by_chance: float = Field(description="the index stays below this if both weeks have the same distribution")
    verdict: DriftVerdict


class DriftReport(_Record):
    """This week against the week before: the drift of each column, new and vanished products."""

    dataset: str
    rows: int
    drift: dict[str, ColumnDrift]
    new_products: list[str]
    vanished_products: list[str]


class Libraries(_Record):
    """The library versions that a pickle depends on."""

    python: str
    scikit_learn: str
    numpy: str
    joblib: str


class ManifestFormat(_Record):
    """The only field of a manifest that means the same in every format; manifests before 0.1.0 lack it."""

    format: int = 1


class Manifest(ManifestFormat):
    """Everything that is known about a version."""

    version: Version
    trained_at: Moment
    git_commit: str
    dataset: DatasetRecord
    model: ModelRecord | None = Field(None, description="none for a rejected version")
    chosen: str
    candidates: dict[str, CandidateScore]
    hold_out: HoldOut
    champion_version: Version | None = None
    production_error: Metrics | None = Field(None, description="the champion's error on this week's known products")
    holdout_error: Metrics | None = Field(None, description="that champion's error on its own hold-out")
    products: dict[str, ProductProfile]
    pooled_error: dict[str, float] = Field({}, description="mean error of the pooled fit in hours, by pooled product")
    previous_week: DriftReport | None = Field(None, description="none if there is no readable week before")
    gates: list[GateVerdict]
    libraries: Libraries

    @model_validator(mode="before")
    @classmethod
    def _rename_fields_from_before_0_1_0(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "promised_error" in fields:
            return {"holdout_error": fields["promised_error"], **fields}
        return fields


class Champion(_Record):
    """Which version is served, since when and why."""

    version: Version
    previous: Version | None
    promoted_at: Moment
    reason: str
    git_commit: str

    @property
    def is_by_hand(self) -> bool:
        """Whether an engineer chose it, by `promote` or `rollback`, and not a training."""
        return BY_HAND in self.reason


def running_libraries() -> Libraries:
    """Return the library versions of this process."""
    return Libraries(
        python=platform.python_version(),
        scikit_learn=installed_version("scikit-learn"),
        numpy=installed_version("numpy"),
        joblib=installed_version("joblib"),
    )


def library_differences(made: Libraries, running: Libraries) -> list[str]:
    """Return each difference as "numpy 2.4.6 (here 2.5.5)"; of Python, a pickle depends on the minor version only."""
    return [
        f"{name.replace('_', '-')} {theirs} (here {ours})"
        for name, theirs, ours in (
            ("python", _minor(made.python), _minor(running.python)),
            ("scikit_learn", made.scikit_learn, running.scikit_learn),
            ("numpy", made.numpy, running.numpy),
            ("joblib", made.joblib, running.joblib),
        )
        if theirs != ours
    ]


def to_json(record: Manifest | Champion) -> bytes:
    """Return a record as the bytes that are stored."""
    return (record.model_dump_json(indent=2) + "\n").encode()


def describe_faults(error: ValidationError) -> str:
    """Return every fault of a record in one line, each with its field."""
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]])) for fault in error.errors()
    )


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
