"""The order of the layers. This file is the one place that knows it."""

from functools import reduce

from app.resilience.call import Fetch, Layer
from app.resilience.events import Emit
from app.resilience.limit import Bulkhead, limit
from app.resilience.observe import observe
from app.resilience.timeout import timeout


def pipeline(send: Fetch, *, attempt_timeout: float, bulkhead: Bulkhead, emit: Emit) -> Fetch:
    """Wrap `send`, one exchange with one upstream, into a call that survives. Outermost first.

    Each layer that waits ends its waiting at the call's deadline, so none stands around them all.
    """
    layers: list[Layer] = [
        limit(bulkhead),  # queueing is our delay: outside the attempt's time and count
        observe(emit),  # above timeout, so that time-outs are told too
        timeout(attempt_timeout),  # around one exchange alone
    ]
    return reduce(lambda fetch, layer: layer(fetch), reversed(layers), send)
