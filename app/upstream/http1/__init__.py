"""Our own HTTP/1.1 client below httpx: connections, how they are opened, and the pool of them."""
