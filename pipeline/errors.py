"""What can go wrong. Each entry point turns these errors into one log line and exit code 1.

TimeToDispatchError
├── StoreError
│   ├── StoreUnreachable     S3 did not answer, or not in time
│   │   └── PromotionUnknown S3 did not confirm that the champion was replaced
│   ├── StoreRefused         S3 answered with a refusal: credentials, permission, bucket, checksum
│   ├── ObjectNotFound       the key does not exist
│   └── WriteConflict        another writer was faster
├── DatasetError
│   ├── NoDataset            there is no dataset
│   └── DatasetInvalid       the dataset breaks the data contract
├── CandidatesFailed         every candidate failed to fit
├── TrainingRejected         a gate rejected the model
└── ModelError
    ├── NoChampion           no model was ever promoted
    ├── ChampionInvalid      models/champion.json cannot be understood
    ├── ModelNotFound        a manifest has no model
    │   └── VersionNotFound  a version has no manifest
    ├── PromotionRefused     the version is already the champion, or there is no earlier one
    ├── ModelCorrupt         the bytes differ from what the manifest describes
    └── ModelIncompatible    the model needs other library versions or newer code
"""


class TimeToDispatchError(Exception):
    """Base of every error that this project raises on purpose."""


class StoreError(TimeToDispatchError):
    """A call of S3 failed."""


class StoreUnreachable(StoreError):
    """S3 did not answer, or not in time."""


class PromotionUnknown(StoreUnreachable):
    """S3 did not confirm that the champion was replaced: it may be the old one or the new one."""


class StoreRefused(StoreError):
    """S3 answered with a refusal."""


class ObjectNotFound(StoreError):
    """The key does not exist."""


class WriteConflict(StoreError):
    """A conditional write found that the object had changed, or existed already."""


class DatasetError(TimeToDispatchError):
    """There is no dataset that a model can be trained on."""


class NoDataset(DatasetError):
    """There is no dataset below datasets/."""


class DatasetInvalid(DatasetError):
    """The dataset breaks the data contract; the message names every breach."""


class CandidatesFailed(TimeToDispatchError):
    """Every candidate failed to fit; the message has each reason."""


class TrainingRejected(TimeToDispatchError):
    """A gate rejected the new model; the message has every gate's reasons."""


class ModelError(TimeToDispatchError):
    """A model cannot be served."""


class NoChampion(ModelError):
    """No model was ever promoted."""


class ChampionInvalid(ModelError):
    """models/champion.json cannot be understood."""


class ModelNotFound(ModelError):
    """A manifest has no model."""


class VersionNotFound(ModelNotFound):
    """A version has no manifest, so it does not exist."""


class PromotionRefused(ModelError):
    """The version is already the champion, or there is no earlier one to go back to."""


class ModelCorrupt(ModelError):
    """The bytes differ from what the manifest describes, or they are not an estimator."""


class ModelIncompatible(ModelError):
    """The model needs other library versions, or newer code, than this process runs."""
