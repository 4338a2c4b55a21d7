"""The HTTP that we serve."""
