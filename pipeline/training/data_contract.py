"""The data contract: what a week of orders must look like before a model may learn from it."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.errors import DatasetInvalid

HOURS = "hours_to_dispatch"
ORDERS = "orders_placed"
PRODUCT = "product_code"
COLUMNS = (HOURS, ORDERS, PRODUCT)

MIN_ROWS = 100  # a fifth of them is held out: 20 rows, or fewer where products have a single one
MAX_HOURS = 1_000_000  # 114 years: beyond it, squared errors leave what a float can hold, and no order takes that long
MAX_ORDERS = 1_000_000  # orders in a day; beyond any warehouse, so a number above it is a fault in the data


@dataclass(frozen=True)
class Breach:
    """One way in which rows break the contract; `row` counts the rows below the header from 1."""

    rule: str
    count: int
    row: int
    value: str


def parse_orders(body: bytes, source: str) -> pd.DataFrame:
    """Read a CSV as a week of orders.

    Columns may come in any order and there may be others; a byte order mark and CRLF are fine; a product may be
    called "NA".

    Returns
    -------
    DataFrame of the columns hours_to_dispatch (float64), orders_placed (float64), product_code (category of str).

    Raises
    ------
    DatasetInvalid
        Names `source` and every breach at once, each with its count and first row.
    """
    _check_file(body, source)
    frame = _read(body)
    if frame is None or _may_be_cut(frame):
        rows, breaches = _find_breaches(body)
        if frame is None or breaches:
            raise DatasetInvalid(f"{source}: {_describe(rows, breaches)}")
    if len(frame) < MIN_ROWS:
        raise DatasetInvalid(f"{source}: {len(frame)} rows, at least {MIN_ROWS} are needed to train on")
    return frame[list(COLUMNS)].astype({PRODUCT: "category"})


def _check_file(body: bytes, source: str) -> None:
    """Refuse what is not a whole text file with the three columns, before any row is looked at."""
    if not body:
        raise DatasetInvalid(f"{source}: the object is empty, a CSV with the columns {', '.join(COLUMNS)} is expected")
    if b"\0" in body:
        raise DatasetInvalid(f"{source}: byte {body.index(0)} is NUL: this is binary or UTF-16, not a CSV in UTF-8")
    try:
        body.isascii() or body.decode()
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise DatasetInvalid(
            f"{source}: byte {error.start} (line {line}) is not UTF-8: 0x{body[error.start]:02x}"
        ) from error
    if not body.endswith(b"\n"):
        last = body[body.rfind(b"\n") + 1 :][:80].decode(errors="replace")
        raise DatasetInvalid(f"{source}: the file was cut off, its last line has no newline: {last!r}")
    try:
        header = next(_csv_rows(body), [])
    except csv.Error as error:
        raise DatasetInvalid(f"{source}: the header cannot be read: {error}") from error
    missing = [column for column in COLUMNS if column not in header]
    doubled = [column for column in COLUMNS if header.count(column) > 1]
    if missing or doubled:
        faults = [f"no column {column}" for column in missing] + [f"{column} is there twice" for column in doubled]
        raise DatasetInvalid(f"{source}: {', '.join(faults)}; the header reads {','.join(header)[:200]!r}")


def _csv_rows(body: bytes) -> Iterator[list[str]]:
    encoding = "utf-8-sig"  # pragma: no mutate (its name has no case)
    text = io.TextIOWrapper(io.BytesIO(body), encoding=encoding, newline="")
    return (row for row in csv.reader(text, strict=True) if row)


def _read(body: bytes) -> pd.DataFrame | None:
    """Parse and check at full speed; None when some cell or row does not fit, without saying which.

    Every column is parsed, since pandas drops a surplus field without a word when it is told which columns to use.
    """
    try:
        frame = pd.read_csv(
            io.BytesIO(body),
            dtype=defaultdict(lambda: "category", {HOURS: "float64", ORDERS: "float64", PRODUCT: "str"}),
            na_filter=False,  # a product may be called "NA"
        )
    except ValueError:  # pandas' own parser errors are ValueErrors
        return None
    if not isinstance(frame.index, pd.RangeIndex):  # one field more than the header: pandas makes an index of it
        return None
    return frame if _holds(frame) else None


def _may_be_cut(frame: pd.DataFrame) -> bool:
    """Is a last field empty? pandas says the same of one that is not there, in a row that was cut off, say."""
    last = frame.columns[-1]
    return last not in COLUMNS and "" in frame[last].cat.categories


def _holds(frame: pd.DataFrame) -> bool:
    hours, orders, products = frame[HOURS].to_numpy(), frame[ORDERS].to_numpy(), frame[PRODUCT]
    return bool(
        np.isfinite(hours).all()
        and (hours >= 0).all()
        and (orders >= 0).all()
        and (hours <= MAX_HOURS).all()
        and (orders <= MAX_ORDERS).all()
        and all(code.strip() for code in products.unique())
    )


def _find_breaches(body: bytes) -> tuple[int, list[Breach]]:
    """Read row by row and name everything that `_read` refuses; slow, and only for a broken week."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[int, str]] = {}
    rows = _csv_rows(body)
    header = next(rows)
    number = 0
    try:
        for number, row in enumerate(rows, start=1):  # noqa: B007 - the last number is how many rows there are
            cells = dict(zip(header, row, strict=False))  # pragma: no mutate (not strict is the default)
            for rule, value in _row_breaches(cells, len(row), len(header)):
                counts[rule] += 1
                first.setdefault(rule, (number, value))
    except csv.Error as error:
        number += 1  # the row that could not be read
        counts[f"a broken quotation or field ({error})"] = 1
        first[f"a broken quotation or field ({error})"] = (number, "")
    return number, [Breach(rule, count, *first[rule]) for rule, count in counts.items()]


def _row_breaches(cells: dict[str, str], fields: int, expected: int) -> Iterator[tuple[str, str]]:
    if fields != expected:
        yield f"another number of fields than the header's {expected}", str(fields)
        return
    for column, highest in ((HOURS, MAX_HOURS), (ORDERS, MAX_ORDERS)):
        rule = _number_breach(cells[column], highest)
        if rule:
            yield f"{column} {rule}", cells[column]
    if not cells[PRODUCT].strip():
        yield f"a blank {PRODUCT}", cells[PRODUCT]


def _number_breach(cell: str, highest: float) -> str | None:
    if not cell.strip():
        return "blank"
    try:
        number = float(cell)
    except ValueError:
        return "that is no number"
    if "_" in cell or not cell.isascii():  # float() reads 1_000 and other scripts' digits, CSV readers do not
        return "that is no number"
    if not math.isfinite(number):
        return "that is not finite"
    if number < 0:
        return "< 0"
    return f"> {highest:,.0f}" if number > highest else None


def _describe(rows: int, breaches: list[Breach]) -> str:
    if not breaches:
        return "cannot be read as a CSV"  # pragma: no mutate (a safety net: no file is known that gets here)
    return "; ".join(
        f"{breach.count} of {rows} rows have {breach.rule} (first: row {breach.row}, {breach.value[:80]!r})"
        for breach in breaches
    )
