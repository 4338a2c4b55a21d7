"""Below FastAPI: the HTTP protocol, draining, and what every request passes."""
