"""The scenarios of `make e2e`, one file for each group; e2e/run.py has their order.

deployment  the first deployment, roll-outs under load, a third replica, an interruption
refusals    what is refused before anything is changed
failures    what fails in training or in the roll-out
weekly      the weekly run
pods        pods that are deleted, killed or evicted
rollback    a roll-back, and the status
upgrade     a champion of the previous version
security    patches, rights and the token
"""
