"""What make deploy, rollback and status refuse before anything is changed."""

from contextlib import nullcontext

from e2e.cluster import kubeconfig, terminating, token_of_nobody, uncommitted
from e2e.environment import CommandResult, Environment, under_load


def refusals(environment: Environment) -> None:
    """Try everything that must be refused before anything is changed."""
    good = environment.git("rev-parse", "HEAD")
    done: list[CommandResult] = []

    def refused(command: str, *words: str, **settings: str) -> None:
        done.append(environment.refused(command, *words, **settings))

    with environment.scenario(
        "refused deployments change nothing: context, credentials, rights, cluster, image, tree, DAG, namespace"
    ) as figures:
        with under_load(environment, figures):
            refused("deploy", "but CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused("deploy", "CONTEXT is not set", CONTEXT="")
            refused("rollback", "but CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused("status", "but CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused("deploy", "must be logged in", KUBECONFIG=kubeconfig(environment, token="expired"))
            refused("deploy", "refused", KUBECONFIG=kubeconfig(environment, server="https://127.0.0.1:1"))
            nobody = kubeconfig(environment, token=token_of_nobody())
            refused("deploy", "your account may not", "create jobs", KUBECONFIG=nobody)
            refused("rollback", "your account may not", "watch deployments", KUBECONFIG=nobody)
            refused("deploy", "names account 111122223333", CLUSTER="deploy/eks")
            refused("deploy", "a name or a token in it", GIT_URL="https://me:secret@example.com/a.git")
            with uncommitted(environment):
                refused("deploy", "not committed")
            for old, new, words in (
                ("DAG: train_model >> serve_model", "DAG: train_model >> serve_modle", "serve_modle"),
                (environment.project.image, environment.project.image + "0", "its inputs give"),
                (
                    environment.project.image,
                    "nobody/" + environment.project.image.partition("/")[2],
                    "is not on Docker Hub",
                ),
                ("name: time-to-dispatch", "name: e2e-terminating", "Terminating"),
            ):
                environment.commit("Try what is refused", "bodywork.yaml", old, new)
                try:
                    with terminating("e2e-terminating") if words == "Terminating" else nullcontext():
                        refused("deploy", words)
                finally:
                    environment.back_to(good)
        figures.append(f"{len(done)} refusals")
