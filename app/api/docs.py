"""The API docs: Swagger UI from our own disk, nothing inline, nothing from elsewhere.

The links are relative throughout, so that the page also works behind a proxy that adds a prefix.
"""

import os
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

_WEB = Path(__file__).parents[1] / "web"


def docs(app: FastAPI) -> None:
    """Serve the docs at `/docs`, the icon that they share with other pages, and lead `/` there."""
    web, assets = _Revalidated(directory=_WEB), _Revalidated(directory=_WEB / "docs")

    async def page(request: Request) -> Response:
        return await assets.get_response("index.html", request.scope)

    async def icon(request: Request) -> Response:
        return await web.get_response("favicon.svg", request.scope)

    async def from_root(request: Request) -> Response:
        return RedirectResponse("docs")

    async def from_folder(request: Request) -> Response:
        return RedirectResponse("../docs")

    app.add_route("/", from_root, include_in_schema=False)
    app.add_route("/favicon.svg", icon, include_in_schema=False)
    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/docs/", from_folder, include_in_schema=False)
    app.mount("/docs", assets)


class _Revalidated(StaticFiles):
    """Files that a browser keeps but asks about each time: an update shows at once."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response
