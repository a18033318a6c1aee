"""The names of objects on S3: keys, versions and timestamps."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DATASETS = "datasets/"
MODELS = "models/"
REJECTED = "rejected/"
CHAMPION_KEY = "models/champion.json"
HISTORY = "models/history/"

SAME_WEEK = timedelta(days=3)  # of two uploads closer than this, the later one corrects the earlier one
CLOCK_TOLERANCE = timedelta(hours=1)  # a dataset dated further ahead is a mistake

_DATASET_KEY = re.compile(r"datasets/time_to_dispatch_(?P<timestamp>\d[\dTWZ:.,|+-]*)\.csv", re.ASCII)
_MANIFEST_KEY = re.compile(r"(?:models|rejected)/(?P<version>[^/]+)/manifest\.json")
_VERSION = re.compile(r"time_to_dispatch_(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.ASCII)


@dataclass(frozen=True)
class DatasetKey:
    """A dataset's key on S3, and the moment in its name, in UTC."""

    key: str
    timestamp: datetime


@dataclass(frozen=True)
class LatestDataset:
    """The newest dataset, the one of the week before, and the datasets that are dated ahead of the clock."""

    newest: DatasetKey | None
    previous: DatasetKey | None
    dated_ahead: list[DatasetKey]


def parse_timestamp(text: str) -> datetime | None:
    """Parse an ISO 8601 date, or date and time, as UTC; `|` may stand for `:`. None for any other text."""
    try:
        moment = datetime.fromisoformat(text.replace("|", ":"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: the offset leads out of the years 1 to 9999
        return None


def parse_dataset_key(key: str) -> DatasetKey | None:
    """Parse the key of a dataset; None for any other key."""
    match = _DATASET_KEY.fullmatch(key)
    timestamp = match and parse_timestamp(match["timestamp"])
    return DatasetKey(key, timestamp) if timestamp else None


def dataset_key(timestamp: datetime) -> str:
    """Return the key of the week that ends at `timestamp` (aware)."""
    return f"{DATASETS}time_to_dispatch_{_format_timestamp(timestamp)}.csv"


def latest_dataset(keys: Iterable[str], now: datetime) -> LatestDataset:
    """Find the newest dataset by the timestamps in the keys; other keys are ignored.

    Of two keys for the same moment, the one that sorts last is newer: the same listing always gives the same answer.
    """
    datasets = sorted(
        (dataset for key in keys if (dataset := parse_dataset_key(key))),
        key=lambda dataset: (dataset.timestamp, dataset.key),
    )
    dated_ahead = [dataset for dataset in datasets if dataset.timestamp - now > CLOCK_TOLERANCE]
    current = datasets[: len(datasets) - len(dated_ahead)]
    newest = current[-1] if current else None
    earlier = [dataset for dataset in current if newest and newest.timestamp - dataset.timestamp >= SAME_WEEK]
    return LatestDataset(newest, earlier[-1] if earlier else None, dated_ahead)


def format_version(moment: datetime) -> str:
    """Return the version of a model that was trained at `moment` (aware), to the second."""
    return f"time_to_dispatch_{_format_timestamp(moment)}"


def parse_version(text: str) -> datetime | None:
    """Return the moment of training in a version; None for any other text."""
    match = _VERSION.fullmatch(text)
    return parse_timestamp(match["timestamp"]) if match else None


def model_key(version: str) -> str:
    """Return the key of a version's estimator."""
    return f"{MODELS}{version}/model.joblib"


def manifest_key(version: str) -> str:
    """Return the key of an accepted version's manifest."""
    return f"{MODELS}{version}/manifest.json"


def rejected_manifest_key(version: str) -> str:
    """Return the key of a rejected version's manifest."""
    return f"{REJECTED}{version}/manifest.json"


def champion_record_key(promoted_at: datetime, sha256: str) -> str:
    """Return the key under which a champion pointer is kept when it is replaced."""
    return f"{HISTORY}{_format_timestamp(promoted_at)}-{sha256[:12]}.json"


def report_key(version: str) -> str:
    """Return the key of an accepted version's report."""
    return f"{MODELS}{version}/report.html"


def rejected_report_key(version: str) -> str:
    """Return the key of a rejected version's report."""
    return f"{REJECTED}{version}/report.html"


def version_of_manifest(key: str) -> str | None:
    """Return the version whose manifest has this key; None for any other key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return match["version"] if match and parse_version(match["version"]) else None


def _format_timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
