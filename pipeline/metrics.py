"""What Prometheus reads from a replica. Labels are bounded: routes and products are known, methods are HTTP's."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.manifest import Manifest

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SECONDS_BUCKETS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0)
HOURS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 240.0)


class ServiceMetrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self, manifest: Manifest) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "http_request_duration_seconds",
            "From the request's headers to the end of the answer, on POST /api/v0.1/time_to_dispatch.",
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self.predictions = Counter("predictions", "Estimates given.", ["product_code"], registry=self._registry)
        self.prediction_hours = Histogram(
            "prediction_hours", "The estimates given, in hours.", buckets=HOURS_BUCKETS, registry=self._registry
        )
        self.refused = Counter("refused_requests", "Requests refused.", ["reason"], registry=self._registry)
        self.extrapolated = Counter(
            "extrapolated_predictions",
            "Estimates given for a number of orders outside what was seen in training.",
            registry=self._registry,
        )
        self.draining = Gauge(
            "draining", "1 while the replica drains after SIGTERM, 0 before.", registry=self._registry
        )
        Gauge(
            "model_info", "The model served.", ["version", "dataset", "git_commit"], registry=self._registry
        ).labels(manifest.version, manifest.dataset.key, manifest.git_commit).set(1)
        Gauge(
            "model_trained_timestamp_seconds", "When the model was trained, as a Unix time.", registry=self._registry
        ).set(manifest.trained_at.timestamp())

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
