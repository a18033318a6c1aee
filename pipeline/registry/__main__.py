"""List the models of a bucket, and change which one is served.

Every command takes --json. A refused command prints one ERROR line, changes nothing and exits with 1.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
from pipeline.registry.champion import ROLL_REPLICAS, ChampionRegistry
from pipeline.registry.history import ObservedError, summarise_weeks
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import checked_out_commit, printable

NO_REASON = "no reason given"


@dataclass(frozen=True)
class ListedVersion:
    """A version in the list: its figures, or the reason why its manifest cannot be read."""

    version: str
    state: str
    dataset: str | None = None
    rows: int | None = None
    rmse: float | None = None
    r2: float | None = None
    problem: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if it succeeded, and 1 if it was refused or failed."""
    args = _parse(arguments)
    _show_warnings()
    try:
        args.run(ChampionRegistry(ObjectStore.connect(args.bucket)), args)
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _refuse('interrupted; run "list" to see whether the champion changed')
    except WriteConflict as error:
        return _refuse(f'another writer changed the champion at the same time; run "list" to see it: {error}')
    except PromotionUnknown as error:
        return _refuse(f'S3 did not confirm the change; run "list" to see whether the champion changed: {error}')
    except TimeToDispatchError as error:
        return _refuse(str(error))
    return 0


def _refuse(reason: str) -> int:
    print(f"ERROR: {printable(reason)}", file=sys.stderr)
    return 1


def _show_warnings() -> None:
    """Print the registry's and the store's warnings as lines on standard error."""

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(Lines("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)


def _list(registry: ChampionRegistry, args: argparse.Namespace) -> None:
    try:
        pointer = registry.read_champion()
    except ChampionInvalid as error:
        logging.getLogger(__name__).warning("Skipped the champion: %s", error)
        pointer = None
    champion = pointer.champion if pointer else None
    states = {champion.version: "champion", champion.previous: "previous"} if champion else {}

    models = registry.models
    stored = {*models.versions(), *filter(None, states)}  # a pointer may name a version that is missing
    listed = [_look_up(version, models.read_manifest, states.get(version, "stored")) for version in stored]
    listed += [_look_up(version, models.read_rejected, "rejected") for version in models.rejected_versions()]
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


def _look_up(version: str, read: Callable[[str], Manifest], state: str) -> ListedVersion:
    try:
        manifest = read(version)
    except ModelError as error:
        return ListedVersion(version, state, problem=str(error))
    metrics = manifest.hold_out.candidate
    return ListedVersion(version, state, manifest.dataset.key, manifest.dataset.rows, metrics.rmse, metrics.r2)


def _show(registry: ChampionRegistry, args: argparse.Namespace) -> None:
    try:
        manifest = registry.models.read_manifest(args.version)
    except ModelNotFound as not_stored:
        try:
            manifest = registry.models.read_rejected(args.version)
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
    yield "chosen", f"{manifest.chosen}, out of {', '.join(manifest.candidates)}"
    yield "hold-out", f"{_errors(manifest.hold_out.candidate)}; per-product mean {_errors(manifest.hold_out.baseline)}"
    if manifest.champion_version:
        yield "champion then", manifest.champion_version
        yield "its error on this week", _errors(manifest.production_error)
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


def _promote(registry: ChampionRegistry, args: argparse.Namespace) -> None:
    _confirm(registry.promote_version(args.version, args.reason, _git_commit()), args)


def _rollback(registry: ChampionRegistry, args: argparse.Namespace) -> None:
    _confirm(registry.roll_back(args.reason, _git_commit()), args)


def _confirm(champion: Champion, args: argparse.Namespace) -> None:
    if args.json:
        _print_json({"champion": champion, "next": ROLL_REPLICAS})
        return
    print(f"{champion.version} is now the champion, instead of {champion.previous or 'none'} ({champion.reason}).")
    print(f"To make the replicas load it, run: {ROLL_REPLICAS}")


def _history(registry: ChampionRegistry, args: argparse.Namespace) -> None:
    trained = summarise_weeks(registry.models.trainings())
    champions = registry.champions()
    if args.json:
        thresholds = {"moderate": MODERATE_DRIFT, "major": MAJOR_DRIFT, "source": DRIFT_SOURCE}
        _print_json({"weeks": trained, "champions": champions, "drift_thresholds": thresholds})
        return
    _print_table(
        ["week that ended", "version", "verdict", "hold-out RMSE, h", "RMSE in production, h", "drift"],
        [
            [
                _week(week.dataset),
                week.version,
                "accepted" if week.accepted else "rejected",
                _figure(week.holdout_rmse, ".3f"),
                "; ".join(_describe_observed(observed) for observed in week.observed),
                _describe_drift(week.drift),
            ]
            for week in trained
        ],
    )
    scale = f"moderate from {MODERATE_DRIFT}, major from {MAJOR_DRIFT} ({DRIFT_SOURCE})"
    print(f"Drift: population stability index against the week before; {scale}; stable if chance explains it.")
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


def _describe_observed(observed: ObservedError) -> str:
    holdout = _figure(observed.holdout_rmse, ".3f") or "unknown"
    return f"{observed.rmse:.3f} by {observed.version} (hold-out {holdout})"


def _describe_drift(drift: Mapping[str, ColumnDrift] | None) -> str:
    if drift is None:
        return "no week before"
    return "; ".join(f"{column} {found.psi:.3f} {found.verdict}" for column, found in drift.items())


def _week(dataset: str | None) -> str:
    """Return the moment in a dataset's key."""
    parsed = keys.parse_dataset_key(dataset) if dataset else None
    return parsed.timestamp.isoformat() if parsed else dataset or ""


def _errors(metrics: Metrics | None) -> str:
    return f"RMSE {metrics.rmse:.3f} h, MAE {metrics.mae:.3f} h, R2 {metrics.r2:.3f}" if metrics else "not measured"


def _figure(figure: float | None, form: str) -> str:
    return "" if figure is None else format(figure, form)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns in a terminal; elsewhere lines whose cells are separated by tabs."""
    table = [[printable(" ".join(cell.split())) for cell in row] for row in [header, *rows]]
    if sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        table = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    separator = "  " if sys.stdout.isatty() else "\t"
    for row in table:
        print(separator.join(row).rstrip(" "))


def _print_json(content: object) -> None:
    print(to_json(content, indent=2).decode())


def _git_commit() -> str:
    """Return the commit that Bodywork names in a pod, or git in a clone."""
    return os.environ.get("GIT_COMMIT_HASH") or checked_out_commit()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.registry", description=__doc__, allow_abbrev=False)
    parser.add_argument("bucket", metavar="BUCKET", help="S3 bucket with models/")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, run, description in (
        ("list", _list, "list every version: champion, previous, stored or rejected"),
        ("show", _show, "show everything that is known about a version"),
        ("promote", _promote, "make a stored version the champion"),
        ("rollback", _rollback, "make the previous champion the champion again"),
        ("history", _history, "show errors and drift week by week, and every champion"),
    ):
        command = commands.add_parser(name, help=description, description=description, allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in ("show", "promote"):
            command.add_argument("version", metavar="VERSION", help="e.g. time_to_dispatch_2026-11-20T23:31:07Z")
        if name in ("promote", "rollback"):
            command.add_argument("--reason", type=_one_line, default=NO_REASON, help="why, kept in the history")
    return parser.parse_args(arguments)


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()) or NO_REASON


if __name__ == "__main__":
    sys.exit(main())
