"""Byte streams against connections: `python -m tests.upstream.http1.fuzz --streams 200000`.

Each is a response as it should be, one that was changed in a few places, or any bytes; several come
one after another on one connection, as long as it may be used again. Whatever they are: nothing
hangs, nothing fails but with an error of httpx's, a response that is as it should be is given as it
is, and no byte of one is ever in another.
"""

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from time import perf_counter

from tests.upstream.http1.streams import mutated, response
from tests.upstream.http1.wire import Outcome, Wire, pieces, run

_MARKS = [bytes([byte]) for byte in range(0x80, 0xE0)]
"""One for each exchange on a connection; nothing else in a stream has these bytes."""
_ERRORS = ("RemoteProtocolError", "ReadError", "StaleConnectionError")


def fuzz(streams: int, seed: int) -> Counter[str]:
    """How many streams ended how. Raises `AssertionError` with the seed of what went wrong."""
    counts: Counter[str] = Counter()
    with closing(asyncio.new_event_loop()) as loop:
        connection = 0
        while counts.total() < streams:
            connection += 1
            chance = random.Random(f"{seed} {connection}")
            try:
                counts.update(_use_one_connection(loop, chance))
            except Exception as error:
                raise AssertionError(f"connection {connection} of seed {seed}") from error
    return counts


def _use_one_connection(loop: asyncio.AbstractEventLoop, chance: random.Random) -> Iterable[str]:
    wire = Wire(loop)
    for exchange, mark in enumerate(_MARKS):
        sample = response(chance, mark)
        kind = chance.choice(["good", "good", "mutated", "mutated", "arbitrary"])
        match kind:
            case "good":
                stream = sample.stream
            case "mutated":
                stream = mutated(chance, sample.stream, mark)
            case _:
                stream = bytes(chance.randrange(128) for _ in range(chance.randint(1, 80)))
        cuts = [chance.randint(0, len(stream)) for _ in range(chance.choice([0, 1, 3, 20]))]
        eof = sample.ends_with_connection or chance.random() < 0.3
        got, unread = run(wire, pieces(stream, cuts), eof=eof)
        _check(got, mark, exchange)
        if kind == "good":
            assert got.error is None
            assert got.body == sample.body
        if exchange == 0:
            _check_cuts(loop, chance, stream, got, eof=eof)
        answered = "answered" if wire.connection.finish() else "waits"
        yield f"{kind}: {got.error.partition(':')[0] if got.error else answered}"
        if not wire.connection.reusable or unread:
            wire.connection.abort()
            return
        if chance.random() < 0.2:  # something comes while nobody asks
            wire.receive(mark)
            assert not wire.connection.reusable
            return


def _check(got: Outcome, mark: bytes, exchange: int) -> None:
    if got.error is not None:
        assert got.error.startswith(_ERRORS), got.error
        assert exchange or not got.error.startswith("StaleConnectionError")
    foreign = b"".join(_MARKS).replace(mark, b"")
    for text in (got.body, *(value for _, value in got.fields)):
        assert len(text.translate(None, foreign)) == len(text), "of another response"


def _check_cuts(
    loop: asyncio.AbstractEventLoop,
    chance: random.Random,
    stream: bytes,
    got: Outcome,
    *,
    eof: bool,
) -> None:
    cuts = [chance.randint(0, len(stream)) for _ in range(10)]
    other, _ = run(Wire(loop), pieces(stream, cuts), eof=eof)
    assert other[:3] == got[:3], "cut elsewhere, it is another"
    assert (other.error is None) is (got.error is None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = perf_counter()
    counts = fuzz(arguments.streams, arguments.seed)
    seconds = perf_counter() - began
    for outcome, count in counts.most_common():
        print(f"{count:8,}  {outcome}")
    print(f"{counts.total():8,}  streams in {seconds:.1f} s")


if __name__ == "__main__":
    main()
