"""What the layers tell to whoever watches. Values only: telemetry never touches the core."""

from collections.abc import Callable
from dataclasses import dataclass

from app.errors import Failure
from app.resilience.call import Call


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One exchange is over, well (`failure` is None) or not; `seconds` it took."""

    call: Call
    seconds: float
    failure: Failure | None


Emit = Callable[[AttemptEnded], None]
