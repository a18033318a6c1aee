"""From a week of orders on S3 to an API that says how many hours the next order takes to dispatch.

Two stages, started by Bodywork, and what they are made of. Imports go one way: stages -> edges -> core.

    stages  train_model    S3 datasets/ -> a fitted model on S3 models/, promoted when the gates let it in
            serve_model    the champion from S3 models/ -> POST /api/v0.1/time_to_dispatch
    edges   object_store   S3, over its wire protocol
            registry       versions and the champion pointer, on an object store
            registry_commands  list, show, promote, rollback, history
            lane           the hot route, answered in front of FastAPI
            traffic        every other request: counted, bounded, logged
            api            the HTTP routes
            estimates      the question, the answer, and their counting
            server         uvicorn, with a drain on SIGTERM
            metrics        what Prometheus reads
            utils          the one log format, and the limit on a stage's time
    core    training       a week of orders -> a fitted model, its figures, the gates' verdicts
            names          how keys and versions are spelt
            orders         the data contract
            estimator      the scikit-learn estimator that is persisted
            candidates     what may be fitted, and how the choice is made
            drift          this week against the one before
            evaluation     hold-out, metrics and curves
            gates          what keeps a bad model out
            history        errors promised and seen, week by week
            report, plots  the training report
            manifest       what is kept beside a model
            predictor      answers from a loaded model
            errors         what can go wrong
"""
