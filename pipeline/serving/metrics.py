"""What Prometheus reads from a replica.

Labels are bounded: routes, products and reasons are known, methods are HTTP's, and of the product codes that nobody
was trained on only the first few are remembered.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.keys import parse_dataset_key
from pipeline.manifest import Manifest

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OWN_REASONS = frozenset({"unknown_product", "json_invalid", "content_type", "too_large"})  # others are together
MAX_UNKNOWN_CODES = 20  # how many are remembered by name; later ones are counted as "other"
MAX_CODE_LENGTH = 64  # characters of a remembered one

SECONDS_BUCKETS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0)
HOURS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 240.0)


class ServiceMetrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self, manifest: Manifest) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._requests_seen: dict[tuple[str, str, int], Counter] = {}
        self.request_seconds = Histogram(
            "http_request_duration_seconds",
            "From a request's headers to the end of its answer, on POST /api/v0.1/time_to_dispatch, but for 503.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("http_requests_in_flight", "Requests being worked on or waited for.", registry=registry)
        self.shed = Counter("shed_requests", "Requests answered 503: too many were in flight.", registry=registry)
        self.disconnected = Counter(
            "disconnected_requests", "Requests whose client left before they were answered.", registry=registry
        )
        self.predictions = Counter("predictions", "PredictionCounter given.", ["product_code"], registry=registry)
        self.prediction_hours = Histogram(
            "prediction_hours", "The estimates given, in hours.", buckets=HOURS_BUCKETS, registry=registry
        )
        self._refused = Counter("refused_requests", "Requests refused with 422 or 413.", ["reason"], registry=registry)
        self._unknown = Counter(
            "unknown_product_requests",
            f"Requests for products that the model does not know; the first {MAX_UNKNOWN_CODES} codes by name.",
            ["product_code"],
            registry=registry,
        )
        self._unknown_codes: set[str] = set()
        self.extrapolated = Counter(
            "extrapolated_predictions",
            "PredictionCounter given for a number of orders outside what was seen in training.",
            registry=registry,
        )
        self.draining = Gauge("draining", "1 while the replica drains after SIGTERM, 0 before.", registry=registry)
        for reason in ("invalid_field", *OWN_REASONS):
            self._refused.labels(reason)  # there from the start: a rate needs a zero to rise from
        self._describe_model(manifest)

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count an answer; a method that is not HTTP's counts as "other"."""
        counter = self._requests_seen.get((route, method, status))
        if counter is None:
            counter = self._requests.labels(route, method if method in METHODS else "other", str(status))
            if method in METHODS:
                self._requests_seen[route, method, status] = counter
        counter.inc()

    def count_refusal(self, fault: str, refused: object) -> None:
        """Count a refusal by its first fault, and the product code that was refused if that was it."""
        self._refused.labels(fault if fault in OWN_REASONS else "invalid_field").inc()
        if fault == "unknown_product":
            code = ascii(refused)[1:-1][:MAX_CODE_LENGTH]
            if len(self._unknown_codes) < MAX_UNKNOWN_CODES:
                self._unknown_codes.add(code)
            self._unknown.labels(code if code in self._unknown_codes else "other").inc()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def _describe_model(self, manifest: Manifest) -> None:
        registry = self._registry
        labels = (manifest.version, manifest.dataset.key, manifest.git_commit)
        Gauge("model_info", "The model served.", ["version", "dataset", "git_commit"], registry=registry).labels(
            *labels
        ).set(1)
        Gauge("model_trained_timestamp_seconds", "When the model was trained, as a Unix time.", registry=registry).set(
            manifest.trained_at.timestamp()
        )
        dataset = parse_dataset_key(manifest.dataset.key)
        if dataset:
            Gauge(
                "model_dataset_age_seconds", "How long ago the model's dataset is dated.", registry=registry
            ).set_function(lambda: time.time() - dataset.timestamp.timestamp())
        Gauge(
            "model_holdout_mae_hours", "The mean absolute error that the model had on its hold-out.", registry=registry
        ).set(manifest.hold_out.candidate.mae)
        if manifest.production_error:
            Gauge(
                "replaced_model_production_mae_hours",
                "The mean absolute error of the model before this one, on the week that this one was trained on.",
                registry=registry,
            ).set(manifest.production_error.mae)
        if manifest.holdout_error:
            Gauge(
                "replaced_model_holdout_mae_hours",
                "The mean absolute error that the model before this one had on its hold-out.",
                registry=registry,
            ).set(manifest.holdout_error.mae)
