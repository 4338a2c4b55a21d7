"""What browsers get: the page at `/`, the API docs at `/docs`, and the files of both.

The docs are Swagger UI from our own disk, nothing inline, nothing from elsewhere. Links are
relative throughout, so that both also work behind a proxy that adds a prefix. The page is a client
like any other: it is only told whether the data are the demo's, whether `explain` is allowed, and
the names of the sections.
"""

import os
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Receive, Scope, Send

from app.settings import Settings
from app.views.overview import overview

WEB = Path(__file__).parents[1] / "web"

_PLACEHOLDERS = 'data-demo="?" data-explain="?" data-sections="?"'


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the page, the docs, their files, and the icon that they share."""
    web, docs = RevalidatedFiles(directory=WEB), RevalidatedFiles(directory=WEB / "docs")
    attributes = (
        f'data-demo="{_json_bool(settings.demo)}" '
        f'data-explain="{_json_bool(settings.explain_allowed)}" '
        f'data-sections="{",".join(overview.sections)}"'
    )
    html = (WEB / "index.html").read_text("utf-8").replace(_PLACEHOLDERS, attributes)

    async def page(request: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    async def icon(request: Request) -> Response:
        return await web.get_response("favicon.svg", request.scope)

    async def docs_page(request: Request) -> Response:
        return await docs.get_response("index.html", request.scope)

    async def docs_folder(request: Request) -> Response:
        return RedirectResponse("../docs")

    app.add_route("/", page, include_in_schema=False)
    for path in ("/favicon.svg", "/favicon.ico"):  # browsers ask for the latter unless told
        app.add_route(path, icon, include_in_schema=False)
    app.mount("/page", RevalidatedFiles(directory=WEB / "page"))
    app.add_route("/docs", docs_page, include_in_schema=False)
    app.add_route("/docs/", docs_folder, include_in_schema=False)
    app.mount("/docs", docs)


class RevalidatedFiles(StaticFiles):
    """Files that a browser stores and revalidates each time, so that an update shows at once."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = _WholeFile(full_path, status_code, stat_result=stat_result)
        headers = response.headers
        not_modified = self.is_not_modified(headers, Headers(scope=scope))
        del headers["Accept-Ranges"]
        headers["ETag"] = f"W/{headers['ETag']}"  # it may be compressed
        headers["Vary"] = "Accept-Encoding"
        headers["Cache-Control"] = "no-cache"
        return NotModifiedResponse(headers) if not_modified else response


class _WholeFile(FileResponse):
    """Parts of a small file are no use, and a server need not send them (RFC 9110 §14.2)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _json_bool(value: bool) -> str:
    return "true" if value else "false"
