"""The training report, as a training writes it."""

import re
import uuid
from datetime import timedelta
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from local.generate_orders import PRODUCTS, Product, generate_week, to_csv
from pipeline.errors import TrainingRejected
from pipeline.keys import dataset_key, format_version, model_key, rejected_report_key, report_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import ModelRegistry
from pipeline.report.render import MAX_CURVES
from pipeline.train_model import run
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from tests.conftest import FRIDAY, NOW, THRESHOLDS, WEEK, Bucket

VERSION, NEXT_VERSION = format_version(NOW), format_version(NOW + WEEK)
SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """A report, parsed: its tags with their attributes, and the text that a reader sees."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(body.decode())
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.text += f" {data}"

    def plots(self) -> list[str]:
        """What each plot says it is."""
        return [attrs.get("aria-label") or "" for tag, attrs in self.tags if tag == "svg"]


def train_next_week(bucket: Bucket, orders: pd.DataFrame) -> Page:
    """Train on one more week; its report."""
    bucket.put(dataset_key(FRIDAY + WEEK), to_csv(orders))
    try:
        run(bucket.store, THRESHOLDS, NOW + WEEK, "def5678")
    except TrainingRejected:
        return Page(bucket.get(rejected_report_key(NEXT_VERSION)))
    return Page(bucket.get(report_key(NEXT_VERSION)))


@pytest.fixture(scope="module")
def next_week() -> pd.DataFrame:
    """The week after, in which SKU005 gave way to a product whose name is a script."""
    return generate_week(seed=2, products=(*PRODUCTS[:4], Product(SCRIPT, 3.0, 0.04)))


@pytest.fixture(scope="module")
def reports(moto_environment: dict[str, str], trained_objects: dict[str, bytes], next_week: pd.DataFrame) -> Bucket:
    """A bucket with two trainings in a row, only to be read."""
    bucket = Bucket(moto_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    for key, body in trained_objects.items():
        bucket.put(key, body)
    train_next_week(bucket, next_week)
    return bucket


def page_of(bucket: Bucket, version: str) -> Page:
    return Page(bucket.get(report_key(version)))


def test_the_report_says_at_the_top_which_week_how_many_orders_which_error_and_the_verdict(
    reports: Bucket, week: pd.DataFrame
) -> None:
    manifest = ModelRegistry(reports.store).read_manifest(VERSION)
    page = page_of(reports, VERSION)
    top = page.text[: page.text.index("The rest of this page")]
    assert "Friday 20 November 2026, 23:00 UTC Accepted" in top
    assert f"{len(week):,} orders of 5 products" in top
    assert f"{manifest.hold_out.candidate.mae:.2f} h" in top
    assert "The new model was not compared with one in production: no model was ever promoted." in top


def test_the_report_compares_with_the_model_in_production(reports: Bucket) -> None:
    page = page_of(reports, NEXT_VERSION)
    manifest = ModelRegistry(reports.store).read_manifest(NEXT_VERSION)
    assert manifest.production_error is not None
    ours, theirs = manifest.hold_out.candidate_where_champion_knows, manifest.hold_out.champion
    assert ours is not None
    assert theirs is not None
    assert "The new model is as good as the one in production" in page.text
    assert f"The root mean square error decides: {ours.rmse:.3f} h against {theirs.rmse:.3f} h." in page.text
    assert "A difference of up to 5 % counts as equal." in page.text
    assert f"{manifest.production_error.mae:.2f} h" in page.text
    assert f"the model in production, on the whole week {manifest.production_error.rmse:.3f}" in page.text


@pytest.mark.parametrize(("drift", "words"), [(0.5, "better than"), (0.0, "as good as")])
def test_the_report_says_whether_the_new_model_is_better(trained_bucket: Bucket, drift: float, words: str) -> None:
    page = train_next_week(trained_bucket, generate_week(seed=2, drift=drift))
    assert f"The new model is {words} the one in production" in page.text


def test_the_report_shows_the_plots_that_a_data_scientist_asks_for(reports: Bucket) -> None:
    page = page_of(reports, NEXT_VERSION)
    assert page.plots() == [
        *["Hours to dispatch over orders placed"] * 5,
        "Predicted against actual hours",
        "Residuals over predicted hours",
        "Distribution of the residuals",
        "Cross-validated error of each candidate",
        "Distribution of hours to dispatch",
        "Distribution of orders placed that day",
        "Error on the hold-out and in production",
    ]


def test_the_champions_curve_is_drawn_for_each_product_that_it_knows(reports: Bucket) -> None:
    first = reports.get(report_key(VERSION))
    curves = plots_of(reports.get(report_key(NEXT_VERSION)))[:5]
    assert [("stroke: var(--old)" in plot) for plot in curves].count(True) == 4
    assert not any("stroke: var(--old)" in plot for plot in plots_of(first)[:5])
    assert all("stroke: var(--new)" in plot for plot in curves)


def test_the_report_names_new_and_vanished_products_and_the_drift(reports: Bucket) -> None:
    page = page_of(reports, NEXT_VERSION)
    assert f"New this week: {SCRIPT}. Vanished: SKU005." in page.text
    assert re.search(r"product_code \d\.\d{3} \d\.\d{3} major", page.text)
    assert re.search(r"orders_placed \d\.\d{3} \d\.\d{3} stable", page.text)
    assert f"{SCRIPT}, new to the model in production" in page.text


def test_a_products_name_cannot_become_markup(reports: Bucket) -> None:
    page = page_of(reports, NEXT_VERSION)
    assert page.text.count(SCRIPT) >= 3
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_report_needs_no_network(reports: Bucket) -> None:
    body = reports.get(report_key(NEXT_VERSION))
    page = Page(body)
    for tag, attrs in page.tags:
        links = {name: value or "" for name, value in attrs.items() if name in ("src", "href", "xlink:href", "action")}
        assert all(value.startswith("#") for value in links.values()), (tag, links)
    assert not {tag for tag, _ in page.tags} & {"link", "script", "img", "iframe", "object", "base"}
    assert not re.search(rb"url\((?!#)|@import", body)
    assert b"default-src 'none'" in body
    assert len(body) < 600_000


def test_the_report_has_a_dark_mode_that_its_plots_follow(reports: Bucket) -> None:
    body = reports.get(report_key(VERSION)).decode()
    assert "prefers-color-scheme: dark" in body
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in body
    colours = {colour for plot in plots_of(body.encode()) for colour in re.findall(r"#[0-9a-f]{6}\b", plot)}
    assert not colours


def test_a_rejected_training_has_a_report_with_the_reason_and_the_error_line_names_it(
    trained_bucket: Bucket, week: pd.DataFrame
) -> None:
    shuffled = week.assign(**{HOURS: np.random.default_rng(1).permutation(week[HOURS])})
    trained_bucket.put(dataset_key(FRIDAY + WEEK), to_csv(shuffled))
    with pytest.raises(TrainingRejected, match=f"see rejected/{NEXT_VERSION}/report.html: accuracy: hold-out R2"):
        run(trained_bucket.store, THRESHOLDS, NOW + WEEK, "def5678")
    page = Page(trained_bucket.get(f"rejected/{NEXT_VERSION}/report.html"))
    assert "Rejected The model in production stays." in page.text
    assert "accuracy: hold-out R2" in page.text[: page.text.index("The rest of this page")]
    assert report_key(NEXT_VERSION) not in trained_bucket.keys()


def test_the_report_shows_the_history_of_errors_and_champions(reports: Bucket) -> None:
    page = page_of(reports, NEXT_VERSION)
    first, second = (ModelRegistry(reports.store).read_manifest(version) for version in (VERSION, NEXT_VERSION))
    assert second.production_error is not None
    holdout, observed = first.hold_out.candidate.rmse, second.production_error.rmse
    own = second.hold_out.candidate.rmse
    assert f"accepted {own:.3f} {observed:.3f} (hold-out {holdout:.3f}) {VERSION} hours_to_dispatch" in page.text
    assert f"accepted {holdout:.3f} no week before {VERSION}" in page.text
    assert f"trained on {dataset_key(FRIDAY)} abc1234" in page.text[page.text.index("Champions before") :]


def test_a_broken_manifest_or_record_is_left_out_of_the_history(
    trained_bucket: Bucket, next_week: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.put("models/time_to_dispatch_2026-11-14T08:00:00Z/manifest.json", b"{}")
    trained_bucket.put("models/history/2026-11-14T08:00:00Z-0.json", b"{}")
    page = train_next_week(trained_bucket, next_week)
    assert "2026-11-14T08" not in page.text
    assert caplog.text.count("Skipped the training ") == caplog.text.count("Skipped an earlier champion: ") == 1


def test_a_report_survives_a_week_with_one_product(trained_bucket: Bucket) -> None:
    page = train_next_week(trained_bucket, generate_week(seed=2, products=PRODUCTS[:1]))
    assert "orders of 1 product," in page.text
    assert "Vanished: SKU002, SKU003, SKU004, SKU005." in page.text


def test_a_report_survives_500_products_and_draws_those_with_the_most_orders(trained_bucket: Bucket) -> None:
    many = tuple(Product(f"SKU{number:03d}", 1.0 + number / 50, 0.05) for number in range(500))
    page = train_next_week(trained_bucket, generate_week(seed=2, rows=8_000, products=many))
    assert page.plots().count("Hours to dispatch over orders placed") == MAX_CURVES
    assert (
        f"Shown are {MAX_CURVES} of 500 products: those that a gate names, then those with the most orders."
        in page.text
    )
    assert "488 more products" in page.text
    assert all(product.code in page.text for product in many)


def test_a_report_survives_a_champion_that_no_longer_loads(trained_bucket: Bucket, next_week: pd.DataFrame) -> None:
    trained_bucket.put(model_key(VERSION), b"no pickle")
    page = train_next_week(trained_bucket, next_week)
    assert "not compared with a champion: the champion cannot be loaded" in page.text
    assert "stroke: var(--old)" not in plots_of(trained_bucket.get(report_key(NEXT_VERSION)))[0]


def test_a_report_is_rendered_with_a_champion_of_other_products(trained_bucket: Bucket) -> None:
    page = train_next_week(trained_bucket, generate_week(seed=2, products=[Product("SKU-OF-THE-WEEK", 2.0, 0.05)]))
    assert "only 0 hold-out rows are of products the champion was trained on" in page.text


def test_a_report_survives_a_week_before_that_cannot_be_read(
    trained_bucket: Bucket, next_week: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.put(dataset_key(FRIDAY), b"cut off")
    page = train_next_week(trained_bucket, next_week)
    assert "The week before is missing or unreadable." in page.text
    assert "Skipped the comparison with the week before: datasets/" in caplog.text


def test_a_report_names_the_products_with_too_few_rows(trained_bucket: Bucket, week: pd.DataFrame) -> None:
    rare = pd.DataFrame({HOURS: [50.0, 60.0, 70.0], ORDERS: [10, 20, 30], PRODUCT: "SKU-RARE"})
    page = train_next_week(trained_bucket, pd.concat([week, rare]))
    off = ModelRegistry(trained_bucket.store).read_manifest(NEXT_VERSION).pooled_error["SKU-RARE"]
    assert (
        f"Products with too few orders: SKU-RARE (off by {off:.1f} h). Their estimates come from one line" in page.text
    )


def test_a_report_shows_ten_of_many_products_and_unfolds_the_others(trained_bucket: Bucket, week: pd.DataFrame) -> None:
    rare = pd.DataFrame({HOURS: 5.0, ORDERS: 10, PRODUCT: [f"RARE{number:02d}" for number in range(30)]})
    page = train_next_week(trained_bucket, pd.concat([week, rare]))
    assert "and 20 more RARE10" in page.text
    assert re.search(r"New this week: RARE00(, RARE0\d){9} and 20 more RARE10, ", page.text)


def test_a_report_draws_the_product_that_a_gate_names_however_few_its_orders(trained_bucket: Bucket) -> None:
    many = tuple(Product(f"SKU{number:03d}", 5.0, 0.05) for number in range(40))
    steep = pd.DataFrame({HOURS: [1.0] * 6 + [3.0] * 8, ORDERS: [0] * 6 + [1] * 7 + [50], PRODUCT: "ODD"})
    page = train_next_week(trained_bucket, pd.concat([generate_week(seed=3, rows=4_000, products=many), steep]))
    assert "behaviour: ODD: 10" in page.text
    curves = page.text[page.text.index("Hours over orders placed") : page.text.index("Predicted against actual")]
    assert curves.index("ODD, new to the model") < curves.index("SKU")


def test_a_report_of_a_week_that_was_taken_out_says_that_it_stays_out(trained_bucket: Bucket) -> None:
    train_next_week(trained_bucket, generate_week(seed=2))
    ChampionRegistry(trained_bucket.store).roll_back("the estimates are wrong", "abc1234")
    run(trained_bucket.store, THRESHOLDS, NOW + WEEK + timedelta(hours=1), "def5678")
    page = page_of(trained_bucket, format_version(NOW + WEEK + timedelta(hours=1)))
    assert f"does not go into production: {NEXT_VERSION}, trained on the same week, was taken out by hand" in page.text


def test_a_report_gives_each_candidates_mean_error_and_spread(reports: Bucket) -> None:
    folds = ModelRegistry(reports.store).read_manifest(VERSION).candidates["line_per_product"].rmse_folds
    mean, spread = np.mean(folds), np.std(folds, ddof=1)
    assert f"line per product {mean:.3f} {spread:.3f} boosted trees" in page_of(reports, VERSION).text


def test_the_same_training_gives_the_same_report(trained_bucket: Bucket, moto_environment: dict[str, str]) -> None:
    again = Bucket(moto_environment, f"{trained_bucket.name}-again")
    again.client.create_bucket(Bucket=again.name)
    again.put(dataset_key(FRIDAY), trained_bucket.get(dataset_key(FRIDAY)))
    run(again.store, THRESHOLDS, NOW, "abc1234")
    assert again.get(report_key(VERSION)) == trained_bucket.get(report_key(VERSION))


def plots_of(body: bytes) -> list[str]:
    """The source of each plot."""
    return re.findall(r"<svg .*?</svg>", body.decode(), re.DOTALL)
