"""The HTTP contract, on the app itself."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from pipeline.estimator import LinePerProduct, TimeToDispatchRegressor
from pipeline.keys import format_version
from pipeline.registry.models import LoadedModel
from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE
from pipeline.training.data_contract import HOURS
from tests.conftest import NOW

LARGEST = 1.7976931348623157e308
GOOD = '{"product_code": "SKU001", "orders_placed": 112}'


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle()


@pytest.fixture
def client(predictor: Predictor, lifecycle: Lifecycle) -> Iterator[TestClient]:
    with TestClient(create_app(predictor, lifecycle), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, body: str | bytes, content_type: str | None = "application/json") -> Any:
    headers = {"Content-Type": content_type} if content_type else {}
    return client.post(ROUTE, content=body, headers=headers)


def metric(client: TestClient, name: str) -> float | None:
    """A metric's value, None for one that was never counted."""
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), None)


def test_an_order_is_answered_with_hours_and_the_models_version(client: TestClient, predictor: Predictor) -> None:
    answer = post(client, GOOD)
    assert answer.status_code == 200
    assert answer.json() == {
        "est_hours_to_dispatch": predictor.hours("SKU001", 112.0),
        "model_version": format_version(NOW),
    }
    assert answer.json()["est_hours_to_dispatch"] == pytest.approx(0.5 + 0.03 * 112, abs=0.5)


@given(orders=st.integers(0, 10**12) | st.floats(0, LARGEST))
def test_any_number_of_orders_has_finite_hours_with_3_decimals(predictor: Predictor, orders: float) -> None:
    for code in predictor.product_codes:
        hours = predictor.hours(code, float(orders))
        assert 0 <= hours < float("inf")
        assert hours == round(hours, 3)


@pytest.mark.parametrize(
    "regressor",
    [
        LinePerProduct(),
        DecisionTreeRegressor(random_state=1),
        HistGradientBoostingRegressor(max_iter=10, early_stopping=False),
    ],
)
def test_the_table_equals_the_estimator_row_by_row(champion: LoadedModel, week: pd.DataFrame, regressor: Any) -> None:
    estimator = TimeToDispatchRegressor(regressor).fit(week, week[HOURS].to_numpy())
    predictor = Predictor(estimator, champion.manifest)
    for place, code in enumerate(predictor.product_codes):
        for orders in (0, 1, 57, 112, 199, 200):
            row_by_row = estimator.predict_encoded(np.array([[place, orders]], dtype=float))[0]
            assert predictor.hours(code, float(orders)) == round(float(row_by_row), 3)


def test_orders_between_and_beyond_those_of_the_table_are_answered(client: TestClient) -> None:
    between, beyond, far_beyond = (
        post(client, f'{{"product_code": "SKU001", "orders_placed": {orders}}}').json()["est_hours_to_dispatch"]
        for orders in ("112.5", "201", "1e308")
    )
    assert 3 < between < 5 < 5.5 < beyond < 8 < far_beyond < float("inf")


def test_extrapolated_predictions_are_counted(client: TestClient) -> None:
    for orders in (0, 200, 201, 1e9):
        assert post(client, json.dumps({"product_code": "SKU001", "orders_placed": orders})).status_code == 200
    assert metric(client, "extrapolated_predictions_total") == 2


def test_unknown_extra_fields_are_ignored(client: TestClient) -> None:
    assert post(client, GOOD.replace("}", ', "customer": {"vip": NaN}}')).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
def test_every_media_type_for_json_is_accepted(client: TestClient, content_type: str) -> None:
    assert post(client, GOOD, content_type).status_code == 200


def with_orders(value: str) -> str:
    return f'{{"product_code": "SKU001", "orders_placed": {value}}}'


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ('{"orders_placed": 1}', ["body", "product_code"]),
        ('{"product_code": "SKU001"}', ["body", "orders_placed"]),
        ('{"product_code": 1, "orders_placed": 1}', ["body", "product_code"]),
        ('{"product_code": null, "orders_placed": 1}', ["body", "product_code"]),
        ('{"product_code": "", "orders_placed": 1}', ["body", "product_code"]),
        ('{"product_code": "sku001", "orders_placed": 1}', ["body", "product_code"]),
        *((with_orders(value), ["body", "orders_placed"]) for value in ('"112"', "true", "false", "null", "[]", "{}")),
        *((with_orders(value), ["body", "orders_placed"]) for value in ("-1", "-0.001", "-1e999")),
        *((with_orders(value), ["body", "orders_placed"]) for value in ("NaN", "Infinity", "-Infinity", "1e999")),
        (with_orders("9" * 400), ["body", "orders_placed"]),
        (with_orders("9" * 5_000), ["body"]),
        ('{"product_code": "\\ud800", "orders_placed": 1}', ["body"]),
        (b'{"product_code": "\xff", "orders_placed": 1}', ["body"]),
        (GOOD.encode("utf-16"), ["body"]),
        ("\ufeff" + GOOD, ["body"]),
        ("", ["body"]),
        ("not JSON", ["body"]),
        (GOOD[:-1], ["body"]),
        (GOOD + GOOD, ["body"]),
        ("[" * 9_000, ["body"]),
        ("null", ["body"]),
        (f"[{GOOD}]", ["body"]),
        ("[NaN]", ["body"]),
        ('"\\u0000"', ["body"]),
    ],
)
def test_an_invalid_order_is_a_422_that_names_the_field(client: TestClient, body: str | bytes, loc: list[str]) -> None:
    answer = post(client, body)
    assert answer.status_code == 422
    assert loc in [fault["loc"] for fault in answer.json()["detail"]]
    assert all({"type", "loc", "msg"} <= fault.keys() for fault in answer.json()["detail"])


