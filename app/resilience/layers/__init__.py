"""One layer a file: each wraps the fetch below it, and none knows another."""
