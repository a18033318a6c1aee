"""The data contract: what a week of orders must look like."""

import csv
import io
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from pipeline.errors import DatasetInvalid
from pipeline.training.data_contract import COLUMNS, HOURS, MAX_ORDERS, MIN_ROWS, ORDERS, PRODUCT, parse_orders

SOURCE = "datasets/x.csv"
HEADER = "hours_to_dispatch,orders_placed,product_code"
GOOD_ROW = "4.5,12,SKU001"


def csv_of(*rows: str, header: str = HEADER, good: int = MIN_ROWS) -> bytes:
    """A CSV that begins with the given rows and goes on with good ones."""
    return ("\n".join([header, *rows, *[GOOD_ROW] * good]) + "\n").encode()


def refusal(body: bytes) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        parse_orders(body, SOURCE)
    message = str(caught.value)
    assert message.startswith(f"{SOURCE}: ")
    assert "\n" not in message
    return message.removeprefix(f"{SOURCE}: ")


def test_a_week_of_orders_has_three_typed_columns_and_every_row() -> None:
    orders = parse_orders(csv_of("1.25,7,SKU002"), SOURCE)
    assert list(orders.columns) == list(COLUMNS)
    assert len(orders) == MIN_ROWS + 1
    assert orders[HOURS].dtype == orders[ORDERS].dtype == "float64"
    assert orders[PRODUCT].cat.categories.tolist() == ["SKU001", "SKU002"]
    assert orders.iloc[0].tolist() == [1.25, 7.0, "SKU002"]


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(lambda text: text.replace("\n", "\n\n").encode(), id="blank lines"),
        pytest.param(lambda text: text.replace("SKU001", '"SKU001"').encode(), id="quotes"),
    ],
)
def test_other_forms_of_the_same_csv_are_the_same_orders(written: Callable[[str], bytes]) -> None:
    body = csv_of("1,2,SKU002")
    pd.testing.assert_frame_equal(parse_orders(written(body.decode()), SOURCE), parse_orders(body, SOURCE))


def test_columns_may_come_in_any_order_among_others() -> None:
    body = csv_of(header="note,product_code,orders_placed,hours_to_dispatch", good=0) + b"x,SKU001,12,4.5\n" * MIN_ROWS
    assert parse_orders(body, SOURCE).iloc[0].tolist() == [4.5, 12.0, "SKU001"]


@pytest.mark.parametrize("code", ["NA", "nan", "null", "None", "007", "7.0", "True", "1e5", "Ölfilter", " padded "])
def test_a_product_code_is_read_as_text(code: str) -> None:
    assert code in parse_orders(csv_of(f"1,2,{code}", "1,2,7"), SOURCE)[PRODUCT].cat.categories


product_codes = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
rows = st.tuples(st.floats(0, 1e6), st.floats(0, MAX_ORDERS), product_codes)


@given(st.lists(rows, min_size=MIN_ROWS, max_size=MIN_ROWS + 5))
def test_every_row_of_a_csv_writer_is_read_back(written: list[tuple[float, float, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([COLUMNS, *written])
    orders = parse_orders(buffer.getvalue().encode(), SOURCE)
    assert [tuple(row) for row in orders.itertuples(index=False)] == [
        (pytest.approx(hours, rel=1e-15), pytest.approx(placed, rel=1e-15), code) for hours, placed, code in written
    ]


@given(st.binary() | st.text().map(str.encode) | st.text("0123456789.,-\n\r\"'").map(lambda text: csv_of(text)))
def test_any_bytes_are_orders_or_one_clear_line(body: bytes) -> None:
    try:
        assert len(parse_orders(body, SOURCE)) >= MIN_ROWS
    except DatasetInvalid as error:
        assert str(error).startswith(f"{SOURCE}: ")
        assert "\n" not in str(error)


cells = st.text("0123456789.eE+-_ \t١\xa0infatrue", max_size=8)


@given(cells, cells, cells)
def test_a_row_is_refused_if_and_only_if_a_breach_in_it_can_be_named(hours: str, placed: str, code: str) -> None:
    body = csv_of(f'"{hours}","{placed}","{code}"')
    try:
        assert len(parse_orders(body, SOURCE)) == MIN_ROWS + 1
    except DatasetInvalid as error:
        assert "of 101 rows have" in str(error)
        assert "line 2" in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            b"",
            "the file is empty (expected a CSV with the columns hours_to_dispatch, orders_placed, product_code)",
            id="empty",
        ),
        pytest.param(b"\n\n", "no column hours_to_dispatch, no column orders_placed, no column product", id="blank"),
        pytest.param(csv_of(good=0), "0 rows, but at least 100 are needed", id="header only"),
        pytest.param(
            csv_of(header=f"{HEADER},note", good=0), "0 rows, but at least 100", id="header only, four columns"
        ),
        pytest.param(csv_of(good=10), "10 rows, but at least 100 are needed", id="ten rows"),
        pytest.param(csv_of(header="hours,orders_placed,product_code"), "no column hours_to_dispatch;", id="renamed"),
        pytest.param(csv_of(header=f"{HEADER},orders_placed"), "column orders_placed twice", id="twice"),
        pytest.param(csv_of()[:-9], "the file was cut off, its last line has no newline: '4.5,1'", id="cut off"),
        pytest.param(csv_of()[:-8] + b"\n", "1 of 100 rows have more or fewer than", id="cut off, mended"),
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(40), "byte 3 is NUL: the file is binary or UTF-16", id="binary"),
        pytest.param(csv_of().decode().encode("utf-16"), "is NUL: the file is binary or UTF-16", id="UTF-16"),
        pytest.param(csv_of("1,2,\xd6l").decode().encode("latin-1"), "(line 2) is not UTF-8: 0xd6", id="Latin-1"),
    ],
)
def test_a_file_that_is_not_a_whole_week_of_orders_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(body)


