"""Operations on a cluster: deploy, roll back, show the status, and retrain every week.

image     the stage image and its tag
cluster   run kubectl, git and Bodywork; each failure is one line
service   the Deployment that Bodywork makes, and its replicas
deploy    make deploy
rollback  make rollback
status    make status
weekly    what the CronJobs run: deploy again if there is a new week

Scripts that run elsewhere:

ask_replica     in a replica: its commit, its model and an estimate
ask_docker_hub  in Bodywork's environment: does Docker Hub have the image?
ask_kubernetes  in Bodywork's environment: the Deployment, for the weekly run
"""
