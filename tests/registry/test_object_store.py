"""The contract with S3, on moto and on SeaweedFS; and, on SeaweedFS alone, what moto does not hold to."""

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from moto.server import ThreadedMotoServer

from local.s3_server import s3_server
from pipeline.errors import ObjectNotFound, StoreError, StoreRefused, StoreUnreachable, WriteConflict
from pipeline.registry.object_store import ObjectStore
from tests.conftest import Bucket, free_port, free_ports

TEXT = "text/plain"


@pytest.fixture(params=["moto", pytest.param("seaweedfs", marks=pytest.mark.seaweedfs)])
def any_bucket(request: pytest.FixtureRequest) -> Bucket:
    name = "bucket" if request.param == "moto" else "seaweedfs_bucket"
    bucket: Bucket = request.getfixturevalue(name)
    return bucket


def connect(monkeypatch: pytest.MonkeyPatch, bucket: str, environment: dict[str, str], **changed: str) -> ObjectStore:
    for name, value in {**environment, "AWS_MAX_ATTEMPTS": "1", **changed}.items():
        monkeypatch.setenv(name, value)
    return ObjectStore.connect(bucket)


def test_a_written_object_is_read_back(any_bucket: Bucket) -> None:
    any_bucket.store.put_new("models/a|b c", b"\0\xff", TEXT)
    stored = any_bucket.store.get("models/a|b c")
    assert (stored.key, stored.body) == ("models/a|b c", b"\0\xff")


def test_a_missing_object_is_not_found(any_bucket: Bucket) -> None:
    with pytest.raises(ObjectNotFound, match="reading s3://bucket-.*/models/none: the object does not exist"):
        any_bucket.store.get("models/none")


@pytest.mark.seaweedfs
def test_a_listing_goes_on_over_its_pages_and_stays_below_its_prefix(seaweedfs_bucket: Bucket) -> None:
    expected = [f"datasets/{number:04}" for number in range(1_010)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: seaweedfs_bucket.put(key, b""), [*expected, "models/x"]))
    assert list(seaweedfs_bucket.store.keys("datasets/")) == expected


def test_a_new_object_is_not_written_over_an_old_one(any_bucket: Bucket) -> None:
    any_bucket.store.put_new("key", b"first", TEXT)
    with pytest.raises(WriteConflict, match="writing s3://bucket-.*/key: another writer changed it first"):
        any_bucket.store.put_new("key", b"second", TEXT)
    assert any_bucket.get("key") == b"first"


def test_a_retried_write_does_not_conflict_with_its_first_try(any_bucket: Bucket) -> None:
    any_bucket.store.put_new("key", b"same", TEXT)
    any_bucket.store.put_new("key", b"same", TEXT)
    read_before = any_bucket.store.get("key").etag
    any_bucket.store.replace("key", b"next", TEXT, read_before)
    any_bucket.store.replace("key", b"next", TEXT, read_before)
    assert any_bucket.get("key") == b"next"


def test_an_object_is_replaced_only_as_it_was_read(any_bucket: Bucket) -> None:
    any_bucket.put("key", b"as it was read")
    etag = any_bucket.store.get("key").etag
    any_bucket.put("key", b"changed meanwhile")
    with pytest.raises(WriteConflict, match="replacing s3://bucket-.*/key: another writer changed it first"):
        any_bucket.store.replace("key", b"mine", TEXT, etag)
    assert any_bucket.get("key") == b"changed meanwhile"


def test_a_deleted_object_is_not_replaced(any_bucket: Bucket) -> None:
    any_bucket.put("key", b"as it was read")
    etag = any_bucket.store.get("key").etag
    any_bucket.delete("key")
    with pytest.raises(WriteConflict):
        any_bucket.store.replace("key", b"mine", TEXT, etag)
    assert any_bucket.keys() == []


@pytest.mark.parametrize("writer", ["put_new", "replace"])
@pytest.mark.seaweedfs
def test_of_several_writers_at_the_same_time_exactly_one_wins(seaweedfs_bucket: Bucket, writer: str) -> None:
    seaweedfs_bucket.put("old", b"old")
    etag = seaweedfs_bucket.store.get("old").etag
    together = threading.Barrier(8)

    def write(number: int) -> bool:
        together.wait()
        try:
            if writer == "put_new":
                seaweedfs_bucket.store.put_new("new", str(number).encode(), TEXT)
            else:
                seaweedfs_bucket.store.replace("old", str(number).encode(), TEXT, etag)
        except WriteConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert seaweedfs_bucket.get("new" if writer == "put_new" else "old") == str(won.index(True)).encode()


