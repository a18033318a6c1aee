"""From a week of orders on S3 to an API that says how many hours the next order takes to dispatch.

Two stages, started by Bodywork, four rooms, and what every room needs. `.importlinter` has the import rules.

    train_model.py  stage 1: S3 datasets/ -> a judged model on S3 models/, promoted when every gate passes
    serve_model.py  stage 2: the champion from S3 models/ -> POST /api/v0.1/time_to_dispatch

    training/       a week of orders in, a judged challenger out
    registry/       S3: versions, the champion pointer, history; `python -m pipeline.registry` is its command line
    report/         the training report and its plots
    serving/        the HTTP service

    keys.py         the names of objects on S3
    manifest.py     what is stored beside a model
    estimator.py    the scikit-learn estimator in every stored model; it never moves, since pickles name its path
    errors.py       what can go wrong
    utils.py        the log format and the time limit that both stages share
"""
