"""What an exchange that broke says in the log: nothing of it is the upstream's own words."""

import os
import socket
import ssl

import httpx

_CERTIFICATE = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    **dict.fromkeys((2, 18, 19, 20, 21), "the certificate is by an unknown authority"),
    **dict.fromkeys((62, 64), "the certificate is for another name"),
}
"""By OpenSSL's number (X509_V_ERR_…): to its words for names, Python adds the name."""


def error_cause(error: httpx.TransportError) -> str:
    """The cause for the log: class names, and the messages of the system and of OpenSSL."""
    cause = error.__cause__
    match cause:
        case ssl.SSLCertVerificationError(verify_code=int(code), verify_message=str(words)):
            message = f"TLS: {_CERTIFICATE.get(code, words)}"
        case ssl.SSLError(reason=str(reason)) if isinstance(error, httpx.ConnectError):
            message = f"TLS: the handshake failed: {reason}"
        case ssl.SSLError(reason=str(reason)):
            message = f"TLS: {reason}"
        case socket.gaierror(strerror=str(message)):
            pass
        case OSError(errno=int(number)):
            message = os.strerror(number)
        case _:
            message = type(cause).__name__
    return f"{type(error).__name__}: {message}"
