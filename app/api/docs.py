"""The API docs: Swagger UI from our own disk, nothing inline, nothing from elsewhere.

The links are relative throughout, so that the page also works behind a proxy that adds a prefix.
"""

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from app.api.files import WEB, Revalidated


def docs(app: FastAPI) -> None:
    """Serve the docs at `/docs`."""
    assets = Revalidated(directory=WEB / "docs")

    async def page(request: Request) -> Response:
        return await assets.get_response("index.html", request.scope)

    async def from_folder(request: Request) -> Response:
        return RedirectResponse("../docs")

    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/docs/", from_folder, include_in_schema=False)
    app.mount("/docs", assets)
