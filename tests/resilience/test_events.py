from dataclasses import replace

from app.resilience.call import Call
from app.resilience.events import BreakerStateChanged, Event, Hedging, to_watcher
from tests.fakes import a_call, a_context, a_question


def test_whoever_watches_a_request_hears_of_its_events_and_of_no_others() -> None:
    heard: list[Event] = []
    watched = Call(a_question(), replace(a_context(), watch=heard.append))
    to_watcher(Hedging(watched))
    to_watcher(Hedging(a_call()))
    to_watcher(BreakerStateChanged("posts", 0, "open"))
    assert heard == [Hedging(watched)]
