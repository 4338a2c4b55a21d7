"""The upstreams: nginx for the load, and one with fixed delays for the time added."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .client import Client
from .data import bodies
from .process import HOST, BenchmarkError, free_port, server

# Unlimited keep-alive: a connection closed under load would hit some variant by chance.
# No validators: with them, the service would revalidate and get a 304 without a body, where the
# other variants get a full response. Nginx leaves out a header whose value is empty.
NGINX_CONF = """
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    open_file_cache max=1000;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    types {{ }}
    default_type application/json;
    etag off;
    if_modified_since off;
    add_header Last-Modified "";
    add_header Cache-Control "{cache_control}";
    server {{
        listen {host}:{port} backlog=4096;
        root {directory}/data;
        location = /posts {{ try_files /posts/$arg_userId =404; }}
        location = /todos {{ try_files /todos/$arg_userId =404; }}
    }}
}}
"""


@contextmanager
def fast_upstream(directory: Path, core: int, cache_control: str = "") -> Iterator[int]:
    """The port of an nginx that serves the data as static files, with this `Cache-Control`."""
    for path, body in bodies().items():
        file = directory / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    port = free_port()
    conf = directory / "nginx.conf"
    conf.write_text(
        NGINX_CONF.format(directory=directory, host=HOST, port=port, cache_control=cache_control)
    )
    command = ["nginx", "-e", str(directory / "nginx.log"), "-p", str(directory), "-c", str(conf)]
    with server(command, {}, port=port, core=core, directory=directory):
        _verify_headers(cache_control, port)
        yield port


def _verify_headers(cache_control: str, port: int) -> None:
    """Check that responses have this `Cache-Control` and no validators."""
    with closing(Client(port)) as client:
        for path in ("/users/1", "/posts?userId=1", "/todos?userId=1"):
            headers = client.headers(path)
            actual = headers.get("Cache-Control", "")
            if actual != cache_control or "ETag" in headers or "Last-Modified" in headers:
                raise BenchmarkError(f"nginx answers {path} with\n{headers}")


@contextmanager
def slow_upstream(directory: Path, core: int) -> Iterator[int]:
    """The port of an upstream with a fixed delay for each resource."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.slow", str(port)]
    with server(command, {}, port=port, core=core, directory=directory):
        yield port
