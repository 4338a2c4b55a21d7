"""Client generators and linters, tried on the OpenAPI document against a running service.

Each client of `clients/` does the same three calls with generated code alone.
"""
