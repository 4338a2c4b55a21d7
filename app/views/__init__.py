"""The views that are served, a file each: their sections, and nothing else."""
