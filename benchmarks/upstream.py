"""The upstreams: nginx for the load, and one of fixed delays for the time added."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .data import bodies
from .process import HOST, free_port, server

# Keep-alive without end: a connection closed under load would be a lottery for the clients.
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
    open_file_cache max=100;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    types {{ }}
    default_type application/json;
    server {{
        listen {host}:{port} backlog=4096;
        root {directory}/data;
        location = /posts {{ try_files /posts/$arg_userId =404; }}
        location = /todos {{ try_files /todos/$arg_userId =404; }}
    }}
}}
"""


@contextmanager
def fast_upstream(directory: Path, core: int) -> Iterator[int]:
    """The port of an nginx that serves the data as static files."""
    for path, body in bodies().items():
        file = directory / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    port = free_port()
    conf = directory / "nginx.conf"
    conf.write_text(NGINX_CONF.format(directory=directory, host=HOST, port=port))
    command = ["nginx", "-e", str(directory / "nginx.log"), "-p", str(directory), "-c", str(conf)]
    with server(command, {}, port=port, core=core, directory=directory):
        yield port


@contextmanager
def slow_upstream(directory: Path, core: int) -> Iterator[int]:
    """The port of an upstream that takes its time, the same for every call to a resource."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.slow", str(port)]
    with server(command, {}, port=port, core=core, directory=directory):
        yield port
