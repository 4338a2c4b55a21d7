"""The embedded demo: an upstream like JSONPlaceholder that is slow or broken on request."""

from app.demo.parameter import FAULT_HEADER, demo_fault
from app.demo.upstream import demo_upstream

__all__ = ["FAULT_HEADER", "demo_fault", "demo_upstream"]
