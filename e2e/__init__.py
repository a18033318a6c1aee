"""The end-to-end proof on a real cluster: make e2e.

run               the runner: which scenarios, in which order, and the table
scenarios/        one file for each group of scenarios
environment       repository, bucket, make commands, load and results
cluster           helpers on the cluster that several scenarios share
load              the load generator
example_client    the client that docs/how-to/call-the-api.md describes
git_server        a private git repository over HTTP
previous_version  the previous version's code, out of the repository's history

Settings, all from the environment:

    KUBECONFIG                 a cluster without this project; its current context is used
    AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
                               an S3 that pods reach by the same address; the bucket in it is emptied
    IMAGE_BUILDER              a command that builds and pushes, called with folder and image; default: docker
    E2E_IMAGE_ADDITION         a command, called with the image twice, that adds what pods need on this cluster
    E2E_GIT_LISTEN             HOST:PORT that pods reach, where the repository is served to clients with the token
    E2E_GIT_URL                its https:// address, which git rewrites to the address above, in pods and here
    E2E_NODE                   the host on which NodePorts answer (default: 127.0.0.1)

On kind, for instance (not tried), E2E_GIT_LISTEN is 172.18.0.1:8418, E2E_IMAGE_ADDITION writes git's
`url.<base>.insteadOf`, and the cluster's configuration maps port 30080 to this machine. A policy that allows everything
is added to the cluster: the load comes from outside, and this S3 and git do not use port 443.
"""
