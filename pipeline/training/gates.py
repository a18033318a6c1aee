"""The gates that keep a bad model out. Each returns a verdict with all its reasons; none raises or logs."""

from collections.abc import Sequence

import numpy as np

from pipeline.estimator import Floats
from pipeline.manifest import GateVerdict, Metrics, Outcome
from pipeline.training.evaluation import Curve

# x the champion's RMSE. If nothing changes, a week of 1,000 rows stays below it. By chance, one in 30 weeks of 400
# rows is above it, and one in ten or more of 200 rows (notebooks/time_to_dispatch_model.ipynb).
CHAMPION_TOLERANCE = 1.05
FALL_TOLERANCE = 1e-9  # hours: the rounding error of floating-point sums
MAX_HOURS_RATIO = 1.25  # x the highest observed hours
NOT_COMPARED = "not compared with a champion: "  # the reason follows; the report shows it alone
STALE_DAYS = 8.0  # a week and a day: Friday's dataset is missing


def accuracy_gate(candidate: Metrics, reject_below: float, warn_below: float) -> GateVerdict:
    """Require that the model explains enough of the hold-out's variance."""
    figures = {"r2": candidate.r2, "reject_below": reject_below, "warn_below": warn_below}
    if not candidate.r2 >= reject_below:
        return _verdict("accuracy", "reject", f"hold-out R2 {candidate.r2:.3f} is below {reject_below:g}", figures)
    if candidate.r2 < warn_below:
        return _verdict("accuracy", "warn", f"hold-out R2 {candidate.r2:.3f} is below {warn_below:g}", figures)
    return _verdict("accuracy", "pass", None, figures)


def baseline_gate(candidate: Metrics, baseline: Metrics) -> GateVerdict:
    """Require a lower error than the mean hours of each product."""
    figures = {"rmse": candidate.rmse, "baseline_rmse": baseline.rmse}
    if not candidate.rmse < baseline.rmse * (1 - 1e-9):  # equal but for rounding is not better
        reason = f"hold-out RMSE {candidate.rmse:.3f} h is not below the per-product mean's {baseline.rmse:.3f} h"
        return _verdict("baseline", "reject", reason, figures)
    return _verdict("baseline", "pass", None, figures)


def champion_gate(candidate: Metrics | None, champion: Metrics | None, not_compared: str | None) -> GateVerdict:
    """Require an error near the champion's or below it, on the hold-out rows of products that both were trained on.

    If both metrics are None, `not_compared` says why, and the gate warns.
    """
    if candidate is None or champion is None:
        return _verdict("champion", "warn", f"{NOT_COMPARED}{not_compared}", {})
    figures = {"rmse": candidate.rmse, "champion_rmse": champion.rmse, "tolerance": CHAMPION_TOLERANCE}
    if not candidate.rmse <= champion.rmse * CHAMPION_TOLERANCE:
        limit = f"{CHAMPION_TOLERANCE:g} x the champion's {champion.rmse:.3f} h"
        reason = f"hold-out RMSE {candidate.rmse:.3f} h is over {limit}"
        return _verdict("champion", "reject", reason, figures)
    return _verdict("champion", "pass", None, figures)


def behaviour_gate(curves: Sequence[Curve], gate: str = "behaviour") -> GateVerdict:
    """Require that every estimate on every product's curve can be shown to a customer."""
    reasons = [reason for curve in curves for reason in _misbehaviour(curve)]
    finite = [curve for curve in curves if np.isfinite(curve.hours).all()]
    figures = {
        "products": len(curves),
        "points": sum(len(curve.hours) for curve in curves),
        "lowest_hours": min((float(curve.hours.min()) for curve in finite), default=0.0),
        "largest_fall_hours": max((float(_falls(curve).max(initial=0.0)) for curve in finite), default=0.0),
        "fall_tolerance_hours": FALL_TOLERANCE,
        "highest_of_observed": max(
            (float(curve.hours.max() / (curve.highest_observed_hours or 1.0)) for curve in finite), default=0.0
        ),
        "highest_allowed_of_observed": MAX_HOURS_RATIO,
    }
    return GateVerdict(gate=gate, outcome="reject" if reasons else "pass", reasons=reasons, figures=figures)


def _misbehaviour(curve: Curve) -> list[str]:
    code, orders, hours = curve.product_code, curve.orders, curve.hours
    if not np.isfinite(hours).all():
        return [f"{code}: the estimate is not a finite number at {orders[np.isfinite(hours).argmin()]:.0f} orders"]
    reasons = []
    if hours.min() < 0:
        reasons.append(f"{code}: {hours.min():.3f} h at {orders[hours.argmin()]:.0f} orders is negative")
    falls = _falls(curve)
    if falls.size and falls.max() > FALL_TOLERANCE:
        at = int(falls.argmax())
        reasons.append(f"{code}: falls from {hours[at]:.3f} to {hours[at + 1]:.3f} h at {orders[at + 1]:.0f} orders")
    limit = MAX_HOURS_RATIO * curve.highest_observed_hours
    if hours.max() > limit:
        reasons.append(f"{code}: {hours.max():.3f} h at {orders[hours.argmax()]:.0f} orders is above {limit:.3f} h")
    return reasons


def _falls(curve: Curve) -> Floats:
    """Return by how many hours each estimate is below the one before it."""
    return curve.hours[:-1] - curve.hours[1:]


def freshness_gate(age_days: float, max_age_days: float) -> GateVerdict:
    """Require that the newest dataset is recent."""
    figures = {"age_days": age_days, "max_age_days": max_age_days, "stale_days": STALE_DAYS}
    reason = f"the newest dataset is {age_days:.1f} days old"
    if age_days > max_age_days:
        return _verdict("freshness", "reject", f"{reason}, more than {max_age_days:g}", figures)
    if age_days > STALE_DAYS:
        return _verdict(
            "freshness", "warn", f"{reason}, more than {STALE_DAYS:g}: Friday's dataset is missing", figures
        )
    return _verdict("freshness", "pass", None, figures)


def _verdict(gate: str, outcome: Outcome, reason: str | None, figures: dict[str, float]) -> GateVerdict:
    return GateVerdict(gate=gate, outcome=outcome, reasons=[reason] if reason else [], figures=figures)
