"""What every client has to print: the same as a look at the JSON tells."""

from functools import cache

import httpx

UNKNOWN = 999  # no user of the demo


@cache
def expected(url: str) -> dict[str, str]:
    """By call, the line that it leads to."""
    with httpx.Client(base_url=url) as client:
        overview = client.get("/v1/users/1/overview").json()
        problem = client.get(f"/v1/users/{UNKNOWN}/overview").json()
        batch = client.get(f"/v1/overviews?user_id=1,{UNKNOWN}").json()
    items = ", ".join(f"{item['user_id']} {item['status']}" for item in batch["items"])
    return {
        "overview": f"overview {overview['user']['data']['name']} {len(overview['posts']['data'])}",
        "404": f"404 {problem['status']} {problem['title']}",
        "batch": f"batch {items}",
    }
