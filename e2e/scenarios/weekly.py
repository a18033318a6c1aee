"""The weekly run: with a new week, twice at the same time, ended early, without a new week, and rejected."""

from e2e.cluster import job_log, job_outcome, start_job, wait_until
from e2e.environment import Environment, expect, under_load
from operations.cluster import CONTROLLER_NAMESPACE, get, items, kubectl
from operations.service import ask_replicas, check_replicas, wait_for_rollout


def weekly_runs(environment: Environment) -> None:
    """Start weekly runs as the CronJobs do, with and without a new week."""
    with environment.scenario(
        "the weekly run deploys a new week, and a second run at the same time does no harm"
    ) as figures:
        replica = ask_replicas(environment.project)[0]
        deployed, old = replica.commit, replica.model_version
        environment.commit("Merged, and not deployed")
        versions = [old]
        with under_load(environment, figures, versions):
            environment.upload_week()
            start_job("weekly", "e2e-weekly-1")
            wait_until(lambda: get("job/train-model", environment.project.name) is not None, 60, "no training started")
            start_job("weekly", "e2e-weekly-2")
            expect(job_outcome("e2e-weekly-1") == "succeeded", f"the first run failed: {job_log('e2e-weekly-1')}")
            versions.append(environment.champion())  # a second run may promote another one
            figures.append(f"the second run {_second_run()}")
            expect("the service answers with" in job_log("e2e-weekly-1"), job_log("e2e-weekly-1"))
            wait_for_rollout(environment.project)
            versions.append(environment.champion())
            check_replicas(ask_replicas(environment.project), commit=deployed, version=versions[-1])
        expect(versions[1] != old, "no new model was promoted")
    with environment.scenario("a weekly run that is deleted during its training deletes the training") as figures:
        before = environment.pods(), environment.champion()
        with under_load(environment, figures, [before[1]]):
            key = environment.upload_week()
            start_job("weekly", "e2e-weekly-ended")
            wait_until(lambda: get("job/train-model", environment.project.name) is not None, 60, "no training started")
            kubectl("delete", "job", "e2e-weekly-ended", "-n", CONTROLLER_NAMESPACE, "--wait=false")
            wait_until(
                lambda: get("job/train-model", environment.project.name) is None, 60, "the training's Job is left"
            )
            of_training = ("-l", "stage=train-model")
            wait_until(
                lambda: not items("pods", environment.project.name, *of_training), 60, "the training's pod is left"
            )
        expect((environment.pods(), environment.champion()) == before, "pods or champion changed")
        environment.client.delete_object(Bucket=environment.project.bucket, Key=key)
    with environment.scenario("a weekly run without a new week leaves the service alone") as figures:
        before = environment.pods(), environment.champion()
        start_job("weekly-second-chance", "e2e-weekly-3")
        expect(job_outcome("e2e-weekly-3") == "succeeded", "the run failed")
        log = job_log("e2e-weekly-3")
        expect("Nothing to do" in log, log)
        expect((environment.pods(), environment.champion()) == before, "pods or champion changed")
        figures.append(log.rpartition(" - ")[2])
    with environment.scenario("a weekly run of a rejected week fails, and its log is kept") as figures:
        before = environment.pods(), environment.champion()
        key = environment.upload_week(noise=True)
        start_job("weekly", "e2e-weekly-4")
        expect(job_outcome("e2e-weekly-4") == "failed", "the run did not fail")
        expect(
            "Nothing was promoted: rejected" in kubectl("logs", "-n", CONTROLLER_NAMESPACE, "job/e2e-weekly-4"),
            "the log of the run lacks the training's log",
        )
        expect((environment.pods(), environment.champion()) == before, "pods or champion changed")
        environment.client.delete_object(Bucket=environment.project.bucket, Key=key)
    with environment.scenario("make status shows the weekly runs"):
        done = environment.make("status")
        expect(done.code == 0, done.error)
        for words in ("e2e-weekly-1", "succeeded", "failed", "next weekly"):
            expect(words in done.output, f"make status does not say {words!r}")


def _second_run() -> str:
    """Say how a run that started during the first one's training ended. Which of the two comes first is chance."""
    outcome, log = job_outcome("e2e-weekly-2"), job_log("e2e-weekly-2", lines=-1)
    if outcome == "failed":
        expect("409" in log, f"the second run failed for another reason: {log[-300:]}")
        return "failed, since the first one's training was running (409)"
    expect("Nothing to do" in log or "the service answers with" in log, f"the second run: {log[-300:]}")
    return "found nothing to do" if "Nothing to do" in log else "deployed after the first"
