"""The HTTP that we speak to upstreams: the one place that imports httpx."""
