"""S3 over its wire protocol; the only module that uses boto3.

It is configured like every AWS client: by the environment, by IRSA, and by `AWS_ENDPOINT_URL` for other S3-compatible
stores. It translates S3's answers into the project's errors, and each error names bucket and key.
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
    ConnectionError as BotoConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError as UrllibError

from pipeline.errors import ObjectNotFound, StoreError, StoreRefused, StoreUnreachable, WriteConflict
from pipeline.utils import Interrupted

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 6  # for each call, 0.5, 1, 2, 4 and 8 s apart with some jitter: enough for a store that restarts
MIN_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 8.0
CONNECT_SECONDS = 3  # time limits of one attempt
READ_SECONDS = 10
NO_ETAG = "the answer has no ETag, so this is not an S3 server: check AWS_ENDPOINT_URL"
RETRYABLE_CODES = frozenset({"RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "SlowDown"})
RETRYABLE_ERRORS = (
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
    """An object's bytes, and the ETag and version that they had when they were read."""

    key: str
    body: bytes
    etag: str
    version_id: str | None


class ObjectStore:
    """One bucket. Each call is tried up to `attempts` times, as long as the failure may be temporary.

    boto3's own retries are off: they give up on a refused connection within a second, and they do not retry a body that
    breaks off while it is read.
    """

    def __init__(self, client: "S3Client", bucket: str, attempts: int = ATTEMPTS) -> None:
        self._client = client
        self._bucket = bucket
        self._attempts = attempts

    @classmethod
    def connect(cls, bucket: str) -> Self:
        """Set up a client without making a call; AWS_MAX_ATTEMPTS from the environment overrides ATTEMPTS."""
        doing = f"setting up S3 for bucket {bucket}"
        try:
            attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))
            if attempts < 1:
                raise ValueError(f"AWS_MAX_ATTEMPTS is {attempts} (expected at least 1)")
            config = Config(
                retries={"total_max_attempts": 1}, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS
            )
            return cls(boto3.Session().client("s3", config=config), bucket, attempts)
        except (BotoCoreError, ValueError, OSError) as error:  # a setting or a file of the environment is wrong
            raise StoreRefused(f"{doing}: {error}") from error

    def get(self, key: str) -> StoredObject:
        """Read a whole object and verify its checksum, if it has one; ObjectNotFound if the key does not exist."""

        def read() -> StoredObject:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            body = answer["Body"].read()
            if "ETag" not in answer:
                raise StoreRefused(f"reading {self._address(key)}: {NO_ETAG}")
            return StoredObject(key, body, answer["ETag"], answer.get("VersionId"))

        return self._try(f"reading {self._address(key)}", read)

    def keys(self, prefix: str) -> list[str]:
        """Return every key that begins with `prefix`."""

        def read() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

        return self._try(f"listing {self._address(prefix)}", read)

    def put_new(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object under a new key; WriteConflict if the key exists."""

        def write() -> None:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")

        with self._recognise_own_write(key, body):
            self._try(f"writing {self._address(key)}", write, writes=True)

    def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
        """Replace the object that had this ETag when it was read; WriteConflict if it has changed since."""
        doing = f"replacing {self._address(key)}"

        def write() -> None:
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfMatch=etag)
            except self._client.exceptions.NoSuchKey as error:
                raise WriteConflict(f"{doing}: another writer deleted it") from error

        with self._recognise_own_write(key, body):
            self._try(doing, write, writes=True)

    @contextmanager
    def _recognise_own_write(self, key: str, body: bytes) -> Iterator[None]:
        """Suppress a WriteConflict with ourselves: after a lost answer, the retry finds what the first try wrote."""
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
        """Retry a call until it succeeds or fails for good; raise a StoreError that says what happened."""

        def warn(state: RetryCallState) -> None:
            assert state.outcome is not None
            assert state.next_action is not None
            log.warning(
                "Failed %s: %s. Trying again in %.1f s.",
                doing,
                _text(state.outcome.exception()),
                state.next_action.sleep,
            )

        tries = Retrying(
            retry=retry_if_exception(_is_temporary),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(multiplier=MIN_WAIT_SECONDS, max=MAX_WAIT_SECONDS, jitter=MIN_WAIT_SECONDS),
            before_sleep=warn,
            reraise=True,
        )
        start = time.monotonic()
        try:
            return tries(call)
        except (BotoCoreError, ClientError, ResponseParserError, UrllibError) as error:
            kind, what = _translate(error)
            if writes and kind is StoreRefused and tries.statistics["attempt_number"] > 1:
                kind = StoreUnreachable  # an earlier try may have been carried out
            raise kind(f"{doing}: {what} (tried for {time.monotonic() - start:.1f} s)") from error
        except OSError as error:  # a file of credentials, or a credential_process
            raise StoreRefused(f"{doing}: {error}") from error
        except Interrupted as error:
            raise type(error)(f"{doing}: {error} (tried for {time.monotonic() - start:.1f} s)") from error

    def _address(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _is_temporary(error: BaseException) -> bool:
    """Whether the next try may succeed."""
    if isinstance(error, ClientError):
        return _code(error) in RETRYABLE_CODES or _status(error) >= 500
    return isinstance(error, RETRYABLE_ERRORS)


def _translate(error: Exception) -> tuple[type[StoreError], str]:
    text = _text(error)
    if _is_temporary(error):
        return StoreUnreachable, text
    if not isinstance(error, ClientError):
        return StoreRefused, text
    if _code(error) in ("NoSuchKey", "404"):
        return ObjectNotFound, "the object does not exist"
    if _status(error) == 412 or _code(error) == "ConditionalRequestConflict":
        return WriteConflict, "another writer changed it first"
    if _code(error) == "AccessDenied":  # S3 also answers so for a missing object, unless the caller may list the bucket
        return StoreRefused, f"{text} (not permitted, or the object does not exist)"
    return StoreRefused, text


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _text(error: BaseException | None) -> str:
    """Return the message without credentials and without botocore's own count of retries."""
    text = " ".join(str(error).split())
    if isinstance(error, ClientError) and not _code(error):
        text = f"HTTP status {_status(error)} without an S3 error code"
    return re.sub(r" \(reached max retries: \d+\)", "", re.sub(r"(Credential|Signature)=[^, ']+", r"\1=...", text))
