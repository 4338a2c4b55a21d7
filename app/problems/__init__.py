"""Problems (RFC 9457): what can go wrong, said in one shape."""
