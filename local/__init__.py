"""The pipeline on one machine: a real S3 server, generated orders, and the stages started as Bodywork starts them.

run              make run
generate_orders  generated weeks of orders
s3_server        SeaweedFS on loopback
stages           bodywork.yaml's DAG, and how a stage is started
"""
