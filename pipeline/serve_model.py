"""Stage 2: load the champion from S3 and serve estimates of the hours to dispatch."""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence

from pipeline.errors import TimeToDispatchError
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.predictor import Predictor
from pipeline.serving.server import DrainingServer, listen
from pipeline.utils import LOG_FORMATS, Stopped, TimeIsUp, configure_logger, time_limit

START_SECONDS = 50  # limit for loading the model; below max_startup_time_seconds of bodywork.yaml

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return 0 after an orderly stop, and 1 without a model or a port."""
    args = _parse(arguments)
    configure_logger(args.log_format)
    log.info("Starting serve-model stage.")
    try:
        with time_limit(START_SECONDS):
            model = ChampionRegistry(ObjectStore.connect(args.bucket)).load_servable()
            predictor = Predictor(model.estimator, model.manifest)
            log.info("Serving %s, trained on %s.", predictor.version, model.manifest.dataset.key)
            lifecycle = Lifecycle()
            server = DrainingServer(create_app(predictor, lifecycle, args.log_requests), lifecycle, args.drain_seconds)
    except (TimeToDispatchError, TimeIsUp) as error:
        log.error("No model to serve: %s", error)
        return 1
    except Stopped as error:
        log.info("Stopped before the port was opened: %s", error)
        return 0
    with server.capture_signals():  # before the port opens: from then on, a signal must not lose a request
        try:  # to Bodywork, an open port means "ready": the model is loaded and warm
            listener = listen(args.host, args.port)
        except OSError as error:
            log.error("Cannot listen on %s port %d: %s", args.host, args.port, error.strerror or error)
            return 1
        gc.freeze()  # no garbage collection walks through the loaded modules while a customer waits
        server.run(sockets=[listener])
    log.info("Stopped.")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve_model", description=__doc__, allow_abbrev=False)
    parser.add_argument("bucket", metavar="BUCKET", help="S3 bucket with models/")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--drain-seconds",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="how long to answer after SIGTERM; S + 10 s must be below the pod's grace period (default: 5)",
    )
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="format of the log lines (default: text)"
    )
    parser.add_argument("--log-requests", action="store_true", help="log a line for each request")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (expected 0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds (expected 0 to 3600)")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
