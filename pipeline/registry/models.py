"""The versions of the model on S3, and the pointer to the one that is served.

A version is immutable and its manifest is written last: without one it does not exist. The champion pointer moves by
compare-and-swap, so that of two writers at once one is told. Whoever replaces a pointer first keeps it under
models/history/: what was served from when to when is never lost, not even to a writer that dies in between.

    python -m pipeline.registry BUCKET list | show VERSION | promote VERSION | rollback | history
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import joblib
import numpy as np
from pydantic import ValidationError
from sklearn.exceptions import InconsistentVersionWarning

from pipeline import keys
from pipeline.errors import (
    ChampionInvalid,
    ModelCorrupt,
    ModelError,
    ModelIncompatible,
    ModelNotFound,
    NoChampion,
    ObjectNotFound,
    PromotionRefused,
    PromotionUnknown,
    StoreRefused,
    StoreUnreachable,
    TimeToDispatchError,
    VersionNotFound,
    WriteConflict,
)
from pipeline.estimator import TimeToDispatchRegressor
from pipeline.manifest import BY_HAND, Champion, Libraries, Manifest, ModelRecord, running_libraries
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import Interrupted

JSON = "application/json"
HTML = "text/html; charset=utf-8"
PICKLE = "application/octet-stream"
NEXT_SECONDS = 60  # how many seconds ahead a free version is looked for

Problem = Callable[[TimeToDispatchError], None]  # is told of what is left out


@dataclass(frozen=True)
class ChampionPointer:
    """What models/champion.json said, and the ETag that it was read at."""

    champion: Champion
    etag: str


@dataclass(frozen=True)
class LoadedModel:
    """An estimator whose bytes were verified before they were unpickled, and its manifest."""

    estimator: TimeToDispatchRegressor
    manifest: Manifest


class Registry:
    """The models of one bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read_champion(self) -> ChampionPointer | None:
        """Read the champion pointer; None if no model was ever promoted, ChampionInvalid if it makes no sense."""
        try:
            stored = self._store.get(keys.CHAMPION_KEY)
        except ObjectNotFound:
            return None
        try:
            return ChampionPointer(Champion.model_validate_json(stored.body), stored.etag)
        except ValidationError as error:
            raise ChampionInvalid(f"{keys.CHAMPION_KEY}: {_faults(error)}") from error

    def load_champion(self) -> LoadedModel:
        """Load the model that is to be served; NoChampion if no model was ever promoted."""
        return self.load(self._champion().version)

    def load_servable(self, problem: Problem) -> LoadedModel:
        """The champion; or the one before it, and `problem`, where the champion is of other libraries than run here.

        So it is in a replica of a deployment whose successor trained a model by newer libraries, and was taken back.
        What somebody took out by hand is not served again.
        """
        champion = self._champion()
        try:
            return self.load(champion.version)
        except ModelIncompatible as error:
            if champion.previous is None or champion.is_by_hand:
                raise
            before = self.load(champion.previous)
            problem(error)
            return before

    def _champion(self) -> Champion:
        pointer = self.read_champion()
        if pointer is None:
            raise NoChampion(f"there is no {keys.CHAMPION_KEY}: no model was ever promoted, train one first")
        return pointer.champion

    def versions(self) -> Iterator[str]:
        """Every version that can be promoted, if it loads, in the order of their training."""
        return self._versions_below(keys.MODELS)

    def rejected_versions(self) -> Iterator[str]:
        """Every version that the gates refused, in the order of their training."""
        return self._versions_below(keys.REJECTED)

    def read_manifest(self, version: str) -> Manifest:
        """Read a version's manifest; VersionNotFound if it has none, ModelCorrupt if it makes no sense."""
        return self._read_manifest(version, keys.manifest_key)

    def read_rejected(self, version: str) -> Manifest:
        """Read the manifest of a version that the gates refused; the errors are those of read_manifest."""
        return self._read_manifest(version, keys.rejected_manifest_key)

    def trainings(self, problem: Problem, since: datetime | None = None) -> list[Manifest]:
        """The manifests of all trainings, or of those since a moment, accepted or rejected, in the order of their time.

        One that cannot be read is left out; `problem` is told why.
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
                problem(error)
        return manifests

    def trained_on(self, dataset: keys.DatasetKey, etag: str, problem: Problem) -> list[str]:
        """The versions that were trained on these very bytes, in the order of their time."""
        return self._of(dataset, etag, self.versions(), self.read_manifest, problem)

    def rejected_on(self, dataset: keys.DatasetKey, etag: str, problem: Problem) -> list[str]:
        """The same, of those that the gates refused."""
        return self._of(dataset, etag, self.rejected_versions(), self.read_rejected, problem)

    def taken_out(
        self, dataset: keys.DatasetKey, etag: str, pointer: ChampionPointer | None, problem: Problem
    ) -> str | None:
        """The champion of these very bytes that somebody took out by hand; None if nobody did.

        What was taken out by hand does not come back by itself.
        """
        if pointer is None or not pointer.champion.is_by_hand:
            return None
        versions = self.trained_on(dataset, etag, problem)
        if pointer.champion.version in versions:
            return None
        promoted = {champion.version for champion in self.champions(problem)}
        return max(promoted & set(versions), default=None)

    def _of(
        self,
        dataset: keys.DatasetKey,
        etag: str,
        versions: Iterator[str],
        read: Callable[[str], Manifest],
        problem: Problem,
    ) -> list[str]:
        earliest = keys.format_version(dataset.timestamp - keys.CLOCK_TOLERANCE)
        found = []
        for version in versions:
            if version < earliest:  # read no manifest that cannot be of this week
                continue
            try:
                record = read(version).dataset
            except ModelError as error:
                problem(error)
                continue
            if (record.key, record.etag) == (dataset.key, etag):
                found.append(version)
        return found

    def _versions_below(self, prefix: str) -> Iterator[str]:
        return (version for key in self._store.keys(prefix) if (version := keys.version_of_manifest(key)))

    def _read_manifest(self, version: str, key_of: Callable[[str], str]) -> Manifest:
        if keys.parse_version(version) is None:
            raise VersionNotFound(f"{version!r} is no version, one reads like time_to_dispatch_2026-11-20T23:31:07Z")
        key = key_of(version)
        try:
            stored = self._store.get(key)
        except ObjectNotFound as error:
            raise VersionNotFound(f"there is no model {version}: {key} is missing") from error
        try:
            manifest = Manifest.model_validate_json(stored.body)
        except ValidationError as error:
            raise ModelCorrupt(f"{key}: {_faults(error)}") from error
        if manifest.version != version:
            raise ModelCorrupt(f"{key}: it is the manifest of {manifest.version}")
        return manifest

    def load(self, version: str) -> LoadedModel:
        """Load a version's estimator.

        Its size, digest and library versions are checked against the manifest before one byte is unpickled, and the
        bytes that were checked are the ones unpickled. A ModelError says why not.
        """
        manifest = self.read_manifest(version)
        key = keys.model_key(version)
        if manifest.model is None:
            raise ModelNotFound(f"{keys.manifest_key(version)} is of a rejected training, there is no model")
        try:
            body = self._store.get(key).body
        except ObjectNotFound as error:
            raise ModelNotFound(f"{key} is missing, though the manifest of {version} describes it") from error
        found = describe_model(body)
        if found != manifest.model:
            raise ModelCorrupt(
                f"{key}: {found.size_bytes} bytes with sha256 {found.sha256[:12]}..., the manifest says "
                f"{manifest.model.size_bytes} bytes with {manifest.model.sha256[:12]}...: it was damaged or replaced"
            )
        differences = _library_differences(manifest.libraries, running_libraries())
        if differences:
            raise ModelIncompatible(f"{key}: made with {', '.join(differences)}: train again with these versions")
        estimator = _unpickle(body, key)
        if set(estimator.product_codes_) != set(manifest.products):
            raise ModelCorrupt(f"{key} knows other products than its manifest, which was damaged or replaced")
        return LoadedModel(estimator, manifest)

    def store(self, estimator: bytes, manifest: Manifest, render: Callable[[Manifest], bytes]) -> str:
        """Store a version with the report that `render` makes of its manifest, and the manifest last.

        Its name is the manifest's, or that of the next free second.
        """

        def write(version: str) -> None:
            named = manifest.model_copy(update={"version": version})
            self._store.put_new(keys.model_key(version), estimator, PICKLE)
            self._store.put_new(keys.report_key(version), render(named), HTML)
            self._store.put_new(keys.manifest_key(version), _to_json(named), JSON)

        return _at_next_free_second(write, manifest.trained_at)

    def store_rejected(self, manifest: Manifest, render: Callable[[Manifest], bytes]) -> str:
        """Store report and manifest of a training that the gates refused, without its model.

        Its name is the manifest's, or that of the next second which is free here and among the stored versions: a
        training that lost a race has stored one before it is judged again.
        """

        def write(version: str) -> None:
            if any(self._store.keys(keys.model_key(version))):
                raise WriteConflict
            named = manifest.model_copy(update={"version": version})
            self._store.put_new(keys.rejected_report_key(version), render(named), HTML)
            self._store.put_new(keys.rejected_manifest_key(version), _to_json(named), JSON)

        return _at_next_free_second(write, manifest.trained_at)

    def promote(self, champion: Champion, instead_of: ChampionPointer | None) -> None:
        """Move the pointer, if it still says what was read.

        WriteConflict if another writer moved it; PromotionUnknown if S3 did not say whether it was moved.

        The pointer that was read is kept first. It was the champion then, whatever comes of the swap; its key holds
        its digest, so whoever keeps it a second time finds it there.
        """
        if instead_of is not None:
            kept = _to_json(instead_of.champion)
            self._store.put_new(_record_key(instead_of.champion, kept), kept, JSON)
        body = _to_json(champion)
        try:
            if instead_of is None:
                self._store.put_new(keys.CHAMPION_KEY, body, JSON)
            else:
                self._store.replace(keys.CHAMPION_KEY, body, JSON, instead_of.etag)
        except (StoreUnreachable, Interrupted) as error:
            raise PromotionUnknown(str(error)) from error

    def promote_version(self, version: str, reason: str, git_commit: str) -> Champion:
        """Make a stored version the champion by hand, if it loads; whatever is wrong, nothing is changed."""
        pointer = self.read_champion()
        return self._move_to(version, pointer, f"promoted {BY_HAND} {reason}", git_commit)

    def roll_back(self, reason: str, git_commit: str) -> Champion:
        """Make the previous champion the champion again, if it loads; a second time cancels the first.

        A deployment without a new week trains the same model again: what has the champion's own bytes is passed over.
        """
        pointer = self.read_champion()
        if pointer is None:
            raise PromotionRefused(f"there is no {keys.CHAMPION_KEY}: no model was ever promoted")
        return self._move_to(self._previous(pointer.champion), pointer, f"rolled back {BY_HAND} {reason}", git_commit)

    def _previous(self, champion: Champion) -> str:
        """The version to go back to: the last one before the champion whose bytes are not the champion's."""
        if champion.previous is not None and not self._are_the_same(champion.previous, champion.version):
            return champion.previous
        for version in dict.fromkeys(kept.version for kept in reversed(self.champions(_pass_over))):
            if not self._are_the_same(version, champion.version):
                return version
        raise PromotionRefused(f"there is no model to go back to: none was the champion before {champion.version}")

    def _are_the_same(self, version: str, other: str) -> bool:
        """Are two versions the same bytes? Of what cannot be read, that is not said."""
        if version == other:
            return True
        try:
            return self.read_manifest(version).model == self.read_manifest(other).model
        except ModelError:
            return False

    def _move_to(self, version: str, pointer: ChampionPointer | None, reason: str, git_commit: str) -> Champion:
        if pointer and pointer.champion.version == version:
            raise PromotionRefused(f"{version} is the champion already")
        self._check_servable(version, pointer)
        champion = Champion(
            version=version,
            previous=pointer and pointer.champion.version,
            promoted_at=datetime.now(UTC),
            reason=reason,
            git_commit=git_commit,
        )
        self.promote(champion, pointer)
        return champion

    def _check_servable(self, version: str, pointer: ChampionPointer | None) -> None:
        """Load a version, or raise why it does not load.

        The libraries here may be another machine's than those that serve, on whoever is on call's laptop, say. A model
        of the very libraries of the one that is served, its bytes verified, is served by whatever serves that one.
        """
        try:
            self.load(version)
        except ModelIncompatible as incompatible:
            if pointer is None:
                raise
            try:
                served = self.read_manifest(pointer.champion.version)
            except ModelError:
                raise incompatible from None
            if _library_differences(self.read_manifest(version).libraries, served.libraries):
                raise

    def champions(self, problem: Problem, since: datetime | None = None) -> list[Champion]:
        """Every champion there was, or those promoted since a moment, from the first to the one that is served.

        A record that cannot be read is left out, as a pointer is; `problem` is told why.
        """
        records = self._store.keys(keys.HISTORY)
        if since:
            first = keys.champion_record_key(since, "")
            records = [key for key in records if key > first]  # pragma: no mutate (each key has a digest)
        kept = []
        for key in records:
            try:
                kept.append(Champion.model_validate_json(self._store.get(key).body))
            except ValidationError as error:
                problem(ChampionInvalid(f"{key}: {_faults(error)}"))
        try:
            pointer = self.read_champion()
        except ChampionInvalid as error:
            problem(error)
        else:
            if pointer and pointer.champion not in kept:
                kept.append(pointer.champion)
        return sorted(kept, key=lambda champion: champion.promoted_at)


