"""S3 over its wire protocol: the only module that knows boto3.

Configured like every AWS client: environment, IRSA, `AWS_ENDPOINT_URL` for any S3-compatible store. S3's answers are
translated into the project's errors; what S3 is asked for is always named by bucket and key.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

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

from pipeline.errors import ObjectNotFound, StoreError, StoreRefused, StoreUnreachable, WriteConflict
from pipeline.utils import TimeIsUp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 5  # of each call, with boto3's back-off and jitter between: a refused connection is tried for about 0.5 s
CONNECT_SECONDS = 3  # time-outs of one attempt
READ_SECONDS = 10
BODY_ATTEMPTS = 3  # boto3 retries the call, but not a body that breaks off or is damaged while it is read


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes, and the ETag and version that they were read at."""

    key: str
    body: bytes
    etag: str
    version_id: str | None


class ObjectStore:
    """One bucket."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    @classmethod
    def connect(cls, bucket: str) -> Self:
        """Set up a client, without a call yet; the environment's AWS_MAX_ATTEMPTS goes before ATTEMPTS."""
        doing = f"setting up S3 for bucket {bucket}"
        with _translated(doing):
            try:
                attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))
                config = Config(
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                )
                return cls(boto3.Session().client("s3", config=config), bucket)
            except ValueError as error:  # AWS_MAX_ATTEMPTS that is no number, AWS_ENDPOINT_URL that is no address
                raise StoreRefused(f"{doing}: {error}") from error

    def get(self, key: str) -> StoredObject:
        """Read a whole object, its checksum verified; ObjectNotFound if there is none."""
        for attempts_left in reversed(range(BODY_ATTEMPTS)):
            with _translated(f"reading {self._address(key)}"):
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
                try:
                    body = answer["Body"].read()
                except (HTTPClientError, IncompleteReadError, FlexibleChecksumError):
                    if attempts_left:
                        continue
                    raise
                return StoredObject(key, body, answer["ETag"], answer.get("VersionId"))
        raise AssertionError("the last attempt returns or raises")

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that begins with `prefix`, page after page."""
        with _translated(f"listing {self._address(prefix)}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                yield from (entry["Key"] for entry in page.get("Contents", []))

    def put_new(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object where there is none; WriteConflict if another was there first."""
        with self._own_write_recognised(key, body), _translated(f"writing {self._address(key)}"):
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
            )

    def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
        """Write an object in the place of the one that was read at `etag`; WriteConflict if it is another by now."""
        with self._own_write_recognised(key, body), _translated(f"replacing {self._address(key)}"):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, IfMatch=etag
                )
            except self._client.exceptions.NoSuchKey as error:
                raise WriteConflict(f"replacing {self._address(key)}: it was deleted meanwhile") from error

    @contextmanager
    def _own_write_recognised(self, key: str, body: bytes) -> Iterator[None]:
        """When an answer is lost, boto3 writes again, and the second try meets what the first one wrote."""
        try:
            yield
        except WriteConflict:
            try:
                stored = self.get(key)
            except ObjectNotFound:
                stored = None
            if stored is None or stored.body != body:
                raise

    def _address(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        kind, what = _understand(error)
        raise kind(f"{doing}: {what} (tried for {time.monotonic() - start:.1f} s)") from error
    except TimeIsUp as error:
        raise StoreUnreachable(f"{doing}: {error} (tried for {time.monotonic() - start:.1f} s)") from error


def _understand(error: BotoCoreError | ClientError) -> tuple[type[StoreError], str]:
    text = " ".join(str(error).split())
    if not isinstance(error, ClientError):
        transient = (BotoConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError)
        return (StoreUnreachable if isinstance(error, transient) else StoreRefused), text
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("NoSuchKey", "404"):
        return ObjectNotFound, "there is no such object"
    if status == 412 or code == "ConditionalRequestConflict":
        return WriteConflict, "another writer was faster"
    if code == "AccessDenied":  # S3 says so too of a missing object to those who may not list the bucket
        return StoreRefused, f"{text} (not permitted, or there is no such object)"
    return (StoreUnreachable if status >= 500 else StoreRefused), text
