"""Faults and overload: what the service does under them, measured on real processes."""
