"""A JSONPlaceholder-compatible upstream to try the service on: small, slow or broken on request."""

from app.demo.parameter import FAULT_HEADER, demo_fault
from app.demo.upstream import demo_upstream

__all__ = ["FAULT_HEADER", "demo_fault", "demo_upstream"]
