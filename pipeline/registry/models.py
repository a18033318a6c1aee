"""The versions of the model on S3: store, load and verify them.

A version never changes. Its manifest is written last, so a model without a manifest does not exist.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import joblib
import numpy as np
from pydantic import ValidationError
from sklearn.exceptions import InconsistentVersionWarning

from pipeline import keys
from pipeline.errors import (
    ModelCorrupt,
    ModelError,
    ModelIncompatible,
    ModelNotFound,
    ObjectNotFound,
    StoreRefused,
    VersionNotFound,
    WriteConflict,
)
from pipeline.estimator import TimeToDispatchRegressor
from pipeline.manifest import (
    MANIFEST_FORMAT,
    Manifest,
    ManifestFormat,
    ModelRecord,
    describe_faults,
    library_differences,
    running_libraries,
    to_json,
)
from pipeline.registry.object_store import ObjectStore

JSON = "application/json"
HTML = "text/html; charset=utf-8"
PICKLE = "application/octet-stream"
MAX_SECONDS_AHEAD = 60  # how far ahead store() looks for a free version

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """An estimator whose bytes were verified before they were unpickled, and its manifest."""

    estimator: TimeToDispatchRegressor
    manifest: Manifest


class ModelRegistry:
    """The stored and the rejected versions of one bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def versions(self) -> Iterator[str]:
        """Yield every stored version, oldest first."""
        return self._versions_below(keys.MODELS)

    def rejected_versions(self) -> Iterator[str]:
        """Yield every version that a gate rejected, oldest first."""
        return self._versions_below(keys.REJECTED)

    def read_manifest(self, version: str) -> Manifest:
        """Read the manifest of a stored version.

        Raises VersionNotFound if there is none, ModelCorrupt if it cannot be understood, and ModelIncompatible if a
        newer version of this code wrote it.
        """
        return self._read_manifest(version, keys.manifest_key)

    def read_rejected(self, version: str) -> Manifest:
        """Read the manifest of a rejected version; raises what read_manifest() raises."""
        return self._read_manifest(version, keys.rejected_manifest_key)

    def trainings(self, since: datetime | None = None) -> list[Manifest]:
        """Return the manifests of all trainings since a moment, accepted and rejected, oldest first.

        A manifest that cannot be read is skipped with a warning in the log.
        """
        readers = {version: self.read_rejected for version in self.rejected_versions()}
        readers |= {version: self.read_manifest for version in self.versions()}
        if since:
            readers = {version: read for version, read in readers.items() if version >= keys.format_version(since)}
        manifests = []
        for version, read in sorted(readers.items()):
            try:
                manifests.append(read(version))
            except (ModelError, StoreRefused) as error:
                log.warning("Skipped the training %s: %s", version, error)
        return manifests

    def trained_on(self, dataset: keys.DatasetKey, etag: str) -> list[str]:
        """Return the stored versions that were trained on exactly these bytes, oldest first."""
        return self._trained_on(dataset, etag, self.versions(), self.read_manifest)

    def rejected_on(self, dataset: keys.DatasetKey, etag: str) -> list[str]:
        """Return the rejected versions that were trained on exactly these bytes, oldest first."""
        return self._trained_on(dataset, etag, self.rejected_versions(), self.read_rejected)

    def load(self, version: str) -> LoadedModel:
        """Load a version's estimator; raises a ModelError that says why it cannot be served.

        Size, digest and library versions are checked against the manifest before one byte is unpickled. The checked
        bytes are the bytes that are unpickled.
        """
        manifest = self.read_manifest(version)
        key = keys.model_key(version)
        if manifest.model is None:
            raise ModelNotFound(f"{keys.manifest_key(version)} belongs to a rejected training, which stores no model")
        try:
            body = self._store.get(key).body
        except ObjectNotFound as error:
            raise ModelNotFound(f"{key} is missing, although the manifest of {version} describes it") from error
        found = describe_model(body)
        if found != manifest.model:
            raise ModelCorrupt(
                f"{key} was damaged or replaced: it has {found.size_bytes} bytes with sha256 {found.sha256[:12]}..., "
                f"its manifest says {manifest.model.size_bytes} bytes with sha256 {manifest.model.sha256[:12]}..."
            )
        differences = library_differences(manifest.libraries, running_libraries())
        if differences:
            raise ModelIncompatible(
                f"{key} was made with other libraries, {', '.join(differences)}: "
                "train again, or deploy the commit that trained it"
            )
        estimator = _unpickle(body, key)
        if set(estimator.product_codes_) != set(manifest.products):
            raise ModelCorrupt(f"{key} and its manifest name different products: one of them was damaged or replaced")
        return LoadedModel(estimator, manifest)

    def store(self, estimator: bytes, manifest: Manifest, render: Callable[[Manifest], bytes]) -> str:
        """Store a version and return its name: the manifest's, or that of the next free second.

        `render` makes the report from the manifest, under its final name. The manifest is written last.
        """

        def write(version: str) -> None:
            named = manifest.model_copy(update={"version": version})
            self._store.put_new(keys.model_key(version), estimator, PICKLE)
            self._store.put_new(keys.report_key(version), render(named), HTML)
            self._store.put_new(keys.manifest_key(version), to_json(named), JSON)

        return _write_at_next_free_second(write, manifest.trained_at)

    def store_rejected(self, manifest: Manifest, render: Callable[[Manifest], bytes]) -> str:
        """Store report and manifest of a rejected training, without its model, and return its name.

        The name is also new among the stored versions: a training that loses the race for the champion has stored one
        version before its next judgement may reject it.
        """

        def write(version: str) -> None:
            if any(self._store.keys(keys.model_key(version))):
                raise WriteConflict
            named = manifest.model_copy(update={"version": version})
            self._store.put_new(keys.rejected_report_key(version), render(named), HTML)
            self._store.put_new(keys.rejected_manifest_key(version), to_json(named), JSON)

        return _write_at_next_free_second(write, manifest.trained_at)

    def _versions_below(self, prefix: str) -> Iterator[str]:
        return (version for key in self._store.keys(prefix) if (version := keys.version_of_manifest(key)))

    def _read_manifest(self, version: str, key_of: Callable[[str], str]) -> Manifest:
        if keys.parse_version(version) is None:
            raise VersionNotFound(f"invalid version {version!r} (expected e.g. time_to_dispatch_2026-11-20T23:31:07Z)")
        key = key_of(version)
        try:
            body = self._store.get(key).body
        except ObjectNotFound as error:
            raise VersionNotFound(f"there is no model {version}: {key} is missing") from error
        try:
            # before the other fields: in a newer format, any of them may differ
            format_number = ManifestFormat.model_validate_json(body).format
            if format_number > MANIFEST_FORMAT:
                raise ModelIncompatible(
                    f"{key} has manifest format {format_number}, and this code reads formats up to {MANIFEST_FORMAT}: "
                    "use the code that wrote it, or a newer one"
                )
            manifest = Manifest.model_validate_json(body)
        except ValidationError as error:
            raise ModelCorrupt(f"{key} cannot be understood: {describe_faults(error)}") from error
        if manifest.version != version:
            raise ModelCorrupt(f"{key} is the manifest of another version, {manifest.version}")
        return manifest

    def _trained_on(
        self, dataset: keys.DatasetKey, etag: str, versions: Iterator[str], read: Callable[[str], Manifest]
    ) -> list[str]:
        earliest = keys.format_version(dataset.timestamp - keys.CLOCK_TOLERANCE)
        found = []
        for version in versions:
            if version < earliest:  # it is older than the week: its manifest need not be read
                continue
            try:
                record = read(version).dataset
            except ModelError as error:
                log.warning("Skipped the training %s: %s", version, error)
                continue
            if (record.key, record.etag) == (dataset.key, etag):
                found.append(version)
        return found


