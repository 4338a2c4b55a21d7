"""Which of the representations of an answer a client wants (RFC 9110 §12.5.1)."""

from fastapi import Request

_JSON = "application/json"


def prefers(request: Request, media_type: str) -> bool:
    """Whether the client names `media_type`, and does not like JSON better."""
    headers = request.scope["headers"]
    lines = [value.decode("latin-1").lower() for name, value in headers if name == b"accept"]
    if not any(media_type in line for line in lines):
        return False  # so most requests end here
    weights = dict(_weighed(item) for line in lines for item in line.split(","))
    wanted = weights.get(media_type, 0.0)
    if _JSON in weights:
        return wanted > weights[_JSON]
    return wanted > 0 and wanted >= weights.get("application/*", weights.get("*/*", 0.0))


def _weighed(item: str) -> tuple[str, float]:
    """A media range and its weight; one that cannot be read is none."""
    media_range, *parameters = (part.strip() for part in item.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0
