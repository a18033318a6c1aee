"""The usual way: a FastAPI route with the service's own request and answer, which answers a constant."""

from fastapi import FastAPI

from pipeline.serving.schemas import ROUTE, DispatchEstimate, OrderQuery

app = FastAPI()


@app.post(ROUTE)
async def time_to_dispatch(query: OrderQuery) -> DispatchEstimate:
    """Answer the same for any order."""
    return DispatchEstimate(est_hours_to_dispatch=5.321, model_version=query.product_code)
