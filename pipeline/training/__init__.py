"""A week of orders in, a judged challenger out; never S3, the clock, the environment or a log.

data_contract  what a dataset must be
challenger     a week -> a fitted challenger, its figures and the verdicts on it
candidates     the models that are tried, and how one is chosen
evaluation     hold-out, metrics and curves
gates          what keeps a bad model out
drift          this week against the week before
"""
