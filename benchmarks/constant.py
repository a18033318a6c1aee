"""The usual way: a FastAPI route with the service's own schemas, which answers a constant."""

from fastapi import FastAPI

from pipeline.serving.schemas import ROUTE, DispatchEstimate, OrderQuery

app = FastAPI()


@app.post(ROUTE)
async def time_to_dispatch(query: OrderQuery) -> DispatchEstimate:
    """Answer every order in the same way."""
    return DispatchEstimate(est_hours_to_dispatch=5.321, model_version=query.product_code)
