"""The engine: it runs the plan of a view, and makes an answer of the outcomes. It names no view."""