def describe_model(body: bytes) -> ModelRecord:
    """Return digest and size of an estimator's bytes."""
    return ModelRecord(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))


def pickle_model(estimator: TimeToDispatchRegressor) -> bytes:
    """Return an estimator as the bytes of model.joblib."""
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _unpickle(body: bytes, key: str) -> TimeToDispatchRegressor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            estimator = joblib.load(io.BytesIO(body))
        if isinstance(estimator, TimeToDispatchRegressor):  # an estimator that cannot predict must not be served
            estimator.predict_encoded(np.zeros((1, 2)))  # pragma: no mutate (any question will do)
    except Exception as error:  # noqa: B902 - a pickle can raise anything; its bytes are those that we stored
        message = " ".join(str(error).split())
        raise ModelCorrupt(f"{key} cannot be unpickled: {type(error).__name__}: {message}") from error
    if not isinstance(estimator, TimeToDispatchRegressor):
        raise ModelCorrupt(f"{key} holds a {type(estimator).__name__}, not a TimeToDispatchRegressor")
    return estimator


def _write_at_next_free_second(write: Callable[[str], None], moment: datetime) -> str:
    for seconds in range(MAX_SECONDS_AHEAD):
        version = keys.format_version(moment + timedelta(seconds=seconds))
        try:
            write(version)
        except WriteConflict:
            continue
        return version
    raise WriteConflict(
        f"every version of the {MAX_SECONDS_AHEAD} s after {keys.format_version(moment)} exists already"
    )
