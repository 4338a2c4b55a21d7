"""The log writer: lines get out in order, and no reader of them can delay or break anything."""

import os
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from app.telemetry import log_writer
from app.telemetry.log_writer import LogWriter

PIPE_BUFFER = 65_536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:  # a test closed it
            pass


def all_of(reader: int) -> bytes:
    data = b""
    while chunk := os.read(reader, 1 << 20):
        data += chunk
    return data


def test_log_lines_are_written_in_order_and_all_of_them_at_close(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    writer = LogWriter(descriptor)
    for n in range(1000):
        writer.write(f"line {n}")
    writer.close(10)
    os.close(descriptor)
    assert all_of(reader).decode().splitlines() == [f"line {n}" for n in range(1000)]
    assert writer.dropped == 0


def test_a_log_reader_that_is_gone_raises_nothing_and_lines_are_counted_as_dropped(
    pipe: tuple[int, int],
) -> None:
    reader, descriptor = pipe
    os.close(reader)
    writer = LogWriter(descriptor)
    writer.write("nobody reads this")
    writer.close(10)
    assert writer.dropped == 1


def test_a_full_disk_raises_nothing_and_lines_are_counted_as_dropped() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(descriptor)
    writer.write("there is no room for this")
    writer.close(10)
    os.close(descriptor)
    assert writer.dropped == 1


def test_a_paused_log_reader_delays_no_writer_and_finds_out_how_many_lines_were_dropped(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, descriptor = pipe
    monkeypatch.setattr(log_writer, "_MAX_BYTES", 4 * PIPE_BUFFER)
    writer = LogWriter(descriptor)
    line = "x" * 1023
    start = time.perf_counter()
    for _ in range(1000):
        writer.write(line)
    assert time.perf_counter() - start < 1
    assert 0 < writer.dropped < 1000
    read: list[bytes] = []
    resumed = Thread(target=lambda: read.append(all_of(reader)))
    resumed.start()
    writer.close(10)
    os.close(descriptor)
    resumed.join(10)
    *lines, last = read[0].decode().splitlines()
    assert lines.count(line) == 1000 - writer.dropped
    assert f'"lines":{writer.dropped}' in last
    assert "log lines dropped" in last


def test_close_does_not_wait_longer_than_it_may_for_a_paused_log_reader(
    pipe: tuple[int, int],
) -> None:
    reader, descriptor = pipe
    writer = LogWriter(descriptor)
    writer.write("x" * 2 * PIPE_BUFFER)
    start = time.perf_counter()
    writer.close(0.1)
    assert time.perf_counter() - start < 1
    all_read = Thread(target=all_of, args=[reader])
    all_read.start()
    writer.close(10)
    os.close(descriptor)
    all_read.join(10)


def test_a_line_that_is_not_unicode_is_written_all_the_same(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    writer = LogWriter(descriptor)
    writer.write("lone \udcff surrogate")
    writer.close(10)
    os.close(descriptor)
    assert all_of(reader) == b"lone \\udcff surrogate\n"
