"""Look at the models of a bucket, and change which one is served.

Every command takes --json. What is refused ends in one line and exit code 1, with nothing changed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from pydantic_core import to_json

from pipeline import keys
from pipeline.errors import (
    ChampionInvalid,
    ModelError,
    ModelNotFound,
    PromotionUnknown,
    TimeToDispatchError,
    WriteConflict,
)
from pipeline.manifest import DRIFT_SOURCE, MAJOR_DRIFT, MODERATE_DRIFT, Champion, ColumnDrift, Manifest, Metrics
from pipeline.registry.history import ObservedError, summarise_weeks
from pipeline.registry.models import Registry
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import checked_out_commit, printable

ROLL_REPLICAS = "kubectl --namespace time-to-dispatch rollout restart deployment/serve-model"

NO_REASON = "no reason given"

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Listed:
    """A version in the list; one whose manifest cannot be read has no figures, and the reason in its place."""

    version: str
    state: str
    dataset: str | None = None
    rows: int | None = None
    rmse: float | None = None
    r2: float | None = None
    problem: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did what it was asked to, 1 if not: then nothing was changed, or the line says so."""
    args = _parse(arguments)
    try:
        args.run(Registry(ObjectStore.connect(args.bucket)), args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, `head` say, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _refuse("stopped by Ctrl-C; of promote and rollback, list shows whether they were done")
    except WriteConflict as error:
        return _refuse(f"the champion was changed meanwhile, list shows by whom: {error}")
    except PromotionUnknown as error:
        return _refuse(f"the champion may have been changed or not, list shows it: {error}")
    except TimeToDispatchError as error:
        return _refuse(str(error))
    return 0


def _refuse(reason: str) -> int:
    print(f"ERROR: {printable(reason)}", file=sys.stderr)
    return 1


def _list(registry: Registry, args: argparse.Namespace) -> None:
    try:
        pointer = registry.read_champion()
    except ChampionInvalid as error:
        _left_out(error)
        pointer = None
    champion = pointer.champion if pointer else None
    pointed_at = {champion.version: "champion", champion.previous: "previous"} if champion else {}

    stored = {*registry.versions(), *filter(None, pointed_at)}  # a pointer may lead nowhere
    listed = [_look_up(version, registry.read_manifest, pointed_at.get(version, "stored")) for version in stored]
    listed += [_look_up(version, registry.read_rejected, "rejected") for version in registry.rejected_versions()]
    listed.sort(key=lambda entry: entry.version)
    if args.json:
        _print_json(listed)
        return
    rows = [
        [
            entry.version,
            entry.state,
            entry.problem or _week(entry.dataset),
            _figure(entry.rows, ",d"),
            _figure(entry.rmse, ".3f"),
            _figure(entry.r2, ".3f"),
        ]
        for entry in listed
    ]
    _print_table(["version", "state", "week that ended", "orders", "hold-out RMSE, h", "R2"], rows)


def _look_up(version: str, read: Callable[[str], Manifest], state: str) -> Listed:
    try:
        manifest = read(version)
    except ModelError as error:
        return Listed(version, state, problem=str(error))
    metrics = manifest.hold_out.candidate
    return Listed(version, state, manifest.dataset.key, manifest.dataset.rows, metrics.rmse, metrics.r2)


def _show(registry: Registry, args: argparse.Namespace) -> None:
    try:
        manifest = registry.read_manifest(args.version)
    except ModelNotFound as not_stored:
        try:
            manifest = registry.read_rejected(args.version)
        except ModelNotFound:
            raise not_stored from None
    if args.json:
        print(manifest.model_dump_json(indent=2))
    else:
        _print_table(["", args.version], list(_describe(manifest)))


def _describe(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "trained at", manifest.trained_at.isoformat()
    yield "git commit", manifest.git_commit
    yield "dataset", f"{manifest.dataset.key}, {manifest.dataset.rows:,} orders, sha256 {manifest.dataset.sha256}"
    yield "model", f"sha256 {manifest.model.sha256}" if manifest.model else "none: it was rejected"
    yield "chosen", f"{manifest.chosen}, among {', '.join(manifest.candidates)}"
    yield "hold-out", f"{_errors(manifest.hold_out.candidate)}; per-product mean {_errors(manifest.hold_out.baseline)}"
    if manifest.champion_version:
        yield "champion then", manifest.champion_version
        yield "its error on these orders", _errors(manifest.production_error)
    if manifest.previous_week:
        yield "week before", manifest.previous_week.dataset
        for column, drift in manifest.previous_week.drift.items():
            yield f"drift of {column}", f"index {drift.psi:.3f}, by chance {drift.by_chance:.3f}: {drift.verdict}"
    yield (
        "products",
        ", ".join(
            f"{code} ({seen.rows:,} orders{_pooled(manifest, code)})" for code, seen in manifest.products.items()
        ),
    )
    for verdict in manifest.gates:
        yield f"gate {verdict.gate}", "; ".join([verdict.outcome, *verdict.reasons])
    key = keys.report_key if manifest.model else keys.rejected_report_key
    yield "report", key(manifest.version)
    yield "libraries", ", ".join(f"{name} {installed}" for name, installed in manifest.libraries)


def _pooled(manifest: Manifest, code: str) -> str:
    if not manifest.products[code].pooled:
        return ""
    off = manifest.pooled_error.get(code)
    return ", pooled" if off is None else f", pooled: off by {off:.3f} h"


def _promote(registry: Registry, args: argparse.Namespace) -> None:
    _tell(registry.promote_version(args.version, args.reason, _git_commit()), args)


def _rollback(registry: Registry, args: argparse.Namespace) -> None:
    _tell(registry.roll_back(args.reason, _git_commit()), args)


def _tell(champion: Champion, args: argparse.Namespace) -> None:
    if args.json:
        _print_json({"champion": champion, "next": ROLL_REPLICAS})
        return
    print(f"{champion.version} is the champion now, instead of {champion.previous or 'none'} ({champion.reason}).")
    print(f"The replicas serve it after: {ROLL_REPLICAS}")


def _history(registry: Registry, args: argparse.Namespace) -> None:
    trained = summarise_weeks(registry.trainings(_left_out))
    champions = registry.champions(_left_out)
    if args.json:
        thresholds = {"moderate": MODERATE_DRIFT, "major": MAJOR_DRIFT, "source": DRIFT_SOURCE}
        _print_json({"weeks": trained, "champions": champions, "drift_thresholds": thresholds})
        return
    _print_table(
        ["week that ended", "version", "verdict", "promised RMSE, h", "seen in production, h", "drift"],
        [
            [
                _week(week.dataset),
                week.version,
                "accepted" if week.accepted else "rejected",
                _figure(week.holdout_rmse, ".3f"),
                "; ".join(_describe_seen(seen) for seen in week.seen),
                _describe_drift(week.drift),
            ]
            for week in trained
        ],
    )
    scale = f"{MODERATE_DRIFT} is moderate, {MAJOR_DRIFT} is major ({DRIFT_SOURCE})"
    print(f"Drift is the population stability index against the week before: {scale}, what chance reaches is stable.")
    _print_table(
        ["champion since", "version", "instead of", "why", "commit"],
        [
            [
                champion.promoted_at.isoformat(timespec="seconds"),
                champion.version,
                champion.previous or "",
                champion.reason,
                champion.git_commit,
            ]
            for champion in champions
        ],
    )


def _describe_seen(seen: ObservedError) -> str:
    return f"{seen.rmse:.3f} (promised {_figure(seen.holdout_rmse, '.3f') or 'nothing'}) by {seen.version}"


def _describe_drift(drift: Mapping[str, ColumnDrift] | None) -> str:
    if drift is None:
        return "no week before"
    return "; ".join(f"{column} {found.psi:.3f} {found.verdict}" for column, found in drift.items())


def _left_out(problem: TimeToDispatchError) -> None:
    print(f"WARNING: left out: {printable(str(problem))}", file=sys.stderr)


def _week(dataset: str | None) -> str:
    """The moment in a dataset's key, which is what tells weeks apart."""
    parsed = keys.parse_dataset_key(dataset) if dataset else None
    return parsed.timestamp.isoformat() if parsed else dataset or ""


def _errors(metrics: Metrics | None) -> str:
    return f"RMSE {metrics.rmse:.3f} h, MAE {metrics.mae:.3f} h, R2 {metrics.r2:.3f}" if metrics else "not measured"


def _figure(figure: float | None, spelling: str) -> str:
    return "" if figure is None else format(figure, spelling)


def _print_table(header: Sequence[str], rows: Rows) -> None:
    """A table in a terminal; elsewhere a line a row, its cells separated by tabs and never cut.

    The stages' image has no rich, so its terminals get the lines too: scikit-learn imports rich wherever it is
    installed, which is 0.4 s and 2 MB for every replica.
    """
    if not sys.stdout.isatty() or find_spec("rich") is None:
        for row in [header, *rows]:
            print(*(printable(" ".join(cell.split())) for cell in row), sep="\t")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name == "version")  # to be copied into the next command
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def _print_json(content: object) -> None:
    print(to_json(content, indent=2).decode())


def _git_commit() -> str:
    """What Bodywork says in a pod, or git in a clone."""
    return os.environ.get("GIT_COMMIT_HASH") or checked_out_commit()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.registry", description=__doc__, allow_abbrev=False)
    parser.add_argument("bucket", metavar="BUCKET", help="where models/ lies")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, run, what in (
        ("list", _list, "every version: served, stored, or rejected"),
        ("show", _show, "what is known of a version"),
        ("promote", _promote, "make a stored version the champion"),
        ("rollback", _rollback, "make the previous champion the champion again"),
        ("history", _history, "errors promised and seen week by week, and every champion there was"),
    ):
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="for machines")
        if name in ("show", "promote"):
            command.add_argument("version", metavar="VERSION", help="like time_to_dispatch_2026-11-20T23:31:07Z")
        if name in ("promote", "rollback"):
            command.add_argument("--reason", type=_one_line, default=NO_REASON, help="why, for the history")
    return parser.parse_args(arguments)


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()) or NO_REASON


if __name__ == "__main__":
    sys.exit(main())
