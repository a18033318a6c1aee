"""The question, the answer, and how answers are counted: one definition, for the lane and for FastAPI."""

from pydantic import BaseModel, ConfigDict, Field

from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.predictor import Predictor

ROUTE = "/api/v0.1/time_to_dispatch"
MAX_BODY_BYTES = 16 * 1024


class OrderQuery(BaseModel):
    """An order that a customer thinks of placing."""

    model_config = ConfigDict(strict=True)  # false is not 0, "112" is not 112

    product_code: str
    orders_placed: float = Field(ge=0, allow_inf_nan=False, description="orders already placed that day")


class DispatchEstimate(BaseModel):
    """How long the order would take to dispatch, and which model says so."""

    est_hours_to_dispatch: float = Field(ge=0, description="to 3 decimals")
    model_version: str


class PredictionCounter:
    """A predictor's answers, each of them counted."""

    def __init__(self, predictor: Predictor, metrics: ServiceMetrics) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._given = {code: metrics.predictions.labels(code) for code in predictor.product_codes}

    def hours(self, query: OrderQuery) -> float | None:
        """Answer a query; None, and nothing is counted, if the model was not trained on the product."""
        given = self._given.get(query.product_code)
        if given is None:
            return None
        hours = self._predictor.hours(query.product_code, query.orders_placed)
        given.inc()
        self._metrics.prediction_hours.observe(hours)
        if self._predictor.extrapolates(query.product_code, query.orders_placed):
            self._metrics.extrapolated.inc()
        return hours

    def describe(self, hours: float) -> DispatchEstimate:
        """The answer that the customer gets."""
        return DispatchEstimate(est_hours_to_dispatch=hours, model_version=self._predictor.version)
