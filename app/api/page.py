"""The page at `/`: the overview as it lands, and what was done for it, for people to see.

It is a client like any other. All that it is told beforehand is whether the data are the demo's,
and whether the service explains itself.
"""

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from app.api.files import WEB, Revalidated
from app.settings import Settings

_UNKNOWN = 'data-demo="?" data-explain="?"'


def page(app: FastAPI, settings: Settings) -> None:
    """Serve the page, its files, and the icon that it shares with the docs."""
    web = Revalidated(directory=WEB)
    known = f'data-demo="{_word(settings.demo)}" data-explain="{_word(settings.explains)}"'
    html = (WEB / "index.html").read_text("utf-8").replace(_UNKNOWN, known)

    async def index(request: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    async def icon(request: Request) -> Response:
        return await web.get_response("favicon.svg", request.scope)

    app.add_route("/", index, include_in_schema=False)
    app.add_route("/favicon.svg", icon, include_in_schema=False)
    app.mount("/page", Revalidated(directory=WEB / "page"))


def _word(value: bool) -> str:
    return "true" if value else "false"
