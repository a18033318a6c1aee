"""The models on S3: versions, the champion pointer and its history. Only this room uses boto3.

object_store  S3 over its wire protocol
models        store, load and verify versions
champion      the pointer: promote, roll back, and all earlier champions
history       hold-out and production errors, week by week
__main__      the command line: `python -m pipeline.registry BUCKET list`
"""
