"""make bench: time and memory of the pipeline, beside the least that they could be, in one run.

run        the whole run, its table and its budgets
training   the stage train_model on a thousand to ten million orders
serving    the service beside a bare ASGI function and a plain FastAPI route
load       a bounded client for loopback: closed loop, open loop
machine    cores, and what a process has used
bare, constant  what the service is measured beside
"""
