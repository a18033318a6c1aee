"""What can go wrong, each as a fact. An entry point turns any of these into one log line and exit code 1.

TimeToDispatchError
├── StoreError
│   ├── StoreUnreachable     S3 did not answer, or not in time
│   │   └── PromotionUnknown the answer that was lost is the one to the champion's replacement
│   ├── StoreRefused         S3 answered with a refusal: credentials, permission, bucket, checksum
│   ├── ObjectNotFound       no object under this key
│   └── WriteConflict        a conditional write lost against another writer
├── DatasetError
│   ├── NoDataset            nothing to train on
│   └── DatasetInvalid       the data contract is broken
├── CandidatesFailed         not one candidate could be fitted
├── TrainingRejected         a gate kept the model out
└── ModelError
    ├── NoChampion           no model was ever promoted
    ├── ChampionInvalid      models/champion.json cannot be understood
    ├── ModelNotFound        a manifest without its model
    │   └── VersionNotFound  a version without a manifest, which is none
    ├── PromotionRefused     a version that is the champion already, or none to go back to
    ├── ModelCorrupt         the bytes are not those that the manifest describes
    └── ModelIncompatible    the model was made by other library versions
"""


class TimeToDispatchError(Exception):
    """Base of every error that this project raises on purpose."""


class StoreError(TimeToDispatchError):
    """S3 did not do what it was asked to."""


class StoreUnreachable(StoreError):
    """S3 did not answer, or not in time."""


class PromotionUnknown(StoreUnreachable):
    """The champion was to be replaced, and S3's answer was lost: it may be the old one, or the new one."""


class StoreRefused(StoreError):
    """S3 answered with a refusal."""


class ObjectNotFound(StoreError):
    """There is no object under this key."""


class WriteConflict(StoreError):
    """A conditional write found the object changed, or already there."""


class DatasetError(TimeToDispatchError):
    """There is no week of orders that can be trained on."""


class NoDataset(DatasetError):
    """No object under datasets/ is a dataset."""


class DatasetInvalid(DatasetError):
    """The dataset breaks the data contract; the message names every breach."""


class CandidatesFailed(TimeToDispatchError):
    """Not one candidate could be fitted; the message has each one's reason."""


class TrainingRejected(TimeToDispatchError):
    """A gate kept the new model out; the message has every gate's reason."""


class ModelError(TimeToDispatchError):
    """There is no model that can be served."""


class NoChampion(ModelError):
    """No model was ever promoted."""


class ChampionInvalid(ModelError):
    """models/champion.json cannot be understood."""


class ModelNotFound(ModelError):
    """A manifest has no model."""


class VersionNotFound(ModelNotFound):
    """A version has no manifest: there is no such version."""


class PromotionRefused(ModelError):
    """The version is the champion already, or there is none to go back to."""


class ModelCorrupt(ModelError):
    """The bytes are not those that the manifest describes, or hold no estimator."""


class ModelIncompatible(ModelError):
    """The model was made by other library versions than these."""
