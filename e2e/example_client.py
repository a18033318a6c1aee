"""The client that docs/how-to/call-the-api.md describes; `make e2e` runs it through every roll-out.

python -m e2e.example_client http://127.0.0.1:8000 SKU001 112
"""

import sys

import urllib3

ROUTE = "/api/v0.1/time_to_dispatch"
CONNECTIONS = urllib3.PoolManager(
    maxsize=10,  # kept open, and closed when an answer says `Connection: close`
    timeout=urllib3.Timeout(total=1),
    retries=urllib3.Retry(
        total=1, status_forcelist=[503], allowed_methods=["POST"], raise_on_status=False, retry_after_max=1
    ),
)


def hours_to_dispatch(service: str, product_code: str, orders_placed: int) -> float | None:
    """Return the hours to show to the customer; None if there is no estimate to show."""
    order = {"product_code": product_code, "orders_placed": orders_placed}
    try:
        answer = CONNECTIONS.request("POST", service + ROUTE, json=order)
        return float(answer.json()["est_hours_to_dispatch"]) if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError):  # the last three: it is not of this service
        return None


if __name__ == "__main__":
    print(hours_to_dispatch(sys.argv[1], sys.argv[2], int(sys.argv[3])))
