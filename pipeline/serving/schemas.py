"""The question and the answer of the prediction route, and the count of predictions."""

from pydantic import BaseModel, ConfigDict, Field

from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.predictor import Predictor

ROUTE = "/api/v0.1/time_to_dispatch"
MAX_BODY_BYTES = 16 * 1024


class OrderQuery(BaseModel):
    """An order that a customer considers."""

    model_config = ConfigDict(strict=True)  # neither false nor "112" is a number

    product_code: str
    orders_placed: float = Field(ge=0, allow_inf_nan=False, description="orders already placed that day")


class DispatchEstimate(BaseModel):
    """How long the order would take to dispatch, and the version of the model that says so."""

    est_hours_to_dispatch: float = Field(ge=0, description="with 3 decimals")
    model_version: str


class PredictionCounter:
    """Predicts, and counts each prediction."""

    def __init__(self, predictor: Predictor, metrics: ServiceMetrics) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._counters = {code: metrics.predictions.labels(code) for code in predictor.product_codes}

    def predict(self, query: OrderQuery) -> float | None:
        """Return the hours for an order; None, without counting, if the model was not trained on the product."""
        counter = self._counters.get(query.product_code)
        if counter is None:
            return None
        hours = self._predictor.hours(query.product_code, query.orders_placed)
        counter.inc()
        self._metrics.prediction_hours.observe(hours)
        if self._predictor.extrapolates(query.product_code, query.orders_placed):
            self._metrics.extrapolated.inc()
        return hours

    def estimate(self, hours: float) -> DispatchEstimate:
        """Return the hours as the answer of the route."""
        return DispatchEstimate(est_hours_to_dispatch=hours, model_version=self._predictor.version)
