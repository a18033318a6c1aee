"""What the CronJobs run, in the stage image: the deployed tag again, if there is a week that nobody trained on.

A run that finds nothing new leaves the service alone: a second chance on Saturday neither rolls replicas for nothing
nor takes back what somebody rolled back on Friday night.
"""

import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from operations.cluster import read_project
from pipeline.errors import TimeToDispatchError
from pipeline.manifest import Manifest
from pipeline.names import DATASETS, MODELS, REJECTED, DatasetKey, latest_dataset, parse_version
from pipeline.object_store import ObjectStore
from pipeline.utils import configure_logger

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Become `bodywork create deployment`, or say why not; 0 if there is nothing to do, 1 if S3 does not tell."""
    url, tag = arguments
    configure_logger()
    try:
        store = ObjectStore.connect(read_project().bucket)
        newest = latest_dataset(store.keys(DATASETS), datetime.now(UTC)).newest
        version = newest and trained_on(store, newest)
    except TimeToDispatchError as error:
        log.error("Nothing was deployed: %s", error)
        return 1
    if newest is None or version:
        log.info("Nothing to do: %s.", f"{newest.key} was trained on by {version}" if newest else "there is no dataset")
        return 0
    log.info("New: %s. Deploying %s.", newest.key, tag)
    os.execvp("bodywork", ["bodywork", "create", "deployment", url, f"--branch={tag}"])


def trained_on(store: ObjectStore, dataset: DatasetKey) -> str | None:
    """The version, accepted or rejected, that was trained on these very bytes; None if there is none."""
    etag = store.get(dataset.key).etag
    for prefix in (MODELS, REJECTED):
        for key in store.keys(prefix):
            version, _, name = key.removeprefix(prefix).partition("/")
            trained_at = parse_version(version)
            if name != "manifest.json" or trained_at is None or trained_at < dataset.timestamp:
                continue
            record = Manifest.model_validate_json(store.get(key).body).dataset
            if (record.key, record.etag) == (dataset.key, etag):
                return version
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
