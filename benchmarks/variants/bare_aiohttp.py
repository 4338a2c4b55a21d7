"""The tutorial's `gather` on aiohttp instead of httpx: it shows how much the client costs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(os.environ["UPSTREAM_URL"]) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


async def fetch(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url, raise_for_status=True) as response:
        return await response.json()


@app.get("/v1/users/{user_id}/overview")
async def overview(user_id: int, request: Request) -> dict[str, Any]:
    session: aiohttp.ClientSession = request.app.state.session
    user, posts, todos = await asyncio.gather(
        fetch(session, f"/users/{user_id}"),
        fetch(session, f"/posts?userId={user_id}"),
        fetch(session, f"/todos?userId={user_id}"),
    )
    return {"user": user, "posts": posts, "todos": todos}
