"""How keys and versions are spelt on S3."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DATASETS = "datasets/"
MODELS = "models/"
REJECTED = "rejected/"
CHAMPION_KEY = "models/champion.json"
HISTORY = "models/history/"

SAME_WEEK = timedelta(days=3)  # uploads closer than this are of one week, the later one a correction
CLOCK_TOLERANCE = timedelta(hours=1)  # a dataset dated further ahead than this is somebody's mistake

_DATASET_KEY = re.compile(r"datasets/time_to_dispatch_(?P<timestamp>\d[\dTWZ:.,|+-]*)\.csv", re.ASCII)
_MANIFEST_KEY = re.compile(r"(?:models|rejected)/(?P<version>[^/]+)/manifest\.json")
_VERSION = re.compile(r"time_to_dispatch_(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.ASCII)


@dataclass(frozen=True)
class DatasetKey:
    """A dataset's key on S3 and the moment, in UTC, that its name says."""

    key: str
    timestamp: datetime


@dataclass(frozen=True)
class LatestDataset:
    """The newest dataset and the one of the week before, if there are any, and those dated ahead of the clock."""

    newest: DatasetKey | None
    previous: DatasetKey | None
    dated_ahead: list[DatasetKey]


def parse_timestamp(text: str) -> datetime | None:
    """Read an ISO 8601 date or date and time as UTC, with `|` for `:` allowed; None for anything else."""
    try:
        moment = datetime.fromisoformat(text.replace("|", ":"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: an offset that leads out of the years 1 to 9999
        return None


def parse_dataset_key(key: str) -> DatasetKey | None:
    """Read a key as a dataset's; None for a key that is none."""
    match = _DATASET_KEY.fullmatch(key)
    timestamp = match and parse_timestamp(match["timestamp"])
    return DatasetKey(key, timestamp) if timestamp else None


def dataset_key(timestamp: datetime) -> str:
    """Spell the key under which the data team stores the week that ends at `timestamp` (aware)."""
    return f"{DATASETS}time_to_dispatch_{_format_timestamp(timestamp)}.csv"


def latest_dataset(keys: Iterable[str], now: datetime) -> LatestDataset:
    """Find the newest dataset by the timestamps in the names; keys that are no dataset's are ignored.

    Two spellings of one moment are told apart by their keys, so that the same listing has the same answer always.
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
    """Spell the version of a model trained at `moment` (aware), to the second."""
    return f"time_to_dispatch_{_format_timestamp(moment)}"


def parse_version(text: str) -> datetime | None:
    """The moment of training that a version names; None for a text that is no version."""
    match = _VERSION.fullmatch(text)
    return parse_timestamp(match["timestamp"]) if match else None


def model_key(version: str) -> str:
    """Spell the key of a version's estimator."""
    return f"{MODELS}{version}/model.joblib"


def manifest_key(version: str) -> str:
    """Spell the key of an accepted version's manifest."""
    return f"{MODELS}{version}/manifest.json"


def rejected_manifest_key(version: str) -> str:
    """Spell the key of a rejected version's manifest."""
    return f"{REJECTED}{version}/manifest.json"


def champion_record_key(promoted_at: datetime, sha256: str) -> str:
    """Spell the key under which a champion pointer is kept when another takes its place."""
    return f"{HISTORY}{_format_timestamp(promoted_at)}-{sha256[:12]}.json"


def report_key(version: str) -> str:
    """Spell the key of an accepted version's report."""
    return f"{MODELS}{version}/report.html"


def rejected_report_key(version: str) -> str:
    """Spell the key of a rejected version's report."""
    return f"{REJECTED}{version}/report.html"


def version_of_manifest(key: str) -> str | None:
    """The version whose manifest lies under this key; None for any other key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return match["version"] if match and parse_version(match["version"]) else None


def _format_timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
