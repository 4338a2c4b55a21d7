"""Who watches: events in, log lines out."""
