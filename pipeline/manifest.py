"""What is kept beside a model, so that a year from now somebody can say where it came from and why it was let in."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from pipeline.keys import parse_version

Outcome = Literal["pass", "warn", "reject"]
DriftVerdict = Literal["stable", "moderate", "major"]
MODERATE_DRIFT, MAJOR_DRIFT = 0.1, 0.25  # of the population stability index, unless chance reaches it: pipeline.drift
DRIFT_SOURCE = "Siddiqi, Credit Risk Scorecards, 2006"
GateName = Literal["accuracy", "baseline", "champion", "behaviour", "behaviour_of_refit", "freshness"]


def _check_version(text: str) -> str:
    if parse_version(text) is None:
        raise ValueError(f"{text!r} is no version, one reads like time_to_dispatch_2026-11-20T23:31:07Z")
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # an offset that leads out of the years 1 to 9999
        raise ValueError(str(error)) from error


Version = Annotated[str, AfterValidator(_check_version)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Record(BaseModel):
    # what a later version of the code adds is ignored: after it is rolled back, its models still load
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class DatasetRecord(_Record):
    """The very bytes that were trained on."""

    key: str
    etag: str
    version_id: str | None
    sha256: Sha256
    rows: int


class ModelRecord(_Record):
    """The very bytes of model.joblib."""

    sha256: Sha256
    size_bytes: int


class Metrics(_Record):
    """Errors in hours (rmse, mae) and the share of the variance explained (r2)."""

    rmse: float
    mae: float
    r2: float


class ProductProfile(_Record):
    """What was seen of a product: its rows, and the ranges of orders placed and of hours."""

    rows: int
    orders_min: float
    orders_max: float
    hours_min: float
    hours_max: float
    pooled: bool = Field(description="too few rows to learn from: answered by the fit of all products together")


class CandidateScore(_Record):
    """A candidate's RMSE, in hours, on each fold of the cross-validation, or why it was left out."""

    rmse_folds: list[float]
    failure: str | None = None


class HoldOut(_Record):
    """How the chosen candidate did on the rows held out."""

    measured_on: str = "the fit without the hold-out; the stored model is the same candidate, refitted on all rows"
    rows: int
    share: float
    seed: int
    candidate: Metrics
    baseline: Metrics
    rows_champion_knows: int = Field(description="of products that both learnt")
    candidate_where_champion_knows: Metrics | None
    champion: Metrics | None
    compared_with: Version | None = Field(None, description="whose the champion's figures are, usually the champion's")


class GateVerdict(_Record):
    """One gate's verdict, every reason for it, and the figures that it was made on."""

    gate: GateName
    outcome: Outcome
    reasons: list[str]
    figures: dict[str, float]


class ColumnDrift(_Record):
    """How far a column's distribution is from the previous week's: see pipeline.drift."""

    psi: float
    by_chance: float = Field(description="what the index of two samples of one distribution stays below")
    verdict: DriftVerdict


class DriftReport(_Record):
    """The week against the one before: which that was, the drift per column, new and vanished products."""

    dataset: str
    rows: int
    drift: dict[str, ColumnDrift]
    new_products: list[str]
    vanished_products: list[str]


class Libraries(_Record):
    """The versions that a pickle depends on."""

    python: str
    scikit_learn: str
    numpy: str
    joblib: str


class Manifest(_Record):
    """All that is known of a version; it is written last, and a model without one does not exist."""

    version: Version
    trained_at: Moment
    git_commit: str
    dataset: DatasetRecord
    model: ModelRecord | None = Field(description="none for a rejected version")
    chosen: str
    candidates: dict[str, CandidateScore]
    hold_out: HoldOut
    champion_version: Version | None
    production_error: Metrics | None = Field(description="the champion's error on all rows of this week it knows")
    holdout_error: Metrics | None = Field(None, description="what that champion's own manifest says of its hold-out")
    products: dict[str, ProductProfile]
    pooled_error: dict[str, float] = Field({}, description="mean hours that the pooled fit is off, by product with it")
    previous_week: DriftReport | None = Field(default=None, description="none if there is none that can be read")
    gates: list[GateVerdict]
    libraries: Libraries

    @model_validator(mode="before")
    @classmethod
    def _read_names_before_0_1_0(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "promised_error" in fields:
            return {"holdout_error": fields["promised_error"], **fields}
        return fields


BY_HAND = "by hand:"  # in the reason of a promotion that no training made


class Champion(_Record):
    """Which version is served, since when and why."""

    version: Version
    previous: Version | None
    promoted_at: Moment
    reason: str
    git_commit: str

    @property
    def is_by_hand(self) -> bool:
        """Did somebody choose it, by `promote` or `rollback`? Else a training did."""
        return BY_HAND in self.reason


def running_libraries() -> Libraries:
    """The versions in this process."""
    return Libraries(
        python=platform.python_version(),
        scikit_learn=installed_version("scikit-learn"),
        numpy=installed_version("numpy"),
        joblib=installed_version("joblib"),
    )
