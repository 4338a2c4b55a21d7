"""Installs what `package-lock.json` names; Go and Maven fetch what they need by themselves."""

from conformance.commands import HERE, missing, run


def install() -> None:
    """Like `npm ci`, but only if the lock is newer; without npm, nothing."""
    lock, stamp = HERE / "package-lock.json", HERE / "node_modules/.package-lock.json"
    current = stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime
    if not current and not missing("npm"):
        run("npm ci", HERE)
