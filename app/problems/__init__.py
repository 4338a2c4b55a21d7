"""Problems (RFC 9457): every error response, in one shape."""
