"""Generate weeks of orders, for a first run, for tests, and to try what the gates reject.

Each product has a base time and a slope. The hours of an order are base + slope x orders placed that day + normal
noise, with a floor at zero, so a straight line per product is the right model and NOISE_HOURS the least error that
any model can reach.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.keys import dataset_key
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT

ORDERS_A_WEEK = 1_000
MAX_ORDERS_PER_DAY = 200
MAX_NUMBER = 100_000_000  # of rows, or of a seed
NOISE_HOURS = 0.75  # standard deviation


@dataclass(frozen=True)
class Product:
    """A product: its hours without other orders, and the hours that each order adds."""

    code: str
    base: float
    slope: float


PRODUCTS = (
    Product("SKU001", 0.5, 0.03),
    Product("SKU002", 2.5, 0.05),
    Product("SKU003", 6.0, 0.02),
    Product("SKU004", 9.0, 0.06),
    Product("SKU005", 16.0, 0.04),
)


def generate_week(
    seed: int, rows: int = ORDERS_A_WEEK, drift: float = 0.0, products: Sequence[Product] = PRODUCTS
) -> pd.DataFrame:
    """Generate a week of about `rows` orders; `drift` is the share by which hours are longer than in PRODUCTS."""
    rng = np.random.default_rng(seed)
    rows = rng.poisson(rows)
    which = rng.integers(len(products), size=rows)
    base, slope = (np.array([getattr(product, name) for product in products]) for name in ("base", "slope"))
    orders = rng.integers(0, MAX_ORDERS_PER_DAY, size=rows, endpoint=True)
    hours = (base[which] + slope[which] * orders) * (1 + drift) + rng.normal(0, NOISE_HOURS, size=rows)
    return pd.DataFrame(
        {
            HOURS: np.maximum(hours, 0.0).round(3),
            ORDERS: orders,
            PRODUCT: np.array([product.code for product in products])[which],
        }
    )


def to_csv(orders: pd.DataFrame) -> bytes:
    """Return the week as the data team's CSV."""
    return orders.to_csv(index=False, lineterminator="\n").encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one week to a file."""
    parser = argparse.ArgumentParser(prog="python -m local.generate_orders", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write the file (default: here)")
    parser.add_argument(
        "--rows", type=_count, default=ORDERS_A_WEEK, help="about how many orders (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=_count, default=1, help="the same seed gives the same week (default: %(default)s)"
    )
    parser.add_argument("--drift", type=share, default=0.0, help="share by which all hours are longer (default: 0)")
    args = parser.parse_args(arguments)
    path = args.folder / Path(dataset_key(datetime.now(UTC))).name
    try:
        path.write_bytes(to_csv(generate_week(args.seed, args.rows, args.drift)))
    except OSError as error:
        print(f"ERROR: {path}: {error.strerror}", file=sys.stderr)
        return 1
    print(path)
    return 0


def share(text: str) -> float:
    """Parse the share by which hours grow; a negative one lets them shrink."""
    if not -1 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a share (expected a number above -1)")
    return float(text)


def _count(text: str) -> int:
    if not 1 <= int(text) <= MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {MAX_NUMBER:,}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
