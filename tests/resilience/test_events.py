from dataclasses import replace

from app.call import Call, Event
from app.resilience.events import BreakerStateChanged, Hedging, emit_to_watcher
from tests.fakes import a_call, a_context, a_question


def test_events_of_a_request_and_no_others_are_emitted_to_its_watcher(events: list[Event]) -> None:
    watched = Call(a_question(), replace(a_context(), watch=events.append))
    emit_to_watcher(Hedging(watched))
    emit_to_watcher(Hedging(a_call()))
    emit_to_watcher(BreakerStateChanged("posts", 0, "open"))
    assert events == [Hedging(watched)]
