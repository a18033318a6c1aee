"""make e2e: prove every promise about a cluster on a real one. Ends with a table, and exit code 1 if a scenario failed.

make e2e                            all scenarios
make e2e ARGS="rollback upgrade"    the first deployment, then these
make e2e ARGS=--list                the names of all scenarios
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.environment import SETTINGS, Environment, Row
from e2e.git_server import git_server
from e2e.scenarios import deployment, failures, pods, refusals, rollback, security, upgrade, weekly
from operations.cluster import OperationError, check_namespace

Scenario = Callable[[Environment], None]

SCENARIOS: list[Scenario] = [  # in this order: each leaves a cluster on which the next one can run
    deployment.roll_outs,
    deployment.third_replica,
    refusals.refusals,
    failures.failed_trainings,
    failures.commit_that_does_not_start,
    deployment.interruption,
    weekly.weekly_runs,
    pods.lost_pods,
    rollback.rollback,
    upgrade.upgrade,
    security.rights,
    security.token,
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios; return 0 if all of them passed."""
    args = _parse(arguments)
    if args.list:
        print(*(scenario.__name__ for scenario in SCENARIOS), sep="\n")
        return 0
    if missing := [name for name in SETTINGS if not os.environ.get(name)]:
        print(f"ERROR: {', '.join(missing)} not set; e2e/__init__.py explains the settings", file=sys.stderr)
        return 1
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        try:
            environment = Environment(Path(folder))
            if check_namespace(environment.project.name):
                raise OperationError(f"the namespace {environment.project.name} exists: use a cluster without it")
        except OperationError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            return 1
        environment.make_repository()
        with git_server(os.environ["E2E_GIT_LISTEN"], environment.repository, environment.token) as server:
            environment.git_server = server
            run(environment, [each for each in SCENARIOS if not args.scenarios or each.__name__ in args.scenarios])
    print(f"\n{table(environment.rows)}\n\nAll of it took {time.monotonic() - start:.0f} s.")
    return 0 if all(row.passed for row in environment.rows) else 1


def run(environment: Environment, scenarios: Sequence[Scenario]) -> None:
    """Run the first deployment, and then the scenarios if it succeeded."""
    deployment.first_deployment(environment)
    if environment.rows[-1].passed:
        for scenario in scenarios:
            scenario(environment)


def table(rows: Sequence[Row]) -> str:
    """Return the table of all rows, as text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'scenario':{width}}  result  seconds  figures"]
    for row in rows:
        result = "ok" if row.passed else "FAILED"
        lines.append(f"{row.name:{width}}  {result:6}  {row.seconds:7.1f}  {row.figures}")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make e2e", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one of {', '.join(names)}")
    parser.add_argument("--list", action="store_true", help="print the names of all scenarios")
    args = parser.parse_args(arguments)
    if unknown := set(args.scenarios) - set(names):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))} (expected {', '.join(names)})")
    return args


if __name__ == "__main__":
    sys.exit(main())
