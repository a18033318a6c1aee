"""The data contract: what a week of orders must look like before a model may learn from it."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DatasetInvalid

HOURS = "hours_to_dispatch"
ORDERS = "orders_placed"
PRODUCT = "product_code"
COLUMNS = (HOURS, ORDERS, PRODUCT)

MIN_ROWS = 100  # one fifth is held out: 20 rows, or fewer if products have a single row
MAX_HOURS = 1_000_000  # 114 years; the square of a much longer time would overflow a float
MAX_ORDERS = 1_000_000  # orders in a day, beyond any warehouse
CHUNK_ROWS = 100_000  # rows of a broken week that are searched at a time


@dataclass(frozen=True)
class Rule:
    """A rule for the cells of one column: what a breach is called, and a mask of the values that break it."""

    column: str
    breach: str
    broken_by: Callable[[ArrayLike], NDArray[np.bool_]]


def _number_rules(column: str, maximum: int) -> list[Rule]:
    return [
        Rule(column, f"{column} that is not finite", lambda values: ~np.isfinite(values)),
        Rule(column, f"{column} < 0", lambda values: np.isfinite(values) & (np.asarray(values) < 0)),
        Rule(column, f"{column} > {maximum:,}", lambda values: np.isfinite(values) & (np.asarray(values) > maximum)),
    ]


# For typed values; that a number is readable at all, and the number of fields, are found while the text is parsed.
RULES = [
    *_number_rules(HOURS, MAX_HOURS),
    *_number_rules(ORDERS, MAX_ORDERS),
    Rule(PRODUCT, f"blank {PRODUCT}", lambda codes: np.array([not code.strip() for code in np.asarray(codes)], bool)),
]


@dataclass
class Breach:
    """A rule that rows break: how many, and the line and the value of the first; the header is line 1."""

    rule: str
    line: int
    value: str
    count: int = 0


def parse_orders(body: bytes, source: str) -> pd.DataFrame:
    """Read a CSV as a week of orders.

    Columns may come in any order, and others are ignored. A byte order mark and CRLF are accepted.

    Returns
    -------
    DataFrame of the columns hours_to_dispatch (float64), orders_placed (float64), product_code (category of str).

    Raises
    ------
    DatasetInvalid
        Names `source` and every breach at once, each with its count and the first line.
    """
    _check_file(body, source)
    frame = _read(body)
    if frame is None or _may_be_cut(frame):
        rows, breaches = _find_breaches(body)
        if frame is None or breaches:
            raise DatasetInvalid(f"{source}: {_describe(rows, breaches)}")
    if len(frame) < MIN_ROWS:
        raise DatasetInvalid(f"{source}: {len(frame)} rows, but at least {MIN_ROWS} are needed to train on")
    return frame[list(COLUMNS)].astype({PRODUCT: "category"})


def _check_file(body: bytes, source: str) -> None:
    """Refuse a file that is not whole, not text or without the three columns, before any row is read."""
    if not body:
        raise DatasetInvalid(f"{source}: the file is empty (expected a CSV with the columns {', '.join(COLUMNS)})")
    if b"\0" in body:
        raise DatasetInvalid(
            f"{source}: byte {body.index(0)} is NUL: the file is binary or UTF-16 (expected a CSV in UTF-8)"
        )
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
    _, header = next(_csv_rows(body), (1, []))
    if isinstance(header, csv.Error):
        raise DatasetInvalid(f"{source}: the header cannot be read: {header}") from header
    missing = [column for column in COLUMNS if column not in header]
    doubled = [column for column in COLUMNS if header.count(column) > 1]
    if missing or doubled:
        faults = [f"no column {column}" for column in missing] + [f"column {column} twice" for column in doubled]
        raise DatasetInvalid(f"{source}: {', '.join(faults)}; the header reads {','.join(header)[:200]!r}")


def _csv_rows(body: bytes) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield the line on which each row begins, and its cells; an error instead of the first row that cannot be read.

    Blank lines are skipped.
    """
    encoding = "utf-8-sig"  # pragma: no mutate (its name has no case)
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(body), encoding=encoding, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, error


def _read(body: bytes) -> pd.DataFrame | None:
    """Parse and check at full speed; None if any cell or row breaks the contract.

    Every column is parsed: pandas silently drops surplus fields if it is told which columns to use.
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
    values = {HOURS: frame[HOURS].to_numpy(), ORDERS: frame[ORDERS].to_numpy(), PRODUCT: frame[PRODUCT].unique()}
    return None if any(rule.broken_by(values[rule.column]).any() for rule in RULES) else frame


def _may_be_cut(frame: pd.DataFrame) -> bool:
    """Whether a last field is empty: pandas reads a row that was cut off before it in the same way."""
    last = frame.columns[-1]
    return last not in COLUMNS and bool((frame[last] == "").any())


def _find_breaches(body: bytes) -> tuple[int, list[Breach]]:
    """Return the number of rows, and every breach in them. Slow, and only for a week that _read() refuses."""
    breaches: dict[str, Breach] = {}

    def add(rule: str, line: int, value: str, count: int = 1) -> None:
        breaches.setdefault(rule, Breach(rule, line, value)).count += count

    rows = _csv_rows(body)
    _, header = next(rows)
    assert isinstance(header, list)  # _check_file() has read it
    number = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):
        number += len(chunk)
        whole = []
        for line, cells in chunk:
            if isinstance(cells, csv.Error):
                add(f"a broken quotation or field ({cells})", line, "")
            elif len(cells) != len(header):
                add(f"more or fewer than the {len(header)} fields of the header", line, str(len(cells)))
            else:
                whole.append((line, cells))
        frame = pd.DataFrame([cells for _, cells in whole], columns=header)
        for column, breach, broken in _broken_cells(frame):
            first = int(broken.argmax())
            add(breach, whole[first][0], str(frame[column].iloc[first]), int(broken.sum()))
    return number, sorted(breaches.values(), key=lambda breach: breach.line)


def _broken_cells(frame: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield column, name and mask of each breach among rows of text, by RULES and by what a number looks like."""
    values: dict[str, ArrayLike] = {PRODUCT: frame[PRODUCT].to_numpy()}
    masks = []
    for column in (HOURS, ORDERS):
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
        blank = frame[column].str.strip().eq("").to_numpy(bool)
        unreadable = np.isnan(numbers)
        masks += [(column, f"blank {column}", blank), (column, f"{column} that is not a number", unreadable & ~blank)]
        values[column] = np.where(unreadable, 0, numbers)
    masks += [(rule.column, rule.breach, rule.broken_by(values[rule.column])) for rule in RULES]
    return (mask for mask in masks if mask[2].any())


def _describe(rows: int, breaches: list[Breach]) -> str:
    if not breaches:
        return "cannot be read as a CSV"  # pragma: no mutate (a safety net: no known file gets here)
    return "; ".join(
        f"{breach.count} of {rows} rows have {breach.rule} (first: line {breach.line}, {breach.value[:80]!r})"
        for breach in breaches
    )
