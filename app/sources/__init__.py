"""The resources of upstreams: for each a model, and the question that gets it."""