def _pass_over(problem: TimeToDispatchError) -> None:
    """Go on without what cannot be read."""


def describe_model(body: bytes) -> ModelRecord:
    """Digest and size of an estimator's bytes."""
    return ModelRecord(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))


def pickle_model(estimator: TimeToDispatchRegressor) -> bytes:
    """An estimator as the bytes of model.joblib."""
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _unpickle(body: bytes, key: str) -> TimeToDispatchRegressor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            estimator = joblib.load(io.BytesIO(body))
        if isinstance(estimator, TimeToDispatchRegressor):  # one that cannot answer is as good as none
            estimator.predict_encoded(np.zeros((1, 2)))  # pragma: no mutate (whatever it is asked)
    except Exception as error:  # noqa: B902 - a pickle can raise anything; its bytes are those that we stored
        raise ModelCorrupt(f"{key} cannot be unpickled: {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(estimator, TimeToDispatchRegressor):
        raise ModelCorrupt(f"{key} holds a {type(estimator).__name__}, not a TimeToDispatchRegressor")
    return estimator


def _library_differences(made: Libraries, running: Libraries) -> list[str]:
    """What differs; of Python, its minor version is what a pickle depends on."""
    return [
        f"{name.replace('_', '-')} {theirs} (here {ours})"
        for name, theirs, ours in (
            ("python", _minor(made.python), _minor(running.python)),
            ("scikit_learn", made.scikit_learn, running.scikit_learn),
            ("numpy", made.numpy, running.numpy),
            ("joblib", made.joblib, running.joblib),
        )
        if theirs != ours
    ]


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _at_next_free_second(write: Callable[[str], None], moment: datetime) -> str:
    for seconds in range(NEXT_SECONDS):
        version = keys.format_version(moment + timedelta(seconds=seconds))
        try:
            write(version)
        except WriteConflict:
            continue
        return version
    raise WriteConflict(f"no version is free in the {NEXT_SECONDS} seconds after {keys.format_version(moment)}")


def _record_key(champion: Champion, body: bytes) -> str:
    return keys.champion_record_key(champion.promoted_at, hashlib.sha256(body).hexdigest())


def _to_json(record: Manifest | Champion) -> bytes:
    return (record.model_dump_json(indent=2) + "\n").encode()


def _faults(error: ValidationError) -> str:
    """What is wrong with a record, and in which of its fields."""
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]])) for fault in error.errors()
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
