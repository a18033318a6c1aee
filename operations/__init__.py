"""What is done to a cluster: deploy, roll back, look, and retrain each week.

image         the stage image and its tag
cluster       kubectl, git and Bodywork, as commands whose refusals are one line
service       what is expected of the Deployment that Bodywork makes, and of its replicas
deploy        make deploy
rollback      make rollback
status        make status
weekly        what the CronJob runs: the same deployment again, if there is a week that nobody trained on
ask_replica   runs inside a replica: what it serves, and from which commit
"""
