"""Answers from a loaded model: a table for the common request, the estimator for every other."""

import numpy as np

from pipeline.estimator import Floats, TimeToDispatchRegressor
from pipeline.manifest import Manifest

TABLE_ANSWERS = 100_000  # in all: 5 products up to 20,000 orders a day, in about 3 MB
ORDERS_LIMIT = 1e9  # beyond it, the estimate is that for a billion orders: a finite number for any finite request


class Predictor:
    """PredictionCounter of one model, ready to answer: the table is computed here, once.

    The table has the answer for each whole number of orders from 0 to the highest observed of a product; any other
    number of orders goes to the same estimator.
    """

    def __init__(self, estimator: TimeToDispatchRegressor, manifest: Manifest) -> None:
        self.manifest = manifest
        self.product_codes = estimator.product_codes_
        self._estimator = estimator
        self._places = {code: place for place, code in enumerate(estimator.product_codes_)}
        longest = max(TABLE_ANSWERS // len(self._places), 1)
        self._answers = {
            code: self._estimate(place, np.arange(min(manifest.products[code].orders_max // 1 + 1, longest)))
            for code, place in self._places.items()
        }
        self._estimate(0, np.zeros(1))  # a first call is slow: it is not left to a customer

    @property
    def version(self) -> str:
        """The version of the model."""
        return self.manifest.version

    def hours(self, product_code: str, orders_placed: float) -> float:
        """Hours to dispatch, >= 0, to 3 decimals; `orders_placed` is finite and >= 0, the product is a known one."""
        answers = self._answers[product_code]
        if orders_placed < len(answers) and orders_placed.is_integer():
            return answers[int(orders_placed)]
        return self._estimate(self._places[product_code], np.array([min(orders_placed, ORDERS_LIMIT)]))[0]

    def extrapolates(self, product_code: str, orders_placed: float) -> bool:
        """Is this number of orders outside what was seen of the product in training?"""
        seen = self.manifest.products[product_code]
        return not seen.orders_min <= orders_placed <= seen.orders_max

    def _estimate(self, place: int, orders: Floats) -> list[float]:
        hours = self._estimator.predict_encoded(np.column_stack([np.full(orders.shape, place), orders]))
        return [round(estimate, 3) for estimate in hours.tolist()]
