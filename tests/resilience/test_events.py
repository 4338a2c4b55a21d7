from dataclasses import replace

from app.call import Call, Event
from app.resilience.events import BreakerStateChanged, Hedging, emit_to_watcher
from tests.fakes import a_call, a_context, a_question


def test_whoever_watches_a_request_hears_of_its_events_and_of_no_others() -> None:
    heard: list[Event] = []
    watched = Call(a_question(), replace(a_context(), watch=heard.append))
    emit_to_watcher(Hedging(watched))
    emit_to_watcher(Hedging(a_call()))
    emit_to_watcher(BreakerStateChanged("posts", 0, "open"))
    assert heard == [Hedging(watched)]
