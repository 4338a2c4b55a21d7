"""The engine: a plan of sections, run, and what its outcomes come to. It names no view."""
