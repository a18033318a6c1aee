"""What watches the service: every metric that an alert or a panel names is one that can be read."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pipeline.manifest import Metrics
from pipeline.registry.models import LoadedModel
from pipeline.serving.metrics import MAX_CODE_LENGTH, MAX_UNKNOWN_CODES, ServiceMetrics

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
# Not ours: a rejected training leaves no process to ask.
KUBE_STATE_METRICS = {"kube_job_created", "kube_job_status_failed", "kube_job_status_succeeded"}
NAME = re.compile(r"\b[a-z][a-z_]*_[a-z_]+\b|\bdraining\b")
NO_METRICS = {"histogram_quantile", "unknown_product"}


def expressions() -> list[str]:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [rule["expr"] for group in rules for rule in group["rules"]] + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


def named(expression: str) -> set[str]:
    """The metrics in an expression: its words without those in labels, groupings and durations."""
    bare = re.sub(r"\{[^}]*\}|\b(by|without|on) \([^)]*\)|\"[^\"]*\"", "", expression)
    return set(NAME.findall(bare)) - NO_METRICS


@pytest.fixture
def metrics(champion: LoadedModel) -> ServiceMetrics:
    known = Metrics(rmse=1.0, mae=0.75, r2=0.9)
    return ServiceMetrics(champion.manifest.model_copy(update={"production_error": known, "holdout_error": known}))


def test_every_metric_that_an_alert_or_a_panel_names_is_served(metrics: ServiceMetrics) -> None:
    text = metrics.render().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    served = names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    for expression in expressions():
        assert named(expression), expression
        assert named(expression) <= served | KUBE_STATE_METRICS, expression


def test_every_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"]}
    cases = yaml.safe_load((MONITORING / "rules-test.yaml").read_text())["tests"]
    tested = [(test["alertname"], "exp_alerts" in test) for case in cases for test in case["alert_rule_test"]]
    assert set(tested) == {(alert, fires) for alert in alerts for fires in (True, False)}


def test_no_more_than_a_few_unknown_products_are_remembered_by_name(metrics: ServiceMetrics) -> None:
    for number in range(MAX_UNKNOWN_CODES + 30):
        metrics.count_refusal("unknown_product", f"{number}" + "x" * 10_000)
    lines = [
        line for line in metrics.render().decode().splitlines() if line.startswith("unknown_product_requests_total{")
    ]
    assert len(lines) == MAX_UNKNOWN_CODES + 1
    assert 'unknown_product_requests_total{product_code="other"} 30.0' in lines
    assert max(map(len, lines)) < MAX_CODE_LENGTH + 100


def test_names_keep_to_prometheus_rules(metrics: ServiceMetrics) -> None:
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", metrics.render().decode(), re.M):
        if name.endswith("_created"):
            continue
        assert re.fullmatch("[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind == "counter"), name
