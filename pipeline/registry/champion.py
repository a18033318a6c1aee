"""The champion: the pointer to the version that is served, and the history of all champions.

The pointer moves by compare-and-swap: of two writers at the same time, one gets a WriteConflict. A writer first copies
the old pointer to models/history/, so that no champion is lost even if the writer dies between the two writes.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from pipeline import keys
from pipeline.errors import (
    ChampionInvalid,
    ModelError,
    ModelIncompatible,
    NoChampion,
    ObjectNotFound,
    PromotionRefused,
    PromotionUnknown,
    StoreUnreachable,
)
from pipeline.manifest import BY_HAND, Champion, describe_faults, library_differences, to_json
from pipeline.registry.models import JSON, LoadedModel, ModelRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import Interrupted

# after a change by hand: replicas load the champion when they start
ROLL_REPLICAS = "kubectl --namespace time-to-dispatch rollout restart deployment/serve-model"

PROMOTED = "Promoted %s instead of %s."  # train_model logs it, and operations/deploy.py looks for it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChampionPointer:
    """The content of models/champion.json, and the ETag that it had when it was read."""

    champion: Champion
    etag: str


class ChampionRegistry:
    """The champion of one bucket, and `models`, the versions that can become champion."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.models = ModelRegistry(store)

    def read_champion(self) -> ChampionPointer | None:
        """Read the champion pointer; None before the first promotion, ChampionInvalid if it cannot be understood."""
        try:
            stored = self._store.get(keys.CHAMPION_KEY)
        except ObjectNotFound:
            return None
        try:
            return ChampionPointer(Champion.model_validate_json(stored.body), stored.etag)
        except ValidationError as error:
            raise ChampionInvalid(f"{keys.CHAMPION_KEY} cannot be understood: {describe_faults(error)}") from error

    def load_champion(self) -> LoadedModel:
        """Load the champion; NoChampion before the first promotion."""
        return self.models.load(self._champion().version)

    def load_servable(self) -> LoadedModel:
        """Load the champion, or the previous one if the champion needs newer code or libraries than these.

        This happens to a replica of the old commit when a deployment was rolled back after its training had promoted a
        model. A champion that was chosen by hand is never replaced by the one that was taken out.
        """
        champion = self._champion()
        try:
            return self.models.load(champion.version)
        except ModelIncompatible as error:
            if champion.previous is None or champion.is_by_hand:
                raise
            previous = self.models.load(champion.previous)
            log.warning("Cannot load the champion; serving the previous one: %s", error)
            return previous

    def promote(self, champion: Champion, instead_of: ChampionPointer | None) -> None:
        """Move the pointer from the one that was read to a new champion.

        Raises WriteConflict if another writer moved it, and PromotionUnknown if S3 did not say whether it was moved.
        """
        if instead_of is not None:  # kept even if the swap fails: it was the champion in any case
            kept = to_json(instead_of.champion)
            key = keys.champion_record_key(instead_of.champion.promoted_at, hashlib.sha256(kept).hexdigest())
            self._store.put_new(key, kept, JSON)
        body = to_json(champion)
        try:
            if instead_of is None:
                self._store.put_new(keys.CHAMPION_KEY, body, JSON)
            else:
                self._store.replace(keys.CHAMPION_KEY, body, JSON, instead_of.etag)
        except (StoreUnreachable, Interrupted) as error:
            raise PromotionUnknown(str(error)) from error

    def promote_version(self, version: str, reason: str, git_commit: str) -> Champion:
        """Make a stored version the champion by hand; any error leaves the champion as it was."""
        pointer = self.read_champion()
        return self._move_to(version, pointer, f"promoted {BY_HAND} {reason}", git_commit)

    def roll_back(self, reason: str, git_commit: str) -> Champion:
        """Make the previous champion the champion again; any error leaves the champion as it was.

        A second roll-back cancels the first. Versions with the champion's own bytes are passed over: a deployment
        without a new week trains the same model again.
        """
        pointer = self.read_champion()
        if pointer is None:
            raise PromotionRefused(f"there is no {keys.CHAMPION_KEY}: no model was ever promoted")
        return self._move_to(self._previous(pointer.champion), pointer, f"rolled back {BY_HAND} {reason}", git_commit)

    def champions(self, since: datetime | None = None) -> list[Champion]:
        """Return every champion promoted since a moment, from the first to the current one.

        A record that cannot be understood is skipped with a warning in the log.
        """
        records = self._store.keys(keys.HISTORY)
        if since:
            first = keys.champion_record_key(since, "")
            records = [key for key in records if key > first]  # pragma: no mutate (each key has a digest)
        found = []
        for key in records:
            try:
                found.append(Champion.model_validate_json(self._store.get(key).body))
            except ValidationError as error:
                log.warning("Skipped an earlier champion: %s cannot be understood: %s", key, describe_faults(error))
        try:
            pointer = self.read_champion()
        except ChampionInvalid as error:
            log.warning("Skipped the champion: %s", error)
        else:
            if pointer and pointer.champion not in found:
                found.append(pointer.champion)
        return sorted(found, key=lambda champion: champion.promoted_at)

    def taken_out(self, dataset: keys.DatasetKey, etag: str, pointer: ChampionPointer | None) -> str | None:
        """Return the champion that was trained on these bytes and then taken out by hand; None if there is none.

        A training must not bring such a model back.
        """
        if pointer is None or not pointer.champion.is_by_hand:
            return None
        versions = self.models.trained_on(dataset, etag)
        if pointer.champion.version in versions:
            return None
        promoted = {champion.version for champion in self.champions()}
        return max(promoted & set(versions), default=None)

    def _champion(self) -> Champion:
        pointer = self.read_champion()
        if pointer is None:
            raise NoChampion(f"there is no {keys.CHAMPION_KEY}: no model was ever promoted, train one first")
        return pointer.champion

    def _previous(self, champion: Champion) -> str:
        """Return the last champion before this one that is another model."""
        if champion.previous is not None and not self._same_model(champion.previous, champion.version):
            return champion.previous
        for version in dict.fromkeys(earlier.version for earlier in reversed(self.champions())):
            if not self._same_model(version, champion.version):
                return version
        raise PromotionRefused(
            f"there is no other model to go back to: every champion so far is the model of {champion.version}"
        )

    def _same_model(self, version: str, other: str) -> bool:
        """Whether two versions have the same bytes; False if a manifest cannot be read."""
        if version == other:
            return True
        try:
            return self.models.read_manifest(version).model == self.models.read_manifest(other).model
        except ModelError:
            return False

    def _move_to(self, version: str, pointer: ChampionPointer | None, reason: str, git_commit: str) -> Champion:
        if pointer and pointer.champion.version == version:
            raise PromotionRefused(f"{version} is already the champion")
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
        """Load a version, or raise the reason why the replicas could not serve it.

        The libraries of this machine, an engineer's laptop for instance, may differ from those of the replicas. A
        version made with the same libraries as the champion is served wherever the champion is.
        """
        try:
            self.models.load(version)
        except ModelIncompatible as incompatible:
            if pointer is None:
                raise
            try:
                served = self.models.read_manifest(pointer.champion.version)
            except ModelError:
                raise incompatible from None
            if library_differences(self.models.read_manifest(version).libraries, served.libraries):
                raise
