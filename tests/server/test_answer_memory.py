"""The memory of large answers: who has room, who gives it back, and how an answer is sent."""

import asyncio
from collections.abc import Iterable

import pytest
from fastapi.responses import Response
from starlette.types import Message

from app.server.answer_memory import AnswerMemory, LargeAnswer, LargeResponse
from tests.in_process import a_scope, never_disconnecting

pytestmark = pytest.mark.anyio

CHUNK = 65_536


def test_one_answer_has_room_up_to_its_bound() -> None:
    answer = AnswerMemory(1000).begin()
    assert answer.room == 1000
    assert answer.take(600)
    assert answer.room == 400
    assert not answer.take(401)
    assert answer.take(400)
    assert answer.room == 0


def test_an_answer_is_full_as_soon_as_it_was_refused_room_once() -> None:
    answer = AnswerMemory(1000).begin()
    answer.take(1000)
    assert not answer.full
    answer.take(1)
    assert answer.full


@pytest.mark.parametrize("others", [1, 2, 5, 20, 300])
def test_answers_that_take_all_they_can_leave_as_much_for_the_next_one(others: int) -> None:
    memory = AnswerMemory(100_000)
    answers = [memory.begin() for _ in range(others)]
    growing = list(answers)
    while growing:
        growing = [answer for answer in growing if answer.take(1)]
    largest = max(answer.taken for answer in answers)
    assert sum(answer.taken for answer in answers) <= 400_000
    assert memory.begin().room >= min(largest, 100_000) - others


def test_an_answer_that_is_let_go_gives_its_room_back() -> None:
    memory = AnswerMemory(1000)
    answers = [memory.begin() for _ in range(9)]
    for _ in range(100):
        for answer in answers:
            answer.take(10)
    assert memory.begin().room < 500
    answers.clear()
    assert memory.begin().room == 1000


@pytest.mark.parametrize(("answer_max", "small"), [(2**26, 65_536), (1000, 1000), (1, 1)])
def test_small_answers_need_no_room_unless_the_bound_is_below_them(
    answer_max: int, small: int
) -> None:
    assert AnswerMemory(answer_max).small == small


async def test_a_large_response_has_the_head_of_its_response_and_its_own_length() -> None:
    head = Response(status_code=404, headers={"X-One": "1"}, media_type="application/problem+json")
    start, *_ = await messages_of(head, [b"abc", b"de"])
    assert start == {
        "type": "http.response.start",
        "status": 404,
        "headers": [
            (b"x-one", b"1"),
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"5"),
        ],
    }


@pytest.mark.parametrize(
    ("parts", "chunks"),
    [
        ([], []),
        ([1], [1]),
        ([1, 2, 3], [6]),
        ([CHUNK + 1, 5, 6], [CHUNK + 1, 11]),
        ([5, CHUNK, 6], [5, CHUNK, 6]),
        ([CHUNK - 1, 1, 1], [CHUNK, 1]),
    ],
)
async def test_small_parts_are_sent_together_and_large_ones_alone(
    parts: list[int], chunks: list[int]
) -> None:
    _, *body, end = await messages_of(Response(), [b"x" * size for size in parts])
    assert [len(message["body"]) for message in body] == chunks
    assert all(message["more_body"] for message in body)
    assert end == {"type": "http.response.body", "body": b""}


async def test_an_answer_takes_room_until_its_client_has_it() -> None:
    """A server's `send` returns once what was sent before has left."""
    memory = AnswerMemory(10 * CHUNK)
    answer = memory.begin()
    answer.take(3 * CHUNK)
    response = LargeResponse(Response(), answer, [b"x" * CHUNK] * 3)
    taken: list[int] = []

    async def send(message: Message) -> None:
        await asyncio.sleep(1)
        taken.append(answer.taken // CHUNK)

    await response(a_scope("/"), never_disconnecting, send)
    assert taken == [3, 3, 3, 2, 1]


async def messages_of(head: Response, parts: Iterable[bytes]) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    answer: LargeAnswer = AnswerMemory(2**20).begin()
    await LargeResponse(head, answer, parts)(a_scope("/"), never_disconnecting, send)
    return sent
