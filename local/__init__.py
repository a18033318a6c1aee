"""The pipeline on one machine: a real S3 server, generated orders, and the stages started as Bodywork starts them.

run              make run
generate_orders  weeks of orders, made up and honest about it
s3_server        SeaweedFS on loopback
stages           bodywork.yaml's DAG, and how a stage is started
"""
