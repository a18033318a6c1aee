"""How fast, how small, how soon: measured beside the limit, in one run. `make bench` runs `bench`.

    bench      the run, its table and its budgets
    serving    the service beside a bare ASGI function and a plain FastAPI route
    training   the train stage at 1,000 rows and more
    load       a bounded client for loopback: closed loop, open loop, idle connections
    machine    cores, and what a process has used
    bare, constant  what the service is measured beside
"""
