"""Fixtures of the registry's tests."""

import logging
from collections.abc import Iterator

import pytest

from pipeline.registry.champion import ChampionRegistry
from tests.conftest import Bucket


@pytest.fixture
def registry(trained_bucket: Bucket) -> ChampionRegistry:
    """The registry of a bucket with one champion."""
    return ChampionRegistry(trained_bucket.store)


@pytest.fixture(autouse=True)
def only_warnings_are_captured(caplog: pytest.LogCaptureFixture) -> None:
    """Keeps the S3 server's own log lines out of caplog."""
    caplog.set_level(logging.WARNING)


@pytest.fixture(autouse=True)
def log_handlers_are_restored() -> Iterator[None]:
    """The command line replaces the handlers of the root logger."""
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
