"""The training report: one HTML file that says why a model was let in, or was not.

At the top what a product manager asks, below what a data scientist asks. Everything in it comes from the manifest and
the context; nothing is decided here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.estimator import Floats, TimeToDispatchRegressor
from pipeline.keys import parse_dataset_key
from pipeline.manifest import DRIFT_SOURCE, MAJOR_DRIFT, MODERATE_DRIFT, Champion, Manifest
from pipeline.registry.history import WeekSummary, summarise_weeks
from pipeline.report import plots
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from pipeline.training.drift import ReferenceWeek
from pipeline.training.evaluation import sample
from pipeline.training.gates import CHAMPION_TOLERANCE, NOT_COMPARED

TEMPLATE = "report.html.jinja"
MAX_CURVES = 24  # 500 curves would take 20 s and 5 MB
TABLE_ROWS = 12  # products in a table; the others unfold
CURVE_POINTS = 60
SAMPLE_ROWS = 50_000  # orders in the plots and in the champion's error by product


@dataclass(frozen=True)
class ReportContext:
    """What the report shows besides the manifest.

    `predicted` has shape (n_hold_out,) and comes from the model fitted without the hold-out; `model` was fitted
    on all orders. `earlier` (trainings) and `champions` are ordered by time. `taken_out` is the champion of the same
    dataset that was taken out by hand, if any.
    """

    orders: pd.DataFrame
    hold_out: pd.DataFrame
    predicted: Floats
    model: TimeToDispatchRegressor
    previous: ReferenceWeek | None
    champion: TimeToDispatchRegressor | None
    earlier: Sequence[Manifest]
    champions: Sequence[Champion]
    taken_out: str | None


@dataclass(frozen=True)
class ProductRow:
    """A product in the report's table: its orders in this week and the week before, and its errors in hours."""

    code: str
    rows: int
    rows_before: int | None
    pooled: bool
    mae: float | None
    bias: float | None
    champion_mae: float | None


