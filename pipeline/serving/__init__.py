"""The HTTP service: questions in, estimates out; never pandas, training or the registry.

app         the routes
schemas     the request, the response and the count of predictions
predictor   estimates from a loaded model
fast_path   the prediction route, answered without FastAPI
middleware  counts, limits and logs requests; the fast path reports its own
server      uvicorn with a drain on SIGTERM
metrics     the metrics that Prometheus scrapes
"""
