"""Parts to measure the service with, beside the limit, in one run: not yet joined into one command.

    serving    the service beside a bare ASGI function and a plain FastAPI route
    load       a bounded client for loopback: closed loop, open loop
    machine    cores, and what a process has used
    bare, constant  what the service is measured beside
"""