def test_a_bucket_that_does_not_exist_is_named(
    moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(monkeypatch, "no-such-bucket", moto_environment)
    with pytest.raises(StoreRefused, match="listing s3://no-such-bucket/datasets/: .*NoSuchBucket"):
        list(store.keys("datasets/"))


@pytest.mark.parametrize("name", ["Not A Bucket", "", "a/b"])
def test_a_bucket_name_that_cannot_be_one_is_refused(
    name: str, moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreRefused):
        connect(monkeypatch, name, moto_environment).get("key")


@pytest.mark.parametrize(
    "changed",
    [{"AWS_MAX_ATTEMPTS": "many"}, {"AWS_MAX_ATTEMPTS": "0"}, {"AWS_ENDPOINT_URL": "nonsense"}],
)
def test_a_setting_that_makes_no_sense_is_one_clear_line(
    changed: dict[str, str], moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreRefused, match="^setting up S3 for bucket bucket: [^\n]+$"):
        connect(monkeypatch, "bucket", {**moto_environment, **changed}, **changed)


def test_no_credentials_are_one_clear_line(moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(monkeypatch, "bucket", {"AWS_ENDPOINT_URL": moto_environment["AWS_ENDPOINT_URL"]})
    with pytest.raises(StoreRefused, match="reading s3://bucket/key: Unable to locate credentials"):
        store.get("key")


def test_an_s3_that_is_not_there_is_named_with_how_long_it_was_tried(
    moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    store = connect(monkeypatch, "bucket", moto_environment, AWS_ENDPOINT_URL=nowhere)
    with pytest.raises(StoreUnreachable, match=rf"reading s3://bucket/key: .*{nowhere}.* \(tried for \d+\.\d s\)"):
        store.get("key")


class NoS3(http.server.BaseHTTPRequestHandler):
    """Answers anything with a page, and with the status that its class says."""

    status = 200

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """Greet."""
        self.send_response(self.status)
        self.send_header("Content-Length", "13")
        self.end_headers()
        self.wfile.write(b"<html></html>")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (200, "the answer has no ETag, so this is not an S3 server: check AWS_ENDPOINT_URL"),
        (403, "HTTP status 403"),
        (404, "HTTP status 404"),
    ],
)
def test_an_answer_that_is_not_of_an_s3_is_one_clear_line(
    status: int, problem: str, moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoS3, "status", status)
    with http.server.HTTPServer(("127.0.0.1", 0), NoS3) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        store = connect(monkeypatch, "bucket", moto_environment, AWS_ENDPOINT_URL=address)
        with pytest.raises(StoreError, match=rf"^reading s3://bucket/key: {problem}"):
            store.get("key")
        server.shutdown()


class LosesThenRefuses(NoS3):
    """Takes the first write and says nothing; refuses the second."""

    taken: ClassVar[list[str]] = []

    def do_PUT(self) -> None:  # noqa: N802 - the library's name
        """Lose the answer, or refuse."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(self.path)
        if len(self.taken) == 1:
            self.close_connection = True
        else:
            self.do_GET()


def test_a_write_whose_answer_was_lost_and_whose_second_try_is_refused_may_have_been_carried_out(
    moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoS3, "status", 403)
    with http.server.HTTPServer(("127.0.0.1", 0), LosesThenRefuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        store = connect(monkeypatch, "bucket", moto_environment, AWS_ENDPOINT_URL=address, AWS_MAX_ATTEMPTS="3")
        with pytest.raises(StoreUnreachable, match="HTTP status 403"):
            store.put_new("models/champion.json", b"{}", TEXT)
        server.shutdown()
    assert len(LosesThenRefuses.taken) == 2


@pytest.mark.parametrize("name", ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONFIG_FILE"])
def test_a_file_with_credentials_that_is_not_there_is_one_clear_line(
    name: str, moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process = /no/such/program\n")
    environment = {
        "AWS_ENDPOINT_URL": moto_environment["AWS_ENDPOINT_URL"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
        name: str(config) if name == "AWS_CONFIG_FILE" else "/no/such/file",
    }
    with pytest.raises(StoreRefused, match="/no/such/"):
        connect(monkeypatch, "bucket", environment).get("key")


def test_a_token_that_is_not_where_it_is_said_to_be_is_one_clear_line(
    moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "AWS_ENDPOINT_URL": moto_environment["AWS_ENDPOINT_URL"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/token",
    }
    with pytest.raises(StoreRefused, match="reading s3://bucket/key: .*/no/such/token"):
        connect(monkeypatch, "bucket", environment).get("key")


def test_no_error_repeats_a_credential(moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(monkeypatch, "bucket", moto_environment, AWS_ACCESS_KEY_ID="KEY\nOF-MINE")
    with pytest.raises(StoreError) as caught:
        store.get("key")
    assert "OF-MINE" not in str(caught.value)


def test_an_s3_that_restarts_is_waited_for(
    moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    changed = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "6"}
    store = connect(monkeypatch, "no-such-bucket", moto_environment, **changed)
    server = ThreadedMotoServer(port=port, verbose=False)
    late = threading.Timer(0.5, server.start)
    late.start()
    with pytest.raises(StoreRefused, match="NoSuchBucket"):  # which only an S3 that is there can say
        store.get("key")
    late.join()
    server.stop()
    assert "reading s3://no-such-bucket/key: Could not connect to the endpoint URL" in caplog.text
    assert "again in " in caplog.text


@pytest.mark.seaweedfs
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_are_refused_by_name(
    changed: dict[str, str], code: str, seaweedfs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(monkeypatch, seaweedfs_bucket.name, seaweedfs_bucket.environment, **changed)
    with pytest.raises(StoreRefused, match=code) as caught:
        store.get("key")
    assert seaweedfs_bucket.environment["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


@pytest.mark.seaweedfs
def test_an_upload_that_was_corrupted_on_its_way_is_not_stored(seaweedfs_bucket: Bucket) -> None:
    def corrupt(request: object, **_: object) -> None:
        request.body = b"b0dy"  # type: ignore[attr-defined] # botocore's prepared request, signed by now

    seaweedfs_bucket.client.meta.events.register("before-send.s3.PutObject", corrupt)
    with pytest.raises(StoreError, match="BadDigest|SHA256Mismatch"):
        seaweedfs_bucket.store.put_new("key", b"body", TEXT)
    assert seaweedfs_bucket.keys() == []


@pytest.mark.seaweedfs
def test_stored_objects_survive_a_restart(tmp_path: Path) -> None:
    ports = free_ports()
    with s3_server(tmp_path, "kept", ports) as environment:
        Bucket(environment, "kept").put("datasets/x", b"orders")
    with s3_server(tmp_path, "kept", ports) as environment:
        store = ObjectStore(Bucket(environment, "kept").client, "kept")  # with retries: old volumes answer 500 at first
        assert store.keys("") == ["datasets/x"]
        assert store.get("datasets/x").body == b"orders"
