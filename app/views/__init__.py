"""The answers we compose: plans of a few named questions, and how their outcomes are told."""
