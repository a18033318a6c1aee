from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from pipeline.keys import (
    CLOCK_TOLERANCE,
    SAME_WEEK,
    dataset_key,
    format_version,
    latest_dataset,
    parse_dataset_key,
    parse_timestamp,
    parse_version,
)

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SECOND, WEEK = timedelta(seconds=1), timedelta(days=7)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=offsets)


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("2026-11-20T23:00:00Z", datetime(2026, 11, 20, 23, tzinfo=UTC)),
        ("2026-11-20T23:00:00", datetime(2026, 11, 20, 23, tzinfo=UTC)),
        ("2026-11-20T23|00|00", datetime(2026, 11, 20, 23, tzinfo=UTC)),
        ("2026-11-20T23|00|00+01|00", datetime(2026, 11, 20, 22, tzinfo=UTC)),
        ("2026-11-20T23:00:00.5-05:00", datetime(2026, 11, 21, 4, 0, 0, 500_000, tzinfo=UTC)),
        ("20261120T230000Z", datetime(2026, 11, 20, 23, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
    ],
)
def test_a_datasets_timestamp_may_have_any_form_of_iso_8601(name: str, moment: datetime) -> None:
    dataset = parse_dataset_key(f"datasets/time_to_dispatch_{name}.csv")
    assert dataset is not None
    assert dataset.timestamp == moment


@pytest.mark.parametrize(
    "key",
    [
        "datasets/",
        "datasets/readme.txt",
        "datasets/time_to_dispatch_.csv",
        "datasets/time_to_dispatch_2026-13-01T00:00:00Z.csv",
        "datasets/time_to_dispatch_2026-11-20T23:00:00Z.csv.gz",
        "datasets/time_to_dispatch_2026-11-20T23:00:00Z.CSV",
        "datasets/old/time_to_dispatch_2026-11-20T23:00:00Z.csv",
        "datasets/time_to_dispatch_2026-11-20T23:00:00Z.csv\n",
        "datasets/time_to_dispatch_0001-01-01T00:00:00+14:00.csv",
        "models/time_to_dispatch_2026-11-20T23:00:00Z.csv",
    ],
)
def test_other_keys_are_ignored(key: str) -> None:
    assert parse_dataset_key(key) is None


@given(moments)
def test_a_dataset_key_names_its_moment_to_the_second(moment: datetime) -> None:
    dataset = parse_dataset_key(dataset_key(moment))
    assert dataset is not None
    assert dataset.timestamp == moment.replace(microsecond=0)


@given(moments)
def test_a_version_names_its_moment_to_the_second(moment: datetime) -> None:
    assert parse_version(format_version(moment)) == moment.replace(microsecond=0)


@given(st.text())
def test_any_text_is_a_timestamp_or_none(text: str) -> None:
    moment = parse_timestamp(text)
    assert moment is None or moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text", ["", "../../x", "time_to_dispatch_2026-11-20", "time_to_dispatch_2026-11-20T23:31:07Z/", "champion"]
)
def test_a_text_that_is_not_a_version_parses_to_none(text: str) -> None:
    assert parse_version(text) is None


@given(st.lists(moments, min_size=1))
def test_the_latest_dataset_is_so_by_its_timestamp_and_not_by_its_place_in_the_listing(when: list[datetime]) -> None:
    past = [moment for moment in when if moment.replace(microsecond=0) <= NOW]
    newest = latest_dataset(sorted(dataset_key(moment) for moment in when), NOW + timedelta(days=40_000)).newest
    assert newest is not None
    assert newest.timestamp == max(when).replace(microsecond=0).astimezone(UTC)
    assert (latest_dataset([dataset_key(moment) for moment in past], NOW).newest is None) == (not past)


def test_a_text_order_that_differs_from_the_time_order_does_not_count() -> None:
    earlier, later = (
        f"datasets/time_to_dispatch_{name}.csv" for name in ("2026-11-20T23:00:00+02:00", "2026-11-20T22:30:00Z")
    )
    assert earlier > later
    newest = latest_dataset([later, earlier], NOW).newest
    assert newest is not None
    assert newest.key == later


def test_a_dataset_dated_more_than_an_hour_ahead_is_passed_over_and_named() -> None:
    within, beyond = (dataset_key(NOW + CLOCK_TOLERANCE + timedelta(seconds=seconds)) for seconds in (0, 1))
    latest = latest_dataset([beyond, within], NOW)
    assert latest.newest is not None
    assert latest.newest.key == within
    assert [dataset.key for dataset in latest.dated_ahead] == [beyond]


def test_the_week_before_is_another_week_and_not_an_earlier_upload_of_the_same() -> None:
    newest, same, other, older = (dataset_key(NOW - ago) for ago in (timedelta(0), SAME_WEEK - SECOND, SAME_WEEK, WEEK))
    assert latest_dataset([newest, same], NOW).previous is None
    previous = latest_dataset([newest, same, other, older], NOW).previous
    assert previous is not None
    assert previous.key == other
