"""The report's plots, as SVG whose colours are variables of the page, so that they follow its dark mode.

No text from the data is drawn: product codes appear in HTML, where they are escaped. Long arrays are sampled.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.estimator import Floats

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

MAX_POINTS = 500  # in a plot: a phone scrolls smoothly through 20 such plots
INK, GRID, DATA, NEW, OLD = ("#010101", "#020202", "#030303", "#040404", "#050505")  # placeholders: _draw replaces them
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", DATA: "var(--data)", NEW: "var(--new)", OLD: "var(--old)"}
STYLE: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "time-to-dispatch",  # the same figures give the same bytes
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def curve_plot(orders: Floats, hours: Floats, at: Floats, new: Floats, old: Floats | None) -> Markup:
    """Plot a product's orders, and the curves of the new model and of the champion."""

    def draw(axes: Axes) -> None:
        drawn = _thinned(len(orders))
        axes.scatter(orders[drawn], hours[drawn], s=5, color=DATA, linewidths=0)
        if old is not None:
            axes.plot(at, old, color=OLD, linewidth=2.2, linestyle="--")
        axes.plot(at, new, color=NEW, linewidth=1.6)
        axes.set(xlabel="orders placed that day", ylabel="hours to dispatch", ylim=(0, None))

    return _draw(draw, "Hours to dispatch over orders placed")


def actual_plot(actual: Floats, predicted: Floats) -> Markup:
    """Plot predicted against actual hours; on the diagonal, they agree."""

    def draw(axes: Axes) -> None:
        drawn = _thinned(len(actual))
        highest = max(actual.max(), predicted.max())
        axes.scatter(actual[drawn], predicted[drawn], s=6, color=NEW, linewidths=0)
        axes.plot([0, highest], [0, highest], color=INK, linewidth=0.8)
        axes.set(xlabel="actual hours", ylabel="predicted hours")

    return _draw(draw, "Predicted against actual hours")


def residual_plot(actual: Floats, predicted: Floats) -> Markup:
    """Plot predicted minus actual hours over predicted hours."""

    def draw(axes: Axes) -> None:
        drawn = _thinned(len(actual))
        axes.scatter(predicted[drawn], (predicted - actual)[drawn], s=6, color=NEW, linewidths=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="predicted hours", ylabel="predicted - actual, h")

    return _draw(draw, "Residuals over predicted hours")


def spread_plot(actual: Floats, predicted: Floats) -> Markup:
    """Plot the distribution of the errors."""

    def draw(axes: Axes) -> None:
        axes.hist(np.round(predicted - actual, 6), bins=30, color=NEW)  # 30 bins need numbers that can be told apart
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="predicted - actual, h", ylabel="orders")

    return _draw(draw, "Distribution of the residuals")


def weeks_plot(now: Floats, before: Floats | None, what: str) -> Markup:
    """Plot the distribution of a column in this week, and in the week before if there is one."""

    def draw(axes: Axes) -> None:
        both = now if before is None else np.concatenate([now, before])
        edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), 31).tolist()
        axes.hist(now, bins=edges, weights=np.full(len(now), 100 / len(now)), color=NEW, alpha=0.45)
        if before is not None:
            share = np.full(len(before), 100 / len(before))
            axes.hist(before, bins=edges, weights=share, histtype="step", color=OLD, linewidth=1.4)
        axes.set(xlabel=what, ylabel="% of orders")

    return _draw(draw, f"Distribution of {what}")


def candidates_plot(folds: Mapping[str, Sequence[float]]) -> Markup:
    """Plot each candidate's RMSE on every fold, the mean, and one standard error around it."""

    def draw(axes: Axes) -> None:
        for place, errors in enumerate(folds.values()):
            error = np.std(errors, ddof=1) / np.sqrt(len(errors))
            axes.scatter(errors, np.full(len(errors), place), s=10, color=DATA, linewidths=0)
            axes.errorbar(np.mean(errors), place, xerr=error, color=NEW, marker="o", capsize=4, markersize=4)
        axes.set_yticks(range(len(folds)), [name.replace("_", " ") for name in folds])
        axes.set(xlabel="cross-validated RMSE, h", ylim=(len(folds) - 0.5, -0.5))

    return _draw(draw, "Cross-validated error of each candidate", left=0.3)


def history_plot(holdout: Sequence[float], observed: Sequence[float | None]) -> Markup:
    """Plot, week by week, the RMSE on the hold-out and the RMSE of the model in production."""

    def draw(axes: Axes) -> None:
        weeks = np.arange(1 - len(holdout), 1)
        highest = max(*holdout, *(rmse for rmse in observed if rmse is not None))
        axes.plot(weeks, holdout, color=NEW, marker="o", markersize=3)
        axes.plot(weeks, [np.nan if rmse is None else rmse for rmse in observed], color=OLD, marker="s", markersize=3)
        axes.set(xlabel="weeks ago", ylabel="RMSE, h", ylim=(0, 1.15 * highest))
        axes.set_xticks(np.unique(np.linspace(weeks[0], 0, min(len(weeks), 7)).astype(int)))

    return _draw(draw, "Error on the hold-out and in production")


def _draw(draw: Callable[[Axes], None], label: str, left: float = 0.16) -> Markup:
    """Return an SVG element in which each of the colours above is a variable of the page.

    `left` is a share of the width. The margins are fixed: computing a layout takes as long as drawing the plot.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4, 2.7))
        draw(figure.add_axes((left, 0.19, 0.97 - left, 0.77)))
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg ") :].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return Markup(svg)  # noqa: S704 - matplotlib's own SVG; it has no text from the dataset


def _thinned(points: int) -> slice:
    return slice(None, None, -(-points // MAX_POINTS))
