"""Print a list with one Deployment as JSON. Run by Bodywork's Python in a pod, which has no kubectl.

Arguments: namespace and name.
"""

import sys

from kubernetes import client, config


def main(namespace: str, name: str) -> None:
    """Ask the API server with the pod's own credentials."""
    config.load_incluster_config()
    answer = client.AppsV1Api().list_namespaced_deployment(
        namespace, field_selector=f"metadata.name={name}", _preload_content=False
    )
    print(answer.data.decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
