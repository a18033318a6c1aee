"""The one log format that both stages share."""

import logging
import sys
import time


def configure_logger(level: int = logging.INFO) -> None:
    """Send every log record of the process to standard output, one line each, times in UTC.

    For instance: `2021-07-05 18:52:24,264 - INFO - train_model.main - Starting train-model stage.`
    """
    formatter = logging.Formatter("%(asctime)s - %(levelname)s - %(module)s.%(funcName)s - %(message)s")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it says where it found endpoint and credentials
