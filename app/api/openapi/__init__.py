"""The OpenAPI document: the models, the responses of each route, and an example of each case."""
