"""S3 over its wire protocol: the only module that knows boto3.

Configured like every AWS client: environment, IRSA, `AWS_ENDPOINT_URL` for any S3-compatible store. S3's answers are
translated into the project's errors; what S3 is asked for is always named by bucket and key.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError as UrllibError

from pipeline.errors import ObjectNotFound, StoreError, StoreRefused, StoreUnreachable, WriteConflict
from pipeline.utils import Interrupted

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 6  # of each call; between them 0.5, 1, 2, 4 and 8 s and some jitter: a store that restarts is waited for
MIN_WAIT_SECONDS = 0.5  # seconds
MAX_WAIT_SECONDS = 8.0
CONNECT_SECONDS = 3  # time-outs of one attempt
READ_SECONDS = 10
PASSING = frozenset({"RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "SlowDown"})
PASSING_ERRORS = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    UrllibError,
)

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes, and the ETag and version that they were read at."""

    key: str
    body: bytes
    etag: str
    version_id: str | None


class ObjectStore:
    """One bucket; each call is tried up to `attempts` times, if what went wrong may pass.

    boto3's own retries are off: they give up on a refused connection within a second, and know nothing of a body that
    breaks off while it is read.
    """

    def __init__(self, client: "S3Client", bucket: str, attempts: int = ATTEMPTS) -> None:
        self._client = client
        self._bucket = bucket
        self._attempts = attempts

    @classmethod
    def connect(cls, bucket: str) -> Self:
        """Set up a client, without a call yet; the environment's AWS_MAX_ATTEMPTS goes before ATTEMPTS."""
        doing = f"setting up S3 for bucket {bucket}"
        try:
            attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))
            if attempts < 1:
                raise ValueError(f"AWS_MAX_ATTEMPTS is {attempts}, at least 1 is needed")
            config = Config(
                retries={"total_max_attempts": 1}, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS
            )
            return cls(boto3.Session().client("s3", config=config), bucket, attempts)
        except (BotoCoreError, ValueError, OSError) as error:  # no address, no number, no file where it is said to be
            raise StoreRefused(f"{doing}: {error}") from error

    def get(self, key: str) -> StoredObject:
        """Read a whole object, its checksum verified if it has one; ObjectNotFound if there is none."""

        def read() -> StoredObject:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            body = answer["Body"].read()
            if "ETag" not in answer:
                raise StoreRefused(f"reading {self._address(key)}: the answer has no ETag, so it is not of an S3")
            return StoredObject(key, body, answer["ETag"], answer.get("VersionId"))

        return self._try(f"reading {self._address(key)}", read)

    def keys(self, prefix: str) -> list[str]:
        """Every key that begins with `prefix`, page after page."""

        def read() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

        return self._try(f"listing {self._address(prefix)}", read)

    def put_new(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object where there is none; WriteConflict if another was there first."""

        def write() -> None:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")

        with self._own_write_recognised(key, body):
            self._try(f"writing {self._address(key)}", write, writes=True)

    def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
        """Write an object in the place of the one that was read at `etag`; WriteConflict if it is another by now."""
        doing = f"replacing {self._address(key)}"

        def write() -> None:
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfMatch=etag)
            except self._client.exceptions.NoSuchKey as error:
                raise WriteConflict(f"{doing}: it was deleted meanwhile") from error

        with self._own_write_recognised(key, body):
            self._try(doing, write, writes=True)

    @contextmanager
    def _own_write_recognised(self, key: str, body: bytes) -> Iterator[None]:
        """When an answer is lost, the same is written again, and the second try meets what the first one wrote."""
        try:
            yield
        except WriteConflict:
            try:
                stored = self.get(key)
            except ObjectNotFound:
                stored = None
            if stored is None or stored.body != body:
                raise

    def _try(self, doing: str, call: Callable[[], Answer], *, writes: bool = False) -> Answer:
        """Make a call until it succeeds, fails for good or was tried often enough; a StoreError says what happened."""

        def warn(state: RetryCallState) -> None:
            assert state.outcome is not None
            assert state.next_action is not None
            log.warning("%s: %s: again in %.1f s.", doing, _text(state.outcome.exception()), state.next_action.sleep)

        tries = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(multiplier=MIN_WAIT_SECONDS, max=MAX_WAIT_SECONDS, jitter=MIN_WAIT_SECONDS),
            before_sleep=warn,
            reraise=True,
        )
        start = time.monotonic()
        try:
            return tries(call)
        except (BotoCoreError, ClientError, ResponseParserError, UrllibError) as error:
            kind, what = _understand(error)
            if writes and kind is StoreRefused and tries.statistics["attempt_number"] > 1:
                kind = StoreUnreachable  # a try before may have been carried out
            raise kind(f"{doing}: {what} (tried for {time.monotonic() - start:.1f} s)") from error
        except OSError as error:  # where the credentials are said to be: a token's file, a credential_process
            raise StoreRefused(f"{doing}: {error}") from error
        except Interrupted as error:
            raise type(error)(f"{doing}: {error} (tried for {time.monotonic() - start:.1f} s)") from error

    def _address(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _may_pass(error: BaseException) -> bool:
    """May the next try succeed?"""
    if isinstance(error, ClientError):
        return _code(error) in PASSING or _status(error) >= 500
    return isinstance(error, PASSING_ERRORS)


def _understand(error: Exception) -> tuple[type[StoreError], str]:
    text = _text(error)
    if _may_pass(error):
        return StoreUnreachable, text
    if not isinstance(error, ClientError):
        return StoreRefused, text
    if _code(error) in ("NoSuchKey", "404"):
        return ObjectNotFound, "there is no such object"
    if _status(error) == 412 or _code(error) == "ConditionalRequestConflict":
        return WriteConflict, "another writer was faster"
    if _code(error) == "AccessDenied":  # S3 says so too of a missing object to those who may not list the bucket
        return StoreRefused, f"{text} (not permitted, or there is no such object)"
    return StoreRefused, text


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _text(error: BaseException | None) -> str:
    """What went wrong, without what is botocore's own affair, and without a credential that stands in it."""
    text = " ".join(str(error).split())
    if isinstance(error, ClientError) and not _code(error):
        text = f"HTTP status {_status(error)}, without a word of S3's"
    return re.sub(r" \(reached max retries: \d+\)", "", re.sub(r"(Credential|Signature)=[^, ']+", r"\1=...", text))
