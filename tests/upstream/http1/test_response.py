"""One response from bytes: which are refused, what it may cost, and that cuts change nothing.

The cases are those of RFC 9112, and of what is published on request smuggling and response
splitting (CWE-444, CWE-113).
"""

import asyncio
import tracemalloc
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.http1.streams import streams
from tests.upstream.http1.wire import Outcome, Wire, every, pieces, run

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_HEAD = 65_536

NOT_HTTP = "RemoteProtocolError: the response is not HTTP"
NOT_HTTP_1 = "RemoteProtocolError: the response is not HTTP/1"
CODING = "RemoteProtocolError: the response has a transfer coding other than chunked"
ENDED = "RemoteProtocolError: the connection ended before the response did"
LARGE = "RemoteProtocolError: the head of the response is too large"
FIELDS = "RemoteProtocolError: the response has too many fields"
ENDLESS = "RemoteProtocolError: the upstream switches protocols, or never comes to its response"


def outcome(loop: asyncio.AbstractEventLoop, *parts: bytes) -> Outcome:
    return run(Wire(loop), parts)[0]


ACCEPTED = {
    "a length": (OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    "a length of 0": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "a length with leading zeros": (OK + b"Content-Length: 0002\r\n\r\nok", b"ok"),
    "chunks": (CHUNKED + b"2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", b"ok!"),
    "chunked in capitals (§7)": (
        OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    "chunked with a space after it (§5)": (
        OK + b"Transfer-Encoding: chunked \r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    "chunk extensions (§7.1.1)": (
        CHUNKED + b'2;a=b;c="d;e";f\r\nok\r\n0;x=y\r\n\r\n',
        b"ok",
    ),
    "trailers (§7.1.2)": (CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nDate: 2\r\n\r\n", b"ok"),
    "a chunk size with leading zeros": (CHUNKED + b"0002\r\nok\r\n000\r\n\r\n", b"ok"),
    "a chunk size in both cases": (CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 2),
    "a body until the end (§6.3)": (OK + b"\r\nok", b"ok"),
    "a body until the end, and close": (OK + b"Connection: close\r\n\r\nok", b"ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "no reason phrase (§4)": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "no reason phrase, nor its space": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "obs-text in a reason (§4)": (b"HTTP/1.1 200 \xe9\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "an upgrade that is only offered": (
        OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
    "100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    "103 Early Hints with fields": (
        b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        b"ok",
    ),
    "a 1xx that names a length (§6.3)": (
        b"HTTP/1.1 103 Early\r\nContent-Length: 7\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        b"ok",
    ),
    "a 1xx that names chunks (§6.3)": (
        b"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_response_is_accepted_with(case: str, unused_loop: asyncio.AbstractEventLoop) -> None:
    stream, body = ACCEPTED[case]
    whole = outcome(unused_loop, stream)
    assert (whole.status, whole.error) == (200, None)
    assert whole.body == (b"0123456789" * body if isinstance(body, int) else body)
    assert outcome(unused_loop, *every(1, stream)) == whole


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_a_204_and_a_304_have_no_body_whatever_they_say(
    status: int, framing: bytes, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """RFC 9112 §6.3."""
    wire = Wire(unused_loop)
    got, _ = run(wire, [b"HTTP/1.1 %d X\r\n%b\r\n" % (status, framing)], eof=False)
    assert (got.status, got.body, got.error) == (status, b"", None)
    assert wire.connection.reusable


@pytest.mark.parametrize("status", [0, 7, 99, 600, 799, 999])
def test_a_status_of_no_class_is_given_as_it_is(
    status: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """RFC 9110 §15: it counts as a 5xx, which is for the reader to say."""
    got = outcome(unused_loop, b"HTTP/1.1 %03d X\r\nContent-Length: 0\r\n\r\n" % status)
    assert (got.status, got.error) == (status, None)


def test_fields_are_as_they_were_sent_without_the_space_around_their_values(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    """RFC 9112 §5.1."""
    got = outcome(
        unused_loop, OK + b'eTag:\t "a" \t\r\nX:\r\nX: \xe9 b \r\nContent-Length:0\r\n\r\n'
    )
    assert got.fields == (
        (b"eTag", b'"a"'),
        (b"X", b""),
        (b"X", b"\xe9 b"),
        (b"Content-Length", b"0"),
    )


def test_fields_of_a_1xx_and_trailers_are_not_those_of_the_response(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    """RFC 9110 §15.2 and §6.5.1."""
    early = b"HTTP/1.1 103 Early\r\nEtag: early\r\n\r\n"
    got = outcome(unused_loop, early + CHUNKED + b"2\r\nok\r\n0\r\nEtag: late\r\n\r\n")
    assert got == Outcome(200, ((b"Transfer-Encoding", b"chunked"),), b"ok", None)


REFUSED = {
    # Where it ends is said twice, or in a way that two recipients read differently.
    "a length beside chunks (§6.3)": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        NOT_HTTP,
    ),
    "chunks beside a length (§6.3)": (
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        NOT_HTTP,
    ),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", NOT_HTTP),
    "two equal lengths (RFC 9110 §8.6)": (
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        NOT_HTTP,
    ),
    "a list of equal lengths (RFC 9110 §8.6)": (OK + b"Content-Length: 2, 2\r\n\r\nok", NOT_HTTP),
    "an empty length": (OK + b"Content-Length: \r\n\r\nok", NOT_HTTP),
    "a length with a sign": (OK + b"Content-Length: +2\r\n\r\nok", NOT_HTTP),
    "a negative length": (OK + b"Content-Length: -2\r\n\r\nok", NOT_HTTP),
    "a length in hexadecimal": (OK + b"Content-Length: 0x2\r\n\r\nok", NOT_HTTP),
    "a length with an underscore": (OK + b"Content-Length: 1_0\r\n\r\nok", NOT_HTTP),
    "a length with a space within": (OK + b"Content-Length: 1 0\r\n\r\nok", NOT_HTTP),
    "a length with a fraction": (OK + b"Content-Length: 2.0\r\n\r\nok", NOT_HTTP),
    "a length beyond 64 bits": (OK + b"Content-Length: 18446744073709551618\r\n\r\nok", NOT_HTTP),
    "a length in other digits": (OK + b"Content-Length: \xd9\xa2\r\n\r\nok", NOT_HTTP),
    "another transfer coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nok", CODING),
    "another transfer coding before chunked": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    "another transfer coding after chunked": (
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    "identity": (OK + b"Transfer-Encoding: identity\r\nConnection: close\r\n\r\nok", CODING),
    "almost chunked": (OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", CODING),
    "chunked in quotes": (OK + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', CODING),
    "chunked with a tab after it": (OK + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", CODING),
    "chunked with a vertical tab": (
        OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        NOT_HTTP,
    ),
    "chunked twice in two fields (§6.1)": (
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    "chunked twice in one field (§6.1)": (
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    "an empty transfer coding": (OK + b"Transfer-Encoding:\r\n\r\nok", NOT_HTTP),
    "chunked on the next line": (OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
    "chunks in HTTP/1.0 (§6.1)": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "RemoteProtocolError: the response has chunks in HTTP/1.0",
    ),
    # Lines and fields
    "obs-fold (§5.2)": (OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "obs-fold with a tab (§5.2)": (OK + b"A: b\r\n\tc\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "space before the first field (§2.2)": (OK + b" A: b\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "space before a colon (§5.1)": (OK + b"Content-Length : 0\r\n\r\n", NOT_HTTP),
    "a tab before a colon (§5.1)": (OK + b"Content-Length\t: 0\r\n\r\n", NOT_HTTP),
    "space in a name": (OK + b"Content Length: 0\r\n\r\n", NOT_HTTP),
    "no name": (OK + b": b\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "no colon": (OK + b"Content-Length\r\n\r\n", NOT_HTTP),
    "obs-text in a name": (OK + b"A\xe9: b\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "NUL in a name": (OK + b"A\0: b\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "NUL in a value (RFC 9110 §5.5)": (OK + b"A: b\0\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "bare CR in a value (RFC 9110 §5.5)": (OK + b"A: b\rc\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "bare CR before a hidden field": (OK + b"A: b\rContent-Length: 0\r\n\r\n", NOT_HTTP),
    "bare LF after a field": (OK + b"A: b\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "bare LF before the body": (OK + b"Content-Length: 2\r\n\nok", NOT_HTTP),
    "bare LF after the status line": (b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "bare CR after the status line": (b"HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n", NOT_HTTP),
    "DEL in a value": (OK + b"A: \x7f\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "ESC in a value": (OK + b"A: \x1b[2J\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    # Chunks
    "no chunk size": (CHUNKED + b"\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "no chunk size before an extension": (CHUNKED + b";a\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size with 0x": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size with a sign": (CHUNKED + b"+2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a negative chunk size": (CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size with an underscore": (CHUNKED + b"2_\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size with space before": (CHUNKED + b" 2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size with space after": (CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a chunk size beyond 64 bits": (CHUNKED + b"10000000000000002\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "bare LF after a chunk size": (CHUNKED + b"2\nok\r\n0\r\n\r\n", NOT_HTTP),
    "bare CR after a chunk size": (CHUNKED + b"2\rok\r\n0\r\n\r\n", NOT_HTTP),
    "bare LF in a chunk extension": (CHUNKED + b"2;a\nok\r\n0\r\n\r\n", NOT_HTTP),
    "CRLF in a quoted chunk extension": (CHUNKED + b'2;a="\r\nok\r\n0\r\n\r\n', NOT_HTTP),
    "an empty chunk extension": (CHUNKED + b"2;\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "a last chunk with bare LF": (CHUNKED + b"0\n\n", NOT_HTTP),
    "a trailer with obs-fold": (CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n", NOT_HTTP),
    "a trailer with space before its colon": (CHUNKED + b"0\r\nA : b\r\n\r\n", NOT_HTTP),
    "a length in a trailer (§6.5.1)": (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", NOT_HTTP),
    "a coding in a trailer (§6.5.1)": (
        CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        CODING,
    ),
    # The status line
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP_1),
    "HTTP/0.9 as it was": (b"<p>Hello</p>", NOT_HTTP),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "HTTP/1.10": (b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP_1),
    "HTTP/2 frames": (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80", NOT_HTTP),
    "a TLS alert": (b"\x15\x03\x01\0\x02\x02\x0a", NOT_HTTP),
    "ICY": (b"ICY 200 OK\r\n\r\nok", NOT_HTTP),
    "ICE/1.0": (b"ICE/1.0 200 OK\r\n\r\nok", NOT_HTTP),
    "RTSP/1.0": (b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a request": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", NOT_HTTP),
    "http in lower case": (b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a tab before the status": (b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a status of four digits": (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a status with a sign": (b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "a status with a letter": (b"HTTP/1.1 2O0 OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "no space before the reason": (b"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
    "an empty line before it": (b"\r\n" + OK + b"Content-Length: 0\r\n\r\n", NOT_HTTP),
    "a bare LF before it": (b"\n" + OK + b"Content-Length: 0\r\n\r\n", NOT_HTTP),
    "space before it": (b" " + OK + b"Content-Length: 0\r\n\r\n", NOT_HTTP),
    "a BOM before it": (b"\xef\xbb\xbf" + OK + b"Content-Length: 0\r\n\r\n", NOT_HTTP),
    # 1xx
    "101 with an upgrade": (
        b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        ENDLESS,
    ),
    "101 without an upgrade": (b"HTTP/1.1 101 S\r\n\r\n", ENDLESS),
    "nine 1xx": (b"HTTP/1.1 102 P\r\n\r\n" * 9 + OK + b"Content-Length: 0\r\n\r\n", ENDLESS),
    "a 1xx of HTTP/1.0": (
        b"HTTP/1.0 100 C\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        NOT_HTTP,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_response_is_refused_with(case: str, unused_loop: asyncio.AbstractEventLoop) -> None:
    stream, error = REFUSED[case]
    wire = Wire(unused_loop)
    whole, _ = run(wire, [stream], eof=False)
    assert whole.error == error
    assert wire.transport.aborted
    assert not wire.connection.reusable
    assert outcome(unused_loop, *every(1, stream)) == whole


CUT_SHORT = {
    "nothing": b"",
    "a part of the status line": b"HTTP/1.1 20",
    "a part of the head": OK + b"Content-Length: 2\r\n",
    "a 1xx alone": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a part of the body": OK + b"Content-Length: 3\r\n\r\nok",
    "no body": OK + b"Content-Length: 3\r\n\r\n",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "a part of a chunk": CHUNKED + b"3\r\nok",
    "a part of the trailers": CHUNKED + b"2\r\nok\r\n0\r\nA: b\r\n",
    "a last chunk without its empty line": CHUNKED + b"2\r\nok\r\n0\r\n",
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_a_response_that_ends_early_is_an_error_after(
    case: str, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """RFC 9112 §8."""
    stream = CUT_SHORT[case]
    whole = outcome(unused_loop, stream)
    assert whole.error == ENDED
    assert outcome(unused_loop, *every(1, stream)) == whole


def head_of(size: int) -> bytes:
    """A head of exactly `size` bytes."""
    start, end = OK + b"Content-Length: 0\r\nA: ", b"\r\n\r\n"
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("cut", [1, 7, 4096, MAX_HEAD - 1, MAX_HEAD, 2 * MAX_HEAD])
def test_a_head_may_have_64_kib_and_no_byte_more_however_it_is_cut(
    cut: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    fits = outcome(unused_loop, *every(cut, head_of(MAX_HEAD)))
    assert (fits.status, fits.error) == (200, None)
    assert outcome(unused_loop, *every(cut, head_of(MAX_HEAD + 1))).error == LARGE


@pytest.mark.parametrize("cut", [1, 4096, 2 * MAX_HEAD])
def test_heads_of_1xx_count_with_that_of_the_response(
    cut: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    early = b"HTTP/1.1 103 Early\r\n\r\n"
    stream = early + head_of(MAX_HEAD - len(early))
    assert outcome(unused_loop, *every(cut, stream)).error is None
    assert outcome(unused_loop, *every(cut, early + head_of(MAX_HEAD))).error == LARGE


@pytest.mark.parametrize("cut", [1, 4096, 2 * MAX_HEAD])
def test_a_body_in_the_same_read_as_its_head_does_not_count(
    cut: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    body = b"b" * 3 * MAX_HEAD
    head = head_of(MAX_HEAD).replace(b"Content-Length: 0", b"Content-Length: %d" % len(body), 1)
    got = outcome(unused_loop, *every(cut, head.replace(b"aaaaaa", b"", 1) + body))
    assert (got.error, got.body) == (None, body)


@pytest.mark.parametrize("cut", [1, 1000, 65_536])
def test_a_response_may_have_256_fields_and_as_many_trailers(
    cut: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    def answer(fields: int, trailers: int) -> str | None:
        head = OK + b"A: b\r\n" * (fields - 1) + b"Transfer-Encoding: chunked\r\n\r\n"
        stream = head + b"0\r\n" + b"A: b\r\n" * trailers + b"\r\n"
        return outcome(unused_loop, *every(cut, stream)).error

    assert answer(256, 256) is None
    assert answer(257, 0) == FIELDS
    assert answer(1, 257) == FIELDS


ENDLESS_STREAMS = {
    "a status line": (b"HTTP/1.1 200 ", b"a"),
    "the name of a field": (OK, b"a"),
    "the value of a field": (OK + b"A: ", b"a"),
    "space before a value": (OK + b"A:", b" "),
    "fields": (OK, b"A: b\r\n"),
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a 1xx": (b"HTTP/1.1 100 Continue\r\nA: ", b"a"),
    "a chunk size": (CHUNKED, b"0"),
    "a chunk extension": (CHUNKED + b"5;a=", b"a"),
    "the name of a trailer": (CHUNKED + b"2\r\nok\r\n0\r\n", b"a"),
    "the value of a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nA: ", b"a"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"A: b\r\n"),
}


@pytest.mark.parametrize("read", [100, 65_536])
@pytest.mark.parametrize("case", ENDLESS_STREAMS)
def test_there_is_an_end_to_what_never_ends(
    case: str, read: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    start, again = ENDLESS_STREAMS[case]
    wire = Wire(unused_loop)
    fed = 0

    def stream() -> bytes:
        nonlocal fed
        fed += read
        return (again * (read // len(again) + 1))[:read]

    tracemalloc.start()
    try:
        got, _ = run(
            wire,
            chain(
                [start],
                (stream() for _ in iter(lambda: wire.transport.aborted or fed > 10**6, True)),
            ),
            eof=False,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got.error is not None
    assert fed <= 2 * MAX_HEAD
    assert peak < 2**20


def test_what_frames_chunks_is_bounded_between_two_bytes_of_the_body_not_in_all(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    chunk = b"0" * 60_000 + b"1\r\nx\r\n"
    got = outcome(unused_loop, CHUNKED, *repeat(chunk, 20), b"0\r\n\r\n")
    assert (got.error, got.body) == (None, b"x" * 20)


@given(stream=streams(), cuts=st.lists(st.integers(1, 400), max_size=12), eof=st.booleans())
def test_the_result_is_the_same_however_the_stream_is_cut(
    stream: bytes, cuts: list[int], eof: bool, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """Except which of two reasons to refuse it is found first."""

    def result(parts: list[bytes]) -> Outcome:
        got, _ = run(Wire(unused_loop), parts, eof=eof)
        return got._replace(error=got.error and got.error.partition(":")[0])

    whole = result([stream])
    assert result(pieces(stream, cuts)) == whole
    assert result(every(1, stream)) == whole
