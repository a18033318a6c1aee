"""make bench: measure every budget beside its reference; exit code 1 if one is missed.

The service, a plain FastAPI route and a bare ASGI function take turns on one core, the load is on another. Then the
stage train_model, as a process, on weeks of a thousand to ten million orders. On a quiet machine, some 12 minutes.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import serving, training
from benchmarks.machine import allow_descriptors, describe
from local.s3_server import Ports, S3ServerError, s3_server

BUCKET = "bench"
TURNS = 5
TURN_SECONDS = 5.0
STARTS = 5
SMALL_TRAININGS = 5


@dataclass(frozen=True)
class Budget:
    """A figure and its limit."""

    what: str
    measured: float
    limit: float
    unit: str
    least: bool = False

    @property
    def held(self) -> bool:
        """Whether the figure is within its limit."""
        return self.measured >= self.limit if self.least else self.measured <= self.limit


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything; return 0 if no budget is missed."""
    args = _parse(arguments)
    allow_descriptors(serving.DESCRIPTORS)
    print(describe(), flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder), BUCKET, Ports()) as environment:
            budgets = [*_trainings(environment), *_serving(environment, args.soak)]
    except S3ServerError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    _table(
        ["budget", "measured", "limit", ""],
        [
            [
                budget.what,
                f"{budget.measured:.3g} {budget.unit}",
                f"{'>=' if budget.least else '<='} {budget.limit:g} {budget.unit}",
                "ok" if budget.held else "MISSED",
            ]
            for budget in budgets
        ],
    )
    missed = [budget.what for budget in budgets if not budget.held]
    if missed:
        print(f"ERROR: missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _trainings(environment: dict[str, str]) -> list[Budget]:
    imports = min((training.imports() for _ in range(SMALL_TRAININGS)), key=lambda run: run.wall)
    middle, large = (training.train(BUCKET, environment, rows) for rows in training.SIZES[1:])
    bent = training.train(BUCKET, environment, training.SIZES[2], bent=True)
    # this size comes last, so that the service loads a champion of a usual week
    small = sorted(
        (training.train(BUCKET, environment, training.SIZES[0]) for _ in range(SMALL_TRAININGS)),
        key=lambda run: run.wall,
    )[SMALL_TRAININGS // 2]
    _table(
        ["train_model", "wall, s", "CPU, s", "peak, MiB"],
        [
            [run.name, f"{run.wall:.1f}", f"{run.cpu:.1f}", f"{run.peak:.0f}"]
            for run in (imports, small, middle, large, bent)
        ],
    )
    times = training.SIZES[2] // training.SIZES[1]
    return [
        Budget("training on 1,000 orders, the whole process", small.wall, 6, "s"),
        Budget("training on 10,000,000 orders", large.wall, 60, "s"),
        Budget("its memory", large.peak * 2**20 / 1e9, 2, "GB"),
        Budget("training on 10,000,000 bent orders", bent.wall, 60, "s"),
        Budget("its memory", bent.peak * 2**20 / 1e9, 2, "GB"),
        Budget("growth of time with orders", training.growth(middle, large, imports, times), 1, "(exponent)"),
    ]


def _serving(environment: dict[str, str], soak_seconds: float) -> list[Budget]:
    starts = [serving.seconds_to_first_answer(BUCKET, environment) for _ in range(STARTS)]
    with serving.subjects(BUCKET, environment) as running:
        serving.take_turns(running, TURNS, TURN_SECONDS)
        service, constant, bare = running.values()
        _table(
            ["POST, one core", "requests a second", "of bare ASGI"],
            [
                [subject.name, f"{subject.rate:,.0f}", f"{serving.ratio(subject, bare):.2f}"]
                for subject in (service, constant, bare)
            ],
        )
        latencies = {subject.name: serving.latencies(subject) for subject in (service, constant, bare)}
        _table(
            ["latency at half of its own most, ms", *next(iter(latencies.values()))],
            [[name, *(f"{value:.2f}" for value in found.values())] for name, found in latencies.items()],
        )
        idle = serving.rate_beside_idle_connections(service, TURNS, TURN_SECONDS)
        grown, descriptors, failures = serving.soak(service, soak_seconds)
        peak = serving.peak(service)
        crowd, bare_crowd = (serving.rate_of_a_crowd(subject, TURN_SECONDS) for subject in (service, bare))
    waited = serving.CROWD / crowd * 1e3
    share = crowd / bare_crowd
    print(f"{serving.CROWD:,} clients without a pause: {share:.2f} of bare ASGI, each waits {waited:.0f} ms")
    print(f"start to first answer: {', '.join(f'{seconds:.2f}' for seconds in starts)} s", flush=True)
    print(f"soak of {soak_seconds:g} s at 80 %: {grown:+.1f} MiB, {descriptors:+d} descriptors, {failures} failures")
    return [
        Budget("throughput, of bare ASGI", serving.ratio(service, bare), 0.9, "x", least=True),
        Budget("throughput beside 1,000 idle connections, of without", idle, 0.95, "x", least=True),
        Budget("start to first answer", statistics.median(starts), 3, "s"),
        Budget("memory of the service, peak", peak, 205, "MiB"),
        Budget(f"memory grown by {soak_seconds:g} s of soak", grown, 2, "MiB"),
        Budget("descriptors grown by it", descriptors, 0, ""),
        Budget("failures in it", failures, 0, ""),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    print()
    for row in (header, ["-" * width for width in widths], *rows):
        first, *others = (
            f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("| " + " | ".join([first, *others]) + " |", flush=True)
    print()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--soak", type=float, default=300.0, metavar="S", help="seconds at 80 %% (default: 300)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
