"""The upstreams we ask: each a model of what it has, and the question that gets it."""
