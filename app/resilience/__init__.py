"""How one call survives: the nouns, the layers, and their order."""
