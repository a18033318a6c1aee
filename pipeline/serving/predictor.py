"""Estimates from a loaded model: from a table for the usual questions, and from the estimator for all others."""

import numpy as np

from pipeline.estimator import Floats, TimeToDispatchRegressor
from pipeline.manifest import Manifest

TABLE_SIZE = 100_000  # estimates of all products: 5 products up to 20,000 orders a day, in about 3 MB
MAX_ORDERS = 1e9  # more orders get the estimate for this many, so that every estimate is finite


class Predictor:
    """The estimates of one model.

    The table is computed once, for each product and each whole number of orders from 0 to the highest observed one. The
    same estimator answers all other questions.
    """

    def __init__(self, estimator: TimeToDispatchRegressor, manifest: Manifest) -> None:
        self.manifest = manifest
        self.product_codes = estimator.product_codes_
        self._estimator = estimator
        self._places = {code: place for place, code in enumerate(estimator.product_codes_)}
        longest = max(TABLE_SIZE // len(self._places), 1)
        self._answers = {
            code: self._estimate(place, np.arange(min(manifest.products[code].orders_max // 1 + 1, longest)))
            for code, place in self._places.items()
        }
        self._estimate(0, np.zeros(1))  # the first call is slow: do it before a customer does

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    def hours(self, product_code: str, orders_placed: float) -> float:
        """Return hours to dispatch, >= 0, with 3 decimals; `orders_placed` is finite and >= 0, the product is known."""
        answers = self._answers[product_code]
        if orders_placed < len(answers) and orders_placed.is_integer():
            return answers[int(orders_placed)]
        return self._estimate(self._places[product_code], np.array([min(orders_placed, MAX_ORDERS)]))[0]

    def extrapolates(self, product_code: str, orders_placed: float) -> bool:
        """Whether the training data of the product had only fewer or only more orders than this."""
        profile = self.manifest.products[product_code]
        return not profile.orders_min <= orders_placed <= profile.orders_max

    def _estimate(self, place: int, orders: Floats) -> list[float]:
        hours = self._estimator.predict_encoded(np.column_stack([np.full(orders.shape, place), orders]))
        return [round(estimate, 3) for estimate in hours.tolist()]
