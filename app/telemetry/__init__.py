"""Telemetry: events in, log lines out."""
