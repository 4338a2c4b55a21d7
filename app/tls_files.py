"""The TLS of an upstream that has files of its own: whom it is trusted by, and who we are to it."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_log = logging.getLogger(__name__)


class TlsFileError(Exception):
    """One of the files cannot be used; `field` is the setting that names it."""

    def __init__(self, field: Literal["ca_file", "cert_file", "key_file"], reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True)
class TlsFiles:
    """Of PEM: authorities in place of the system's, and our certificate with its key, which may
    stand in the same file.
    """

    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None

    def context(self) -> ssl.SSLContext:
        """Raises `TlsFileError`."""
        for field in ("ca_file", "cert_file", "key_file"):
            file: Path | None = getattr(self, field)
            try:
                if file is not None:
                    file.open("rb").close()
            except OSError as error:
                raise TlsFileError(field, f"cannot be read: {error.strerror}") from None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise TlsFileError("ca_file", "has no certificates in PEM") from None
        if self.cert_file is not None:
            self._load_certificate(context, self.cert_file)
        elif self.key_file is not None:
            raise TlsFileError("key_file", "is of no use without CERT_FILE")
        return context

    def _load_certificate(self, context: ssl.SSLContext, cert_file: Path) -> None:
        try:
            # With no password of ours, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert_file, self.key_file, password="")
        except ssl.SSLError as error:
            if not _has_certificate(cert_file):
                raise TlsFileError("cert_file", "has no certificate in PEM") from None
            if error.reason == "KEY_VALUES_MISMATCH":
                reason = "is not the key of the certificate"
            else:
                reason = "has no key in PEM, without a password"
            raise TlsFileError("key_file" if self.key_file else "cert_file", reason) from None

    def versions(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when one of the files does."""
        return tuple(_version(file) for file in (self.ca_file, self.cert_file, self.key_file))


class TlsContext:
    """Makes the context for the next connection: a new one when a file has changed.

    If that cannot be used, the one before stays: certificates are renewed while the service runs,
    and of two files one is always the first.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._versions = files.versions()
        self._context = files.context()

    def __call__(self) -> ssl.SSLContext:
        versions = self._files.versions()
        if versions != self._versions:
            self._versions = versions
            try:
                self._context = self._files.context()
            except TlsFileError as error:
                file = getattr(self._files, error.field)
                _log.warning("%s, what was read of it before is used on", f"{file} {error}")
        return self._context


def _version(file: Path | None) -> tuple[int, int, int] | None:
    try:
        stat = file.stat() if file is not None else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat is not None else None


def _has_certificate(file: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True