@pytest.mark.parametrize(
    ("row", "rule", "value"),
    [
        ("fast,12,SKU001", "hours_to_dispatch that is not a number", "'fast'"),
        ("1_0,12,SKU001", "hours_to_dispatch that is not a number", "'1_0'"),
        ("١,12,SKU001", "hours_to_dispatch that is not a number", "'١'"),
        ("1,,SKU001", "blank orders_placed", "''"),
        ("1,inf,SKU001", "orders_placed that is not finite", "'inf'"),
        ("1,1e999,SKU001", "orders_placed that is not finite", "'1e999'"),
        ("nan,12,SKU001", "hours_to_dispatch that is not a number", "'nan'"),
        ("1,-4.0,SKU001", "orders_placed < 0", "'-4.0'"),
        ("1,1000001,SKU001", "orders_placed > 1,000,000", "'1000001'"),
        ("1e305,12,SKU001", "hours_to_dispatch > 1,000,000", "'1e305'"),
        ("1,12,", "blank product_code", "''"),
        ('1,12,"  "', "blank product_code", "'  '"),
        ("1,12", "more or fewer than the 3 fields of the header", "'2'"),
        ("1,5,12,SKU001", "more or fewer than the 3 fields of the header", "'4'"),
    ],
)
def test_a_breach_is_named_with_its_count_first_line_and_value(row: str, rule: str, value: str) -> None:
    assert refusal(csv_of(GOOD_ROW, row, row)) == f"2 of 103 rows have {rule} (first: line 3, {value})"


def test_all_breaches_are_named_at_once() -> None:
    message = refusal(csv_of("fast,-1,", GOOD_ROW, "1,2,3,4", ",inf,SKU001"))
    assert [part.split(" rows have ")[1] for part in message.split("; ")] == [
        "hours_to_dispatch that is not a number (first: line 2, 'fast')",
        "orders_placed < 0 (first: line 2, '-1')",
        "blank product_code (first: line 2, '')",
        "more or fewer than the 3 fields of the header (first: line 4, '4')",
        "blank hours_to_dispatch (first: line 5, '')",
        "orders_placed that is not finite (first: line 5, 'inf')",
    ]


def test_a_row_that_was_cut_off_before_a_surplus_column_is_refused() -> None:
    whole = csv_of(header=f"{HEADER},note", good=0) + b"4.5,12,SKU001,x\n" * MIN_ROWS
    assert len(parse_orders(whole + b"4.5,12,SKU001,\n", SOURCE)) == MIN_ROWS + 1
    assert refusal(whole + b"4.5,12,SK\n") == (
        "1 of 101 rows have more or fewer than the 4 fields of the header (first: line 102, '3')"
    )


def test_a_field_too_many_in_every_row_is_not_taken_for_an_index() -> None:
    assert "103 of 103" not in refusal(csv_of(*["9,4.5,12,SKU001"] * 3))
    assert "100 of 100 rows have more or fewer" in refusal(csv_of(*["9,4.5,12,SKU001"] * MIN_ROWS, good=0))


def test_a_quotation_that_is_never_closed_is_named_with_its_line() -> None:
    message = refusal(csv_of(GOOD_ROW, '1,2,"SKU001'))
    assert message == "1 of 2 rows have a broken quotation or field (unexpected end of data) (first: line 3, '')"


def test_numbers_at_the_limits_are_accepted() -> None:
    bad = "fast,0,SKU001"
    assert refusal(csv_of("0,0,SKU001", "0.5,1000000,SKU001", "1000000,5,SKU001", bad)) == (
        "1 of 104 rows have hours_to_dispatch that is not a number (first: line 5, 'fast')"
    )


def test_a_quotation_that_is_broken_in_the_first_row_is_on_line_2() -> None:
    message = refusal(csv_of('1,2,"SKU001', good=0))
    assert message == "1 of 1 rows have a broken quotation or field (unexpected end of data) (first: line 2, '')"


def test_a_header_that_cannot_be_read_is_named() -> None:
    assert refusal(csv_of(header=f'"{HEADER}')) == "the header cannot be read: unexpected end of data"


def test_a_wrong_header_is_shown_up_to_200_characters() -> None:
    assert refusal(csv_of(header="hours,orders")).endswith("; the header reads 'hours,orders'")
    assert refusal(csv_of(header="x" * 300)).endswith(f"; the header reads '{'x' * 200}'")


def test_no_more_than_80_bytes_are_shown_of_a_last_line_that_was_cut_off_even_if_a_letter_is_cut() -> None:
    assert refusal(csv_of() + b"x" * 100).endswith(f"no newline: '{'x' * 80}'")
    assert refusal(csv_of() + b"x" * 79 + "é".encode() * 9).endswith(f"no newline: '{'x' * 79}\ufffd'")


def test_a_quoted_carriage_return_is_part_of_the_value() -> None:
    assert refusal(csv_of('1,2,"\r"')).endswith("blank product_code (first: line 2, '\\r')")


def test_a_long_value_is_cut_to_80_characters() -> None:
    assert refusal(csv_of(f"{'x' * 100},1,SKU001")).endswith(f"(first: line 2, '{'x' * 80}')")
