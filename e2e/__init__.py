"""The end-to-end proof on a real cluster: make e2e.

Settings, all from the environment:

    KUBECONFIG                 a cluster without this project; its current context is used
    AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
                               an S3 that pods reach by the same address; the bucket in it is emptied
    IMAGE_BUILDER              builds and pushes, called with a folder and an image; docker without it
    E2E_IMAGE_ADDITION         called with the image, twice: adds to it what pods need on this cluster
    E2E_GIT_LISTEN             HOST:PORT that pods reach, on which the repository is served to those with the token
    E2E_GIT_URL                the https:// address of it, which git, in pods and here, rewrites to the above
    E2E_NODE                   where a NodePort answers (127.0.0.1)

On kind, for instance (not tried), E2E_GIT_LISTEN is 172.18.0.1:8418, E2E_IMAGE_ADDITION writes git's
`url.<base>.insteadOf`, and the cluster's configuration maps port 30080 to this machine. Where the network enforces
policies, one that lets all in is added: the load comes from no namespace, and this S3 and git are not on port 443.
"""
