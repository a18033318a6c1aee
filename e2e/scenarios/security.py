"""Patches and rights are what deploy/ says, and the token shows up nowhere."""

from e2e.cluster import job_log
from e2e.environment import LOG, Environment, expect
from operations.cluster import CONTROLLER_NAMESPACE, ROOT, get, items, kubectl, refused_rights
from operations.service import TAG_PREFIX, ask_replicas, check_deployment, cluster_folder, ready_pods


def rights(environment: Environment) -> None:
    """Check that patches and rights are what deploy/ says."""
    project = environment.project
    with environment.scenario("all patches are still there, and accounts have only the rights of deploy/"):
        (commit,) = {replica.commit for replica in ask_replicas(project)}
        deployment = get(f"deployment/{project.service}", project.name)
        folder = environment.clone / cluster_folder().relative_to(ROOT)
        check_deployment(project, deployment, folder, f"{TAG_PREFIX}{commit[:12]}")
        stage = f"system:serviceaccount:{project.name}:bodywork-stage"
        controller = f"system:serviceaccount:{CONTROLLER_NAMESPACE}:bodywork-workflow-controller"
        for account, verb, resource, namespace in (
            (stage, "list", "secrets", project.name),
            (stage, "get", "pods", project.name),
            (controller, "list", "secrets", "kube-system"),
            (controller, "create", "secrets", project.name),
            (controller, "patch", "deployments.apps", "default"),
        ):
            refused = refused_rights(namespace, {resource: verb}, "--as", account)
            expect(bool(refused), f"{account} may {verb} {resource} in {namespace}")
        for pod in ready_pods(project):
            listing = kubectl(
                "exec",
                "-n",
                project.name,
                pod,
                "--",
                "sh",
                "-c",
                "ls /var/run/secrets/kubernetes.io 2>&1; id -u; touch /opt/x 2>&1; true",
            )
            expect("No such file" in listing and "10001" in listing and "Read-only" in listing, listing)


def token(environment: Environment) -> None:
    """Look for the git token in objects, logs, files and command lines."""
    with environment.scenario("git asked for the token, which shows up nowhere") as figures:
        _find_token(environment)
        server = environment.git_server
        assert server is not None
        expect(server.refused > 0, "the git server was never asked without a token")
        figures.append(f"{server.served} answers with the token, {server.refused} refused without")


def _find_token(environment: Environment) -> None:
    project = environment.project
    seen = kubectl("get", "all,cronjobs,events", "-n", project.name, "-o", "yaml")
    seen += kubectl("get", "all,cronjobs,events", "-n", CONTROLLER_NAMESPACE, "-o", "yaml")
    for pod in ready_pods(project):
        seen += kubectl("logs", "-n", project.name, pod)
        where = "/stage/bodywork_project/.git/config /opt/git/config /proc/[0-9]*/cmdline"
        seen += kubectl("exec", "-n", project.name, pod, "--", "sh", "-c", f"cat {where}")
    search = 'test -n "$GIT_TOKEN" || exit 1; grep -rlF "$GIT_TOKEN" /etc /opt /stage /tmp /usr /var 2>/dev/null; true'
    files = kubectl("exec", "-n", project.name, ready_pods(project)[0], "--", "sh", "-c", search).split()
    expect(not files, f"the token is in {files}")
    for job in items("jobs", CONTROLLER_NAMESPACE):
        seen += job_log(job["metadata"]["name"], lines=-1)
    seen += LOG.read_text()
    expect(environment.token not in seen, "the token shows up")
    expect("x-access-token" not in seen, "the user of the token shows up")
