"""The overview as a first tutorial writes it: one shared client, one request after another."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM_URL"]) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


async def fetch(client: httpx.AsyncClient, url: str) -> Any:
    response = await client.get(url)
    response.raise_for_status()
    return response.json()


@app.get("/v1/users/{user_id}/overview")
async def overview(user_id: int, request: Request) -> dict[str, Any]:
    client: httpx.AsyncClient = request.app.state.client
    user = await fetch(client, f"/users/{user_id}")
    posts = await fetch(client, f"/posts?userId={user_id}")
    todos = await fetch(client, f"/todos?userId={user_id}")
    return {"user": user, "posts": posts, "todos": todos}