def render_report(manifest: Manifest, context: ReportContext) -> bytes:
    """Render the report as one HTML file without scripts or external files."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"hours": _hours, "week": _week}
    orders = sample(context.orders, SAMPLE_ROWS, manifest.hold_out.seed)
    actual = context.hold_out[HOURS].to_numpy()
    history = summarise_weeks([*context.earlier, manifest])
    page = environment.get_template(TEMPLATE).render(
        manifest=manifest,
        accepted=manifest.model is not None,
        comparison=_compare(manifest),
        products=_product_rows(manifest, context),
        pooled=[f"{code} (off by {_hours(off)})" for code, off in manifest.pooled_error.items()],
        table_rows=TABLE_ROWS,
        curves=list(_curves(manifest, context)),
        actual_plot=plots.actual_plot(actual, context.predicted),
        residual_plot=plots.residual_plot(actual, context.predicted),
        spread_plot=plots.spread_plot(actual, context.predicted),
        week_plots=[_weeks_plot(orders, context.previous, *column) for column in _COLUMNS],
        moderate=MODERATE_DRIFT,
        major=MAJOR_DRIFT,
        source=DRIFT_SOURCE,
        candidates=_candidate_rows(manifest),
        candidates_plot=_candidates_plot(manifest),
        history=history[::-1],
        history_plot=_history_plot(history) if len(history) > 1 else None,
        champions=context.champions[::-1],
        taken_out=context.taken_out,
        tolerance=CHAMPION_TOLERANCE,
        not_compared=NOT_COMPARED,
    )
    return page.encode()


_COLUMNS = ((HOURS, "hours to dispatch"), (ORDERS, "orders placed that day"))


def _hours(hours: float) -> str:
    """Format hours for people; a short time also in minutes."""
    return f"{hours:.2f} h ({hours * 60:.0f} minutes)" if hours < 2 else f"{hours:,.1f} h"


def _week(dataset: str) -> str:
    parsed = parse_dataset_key(dataset)
    return parsed.timestamp.strftime("%A %-d %B %Y, %H:%M UTC") if parsed else dataset


def _compare(manifest: Manifest) -> str | None:
    """Say how the new model compares with the one in production; None if they were not compared."""
    ours, theirs = manifest.hold_out.candidate_where_champion_knows, manifest.hold_out.champion
    if ours is None or theirs is None:
        return None
    if ours.rmse > theirs.rmse * CHAMPION_TOLERANCE:
        return "worse than"
    return "better than" if ours.rmse * CHAMPION_TOLERANCE < theirs.rmse else "as good as"


def _product_rows(manifest: Manifest, context: ReportContext) -> list[ProductRow]:
    """Return every product of this week or the week before, those with the most orders first."""
    counts_before = context.previous.rows_by_product if context.previous else {}
    errors = context.predicted - context.hold_out[HOURS].to_numpy()
    mae, bias = (_means_by_product(context.hold_out, figures) for figures in (np.abs(errors), errors))
    theirs = (
        _champion_errors(manifest, context) if manifest.production_error else {}
    )  # otherwise it was trained on these orders
    codes = [*manifest.products, *(code for code in counts_before if code not in manifest.products)]
    rows = [
        ProductRow(
            code,
            rows=manifest.products[code].rows if code in manifest.products else 0,
            rows_before=counts_before.get(code, 0) if context.previous else None,
            pooled=code in manifest.products and manifest.products[code].pooled,
            mae=mae.get(code),
            bias=bias.get(code),
            champion_mae=theirs.get(code),
        )
        for code in codes
    ]
    return sorted(rows, key=lambda row: (-row.rows, row.code))


def _champion_errors(manifest: Manifest, context: ReportContext) -> dict[str, float]:
    if context.champion is None:
        return {}
    drawn = sample(context.hold_out, SAMPLE_ROWS, manifest.hold_out.seed)
    known = drawn[drawn[PRODUCT].isin(context.champion.product_codes_)]
    return _means_by_product(known, np.abs(context.champion.predict(known) - known[HOURS].to_numpy()))


def _means_by_product(orders: pd.DataFrame, figures: Floats) -> dict[str, float]:
    means = pd.Series(figures, index=orders.index).groupby(orders[PRODUCT], observed=True).mean()
    return {str(code): float(mean) for code, mean in means.items()}


def _curves(manifest: Manifest, context: ReportContext) -> Iterator[tuple[str, bool, Markup]]:
    """Yield code, whether the champion knows it, and plot: products that a gate names first, then by orders."""
    reasons = [reason for verdict in manifest.gates for reason in verdict.reasons]
    named = {code for code in manifest.products if any(reason.startswith(f"{code}: ") for reason in reasons)}
    first = sorted(manifest.products.items(), key=lambda item: (item[0] not in named, -item[1].rows))
    for code, product in first[:MAX_CURVES]:
        mine = context.orders[(context.orders[PRODUCT] == code).to_numpy()]
        at = np.linspace(0, product.orders_max, CURVE_POINTS)
        old = _estimates(context.champion, code, at) if context.champion else None
        new = _estimates(context.model, code, at)
        assert new is not None
        yield code, old is not None, plots.curve_plot(mine[ORDERS].to_numpy(), mine[HOURS].to_numpy(), at, new, old)


def _estimates(model: TimeToDispatchRegressor, code: str, at: Floats) -> Floats | None:
    if code not in model.product_codes_:
        return None
    return model.predict_encoded(np.column_stack([np.full(at.shape, model.product_codes_.index(code)), at]))


def _weeks_plot(orders: pd.DataFrame, previous: ReferenceWeek | None, column: str, what: str) -> Markup:
    before = previous.orders[column].to_numpy() if previous else None
    return plots.weeks_plot(orders[column].to_numpy(), before, what)


def _candidates_plot(manifest: Manifest) -> Markup:
    return plots.candidates_plot(
        {name: score.rmse_folds for name, score in manifest.candidates.items() if score.failure is None}
    )


def _candidate_rows(manifest: Manifest) -> Iterator[tuple[str, float, float]]:
    """Yield each fitted candidate with the mean and the standard deviation of its RMSE over the folds."""
    for name, score in manifest.candidates.items():
        if score.failure is None:
            yield name, float(np.mean(score.rmse_folds)), float(np.std(score.rmse_folds, ddof=1))


def _history_plot(history: Sequence[WeekSummary]) -> Markup:
    return plots.history_plot(
        [week.holdout_rmse for week in history], [week.observed[0].rmse if week.observed else None for week in history]
    )
