"""A roll-back under load, a deployment after it, and the status."""

from e2e.environment import Environment, expect, seconds_of, under_load
from operations.service import ask_replicas, check_replicas

ROLLBACK_SECONDS = 60


def rollback(environment: Environment) -> None:
    """Roll back, deploy the same commit again, and look at the status."""
    with environment.scenario("make rollback under load") as figures:
        environment.upload_week()  # for a champion with one before it
        environment.deploy()
        old = environment.champion()
        versions = [old]
        with under_load(environment, figures, versions):
            done = environment.make("rollback")
            expect(done.code == 0, done.error)
            versions.append(environment.champion())
            expect(versions[1] != old, "the champion is the same")
            check_replicas(ask_replicas(environment.project), version=versions[1])
        seconds = seconds_of(done.output)
        figures.append(f"{seconds:.0f} s to {versions[1]} in every replica")
        expect(seconds < ROLLBACK_SECONDS, f"it took {seconds:.0f} s")
    with environment.scenario("the next deployment of the same commit keeps the rolled-back model") as figures:
        before, commit = set(environment.pods()), ask_replicas(environment.project)[0].commit
        with under_load(environment, figures, [versions[1]]):
            figures.append(f"make deploy {environment.deploy().seconds:.0f} s")
            check_replicas(ask_replicas(environment.project), commit=commit, version=versions[1])
        expect(not before & set(environment.pods()), "a replica was not replaced")
    with environment.scenario("make status shows replicas, models and weekly runs") as figures:
        done = environment.make("status")
        expect(done.code == 0, done.error)
        for words in (versions[1], "next weekly"):
            expect(words in done.output, f"make status does not say {words!r}")
