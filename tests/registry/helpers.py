"""What the registry's tests share: edited manifests, stored and rejected versions."""

import json
from collections.abc import Callable
from typing import Any

from pipeline.keys import (
    DatasetKey,
    format_version,
    manifest_key,
    model_key,
    parse_dataset_key,
)
from pipeline.manifest import Manifest
from pipeline.registry.champion import ChampionPointer, ChampionRegistry
from tests.conftest import NEXT_SATURDAY, NOW, Bucket

VERSION = format_version(NOW)
NEXT_VERSION = format_version(NEXT_SATURDAY)


def edit_manifest(bucket: Bucket, edit: Callable[[dict[str, Any]], None], version: str = VERSION) -> None:
    manifest = json.loads(bucket.get(manifest_key(version)))
    edit(manifest)
    bucket.put(manifest_key(version), json.dumps(manifest).encode())


def no_report(manifest: Manifest) -> bytes:
    return b""


def report(manifest: Manifest) -> bytes:
    return f"{manifest.version} by {manifest.git_commit}".encode()


def reject(registry: ChampionRegistry, manifest: Manifest, git_commit: str = "abc1234") -> str:
    return registry.models.store_rejected(manifest.model_copy(update={"git_commit": git_commit}), report)


def store_again(bucket: Bucket, git_commit: str) -> str:
    """Store the second week's model once more, as another deployment does."""
    registry = ChampionRegistry(bucket.store)
    manifest = registry.models.read_manifest(NEXT_VERSION).model_copy(update={"git_commit": git_commit})
    return registry.models.store(bucket.get(model_key(NEXT_VERSION)), manifest, report)


def made_elsewhere(bucket: Bucket, version: str) -> None:
    edit_manifest(bucket, lambda manifest: manifest["libraries"].update(scikit_learn="99.0"), version)


def week_of(bucket: Bucket, key: str) -> tuple[DatasetKey, str]:
    """A dataset's parsed key and its ETag."""
    parsed = parse_dataset_key(key)
    assert parsed is not None
    return parsed, bucket.store.get(key).etag


def pointer_of(bucket: Bucket) -> ChampionPointer:
    pointer = ChampionRegistry(bucket.store).read_champion()
    assert pointer is not None
    return pointer
