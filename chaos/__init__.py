"""What the service does when its upstreams do not do well, measured on real processes."""