def test_every_fault_of_a_request_is_named(client: TestClient) -> None:
    faults = post(client, '{"product_code": 1, "orders_placed": -Infinity}').json()["detail"]
    assert [(fault["loc"][-1], fault["type"]) for fault in faults] == [
        ("product_code", "string_type"),
        ("orders_placed", "finite_number"),
    ]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_a_body_that_is_not_called_json_is_refused(client: TestClient, content_type: str | None) -> None:
    answer = post(client, GOOD, content_type)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "content-type"]


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_body_is_answered_or_refused_in_json(predictor: Predictor, body: bytes) -> None:
    client = TestClient(create_app(predictor, Lifecycle()))  # an error in the app is raised here
    answer = post(client, body)
    assert answer.status_code in (200, 422)
    assert answer.json()


def test_a_body_over_16_kib_is_refused_however_it_is_sent(client: TestClient) -> None:
    padded = GOOD.replace("}", ' "customer": "" }').replace('""', '"' + "x" * MAX_BODY_BYTES + '"')
    assert post(client, padded).status_code == 413

    def in_chunks() -> Iterator[bytes]:
        yield padded[:100].encode()
        yield padded[100:].encode()

    answer = client.post(ROUTE, content=in_chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body is over 16384 bytes"}


def test_a_body_of_16_kib_is_read(client: TestClient) -> None:
    assert post(client, GOOD + " " * (MAX_BODY_BYTES - len(GOOD))).status_code == 200
    assert post(client, GOOD + " " * (MAX_BODY_BYTES - len(GOOD) + 1)).status_code == 413


def test_refusals_are_counted_by_reason_and_an_unknown_product_apart(client: TestClient) -> None:
    for body in ("", "", '{"product_code": "SKU9", "orders_placed": 1}', with_orders("-1")):
        post(client, body)
    assert metric(client, 'refused_requests_total{reason="json_invalid"}') == 2
    assert metric(client, 'refused_requests_total{reason="unknown_product"}') == 1
    assert metric(client, 'refused_requests_total{reason="invalid_field"}') == 1


def test_answers_are_counted_by_product_route_method_and_status(client: TestClient) -> None:
    post(client, GOOD)
    post(client, "")
    client.get("/no/such/route")
    client.request("BREW", "/livez")
    assert metric(client, 'predictions_total{product_code="SKU001"}') == 1
    assert metric(client, "prediction_hours_count") == 1
    requests = 'http_requests_total{{method="{}",route="{}",status="{}"}}'
    assert metric(client, requests.format("POST", ROUTE, 200)) == 1
    assert metric(client, requests.format("POST", ROUTE, 422)) == 1
    assert metric(client, requests.format("GET", "other", 404)) == 1
    assert metric(client, requests.format("other", "/livez", 405)) == 1
    assert metric(client, "http_request_duration_seconds_count") == 2


def test_the_metrics_say_which_model_is_served_and_how_old_it_is(client: TestClient) -> None:
    dataset = "datasets/time_to_dispatch_2026-11-20T23:00:00Z.csv"
    info = f'dataset="{dataset}",git_commit="abc1234",version="{format_version(NOW)}"'
    assert metric(client, f"model_info{{{info}}}") == 1
    assert metric(client, "model_trained_timestamp_seconds") == NOW.timestamp()


def test_a_replica_is_ready_until_it_drains_and_alive_all_the_time(client: TestClient, lifecycle: Lifecycle) -> None:
    assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 200)
    assert metric(client, "draining") == 0
    lifecycle.draining = True
    assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 503)
    assert client.get("/readyz").json() == {"status": "draining", "model_version": format_version(NOW)}
    assert metric(client, "draining") == 1
    assert post(client, GOOD).status_code == 200


def test_the_description_lists_the_products_and_every_status(client: TestClient, predictor: Predictor) -> None:
    description = client.get("/openapi.json").json()
    operation = description["paths"][ROUTE]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["product_code"]["enum"] == predictor.product_codes
    assert set(operation["responses"]) == {"200", "413", "422", "500", "503"}
    assert all(code in description["info"]["description"] for code in predictor.product_codes)


class Links(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_documentation_needs_no_internet(client: TestClient) -> None:
    page = client.get("/docs").text
    links = Links()
    links.feed(page)
    assert len(links.found) == 3
    for link in links.found:
        assert link.startswith("./swagger/")
        assert client.get(link.removeprefix(".")).status_code == 200
    assert "http" not in page.replace("http://www.w3.org", "")
