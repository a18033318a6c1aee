"""The metrics that Prometheus scrapes from a replica.

Labels are bounded: routes, products, reasons and methods are known, and only a few unknown product codes are kept.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.keys import parse_dataset_key
from pipeline.manifest import Manifest

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OWN_REASONS = frozenset({"unknown_product", "json_invalid", "content_type", "too_large"})
MAX_UNKNOWN_CODES = 20  # unknown product codes with a label of their own; later ones are "other"
MAX_CODE_LENGTH = 64  # characters of such a label

SECONDS_BUCKETS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0)
HOURS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 240.0)


class ServiceMetrics:
    """The metrics of one app, in their own registry."""

    def __init__(self, manifest: Manifest) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests", "Answered requests.", ["route", "method", "status"], registry=registry
        )
        self._request_counters: dict[tuple[str, str, int], Counter] = {}
        self.request_seconds = Histogram(
            "http_request_duration_seconds",
            "From the headers of POST /api/v0.1/time_to_dispatch to the end of the answer, without 503.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("http_requests_in_flight", "Unfinished requests.", registry=registry)
        self.shed = Counter(
            "shed_requests", "Requests answered 503, since too many were unfinished.", registry=registry
        )
        self.disconnected = Counter(
            "disconnected_requests", "Requests whose client left before the answer.", registry=registry
        )
        self.predictions = Counter("predictions", "Estimates.", ["product_code"], registry=registry)
        self.prediction_hours = Histogram(
            "prediction_hours", "Estimates, in hours.", buckets=HOURS_BUCKETS, registry=registry
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
            "Estimates for more or fewer orders than the training data had.",
            registry=registry,
        )
        self.draining = Gauge("draining", "1 while the replica drains after SIGTERM, else 0.", registry=registry)
        for reason in ("invalid_field", *OWN_REASONS):
            self._refused.labels(reason)  # exposed from the start: a rate needs a zero to rise from
        self._describe_model(manifest)

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count an answer; unknown methods count as "other"."""
        counter = self._request_counters.get((route, method, status))
        if counter is None:
            counter = self._requests.labels(route, method if method in METHODS else "other", str(status))
            if method in METHODS:
                self._request_counters[route, method, status] = counter
        counter.inc()

    def count_refusal(self, fault: str, refused: object) -> None:
        """Count a refusal by its first fault, and an unknown product code by its name."""
        self._refused.labels(fault if fault in OWN_REASONS else "invalid_field").inc()
        if fault == "unknown_product":
            code = ascii(refused)[1:-1][:MAX_CODE_LENGTH]
            if len(self._unknown_codes) < MAX_UNKNOWN_CODES:
                self._unknown_codes.add(code)
            self._unknown.labels(code if code in self._unknown_codes else "other").inc()

    def render(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def _describe_model(self, manifest: Manifest) -> None:
        registry = self._registry
        labels = (manifest.version, manifest.dataset.key, manifest.git_commit)
        Gauge("model_info", "The served model.", ["version", "dataset", "git_commit"], registry=registry).labels(
            *labels
        ).set(1)
        Gauge("model_trained_timestamp_seconds", "When the model was trained, as a Unix time.", registry=registry).set(
            manifest.trained_at.timestamp()
        )
        dataset = parse_dataset_key(manifest.dataset.key)
        if dataset:
            Gauge("model_dataset_age_seconds", "Age of the model's dataset.", registry=registry).set_function(
                lambda: time.time() - dataset.timestamp.timestamp()
            )
        Gauge("model_holdout_mae_hours", "Mean absolute error of the model on its hold-out.", registry=registry).set(
            manifest.hold_out.candidate.mae
        )
        if manifest.production_error:
            Gauge(
                "replaced_model_production_mae_hours",
                "Mean absolute error of the previous model in the week that this model was trained on.",
                registry=registry,
            ).set(manifest.production_error.mae)
        if manifest.holdout_error:
            Gauge(
                "replaced_model_holdout_mae_hours",
                "Mean absolute error of the previous model on its own hold-out.",
                registry=registry,
            ).set(manifest.holdout_error.mae)
