"""All the ways in which an upstream breaks its answer to a request for posts."""

import asyncio
import gzip
import json
import struct
import zlib
from functools import cache

from tests.service.replies import SECRET, head, never, posts, saying
from tests.service.upstream import Exchange, Reply

_POSTS = json.dumps(posts(1)).encode()
_HEAD = head(content_length=len(_POSTS))
_NOW_AND_THEN = 0.05  # seconds: no read waits long, and yet the whole takes far too long


async def _drip(exchange: Exchange, data: bytes) -> None:
    for byte in data:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(_NOW_AND_THEN)


async def drips(exchange: Exchange) -> None:
    await exchange.send(_HEAD)
    await _drip(exchange, _POSTS)


async def slow_head(exchange: Exchange) -> None:
    await _drip(exchange, _HEAD + _POSTS)


async def closes_at_once(exchange: Exchange) -> None:
    exchange.close()


async def truncated(exchange: Exchange) -> None:
    """What comes is good JSON: nothing but the missing length tells that it is not all."""
    await exchange.send(head(content_length=len(_POSTS) + 10) + _POSTS)
    exchange.close()


async def resets_in_the_body(exchange: Exchange) -> None:
    await exchange.send(_HEAD + _POSTS[:50])
    await asyncio.sleep(_NOW_AND_THEN)  # a reset also destroys what was not read yet
    exchange.reset()


async def garbage(exchange: Exchange) -> None:
    """The connection stays open: nobody needs to wait to see that this is not HTTP."""
    await exchange.send(b"\x16\x03\x01" + SECRET.encode() + b"\r\n\r\n")
    await never(exchange)


async def two_lengths(exchange: Exchange) -> None:
    await exchange.send(head(content_length=f"{len(_POSTS)}\r\nContent-Length: 2") + _POSTS)


async def header_flood(exchange: Exchange) -> None:
    flood = {f"x_flood_{n}": SECRET for n in range(5000)}
    await exchange.send(head(content_length=len(_POSTS), **flood) + _POSTS)


async def no_content(exchange: Exchange) -> None:
    await exchange.send(head("204 No Content"))


async def endless(exchange: Exchange) -> None:
    """1 GiB in chunks, all from one buffer."""
    spaces = b" " * 65536
    chunk = b"%x\r\n%b\r\n" % (len(spaces), spaces)
    await exchange.send(head(transfer_encoding="chunked"))
    for _ in range(2**30 // len(spaces)):
        await exchange.send(chunk)
    await exchange.send(b"0\r\n\r\n")


def bomb(mebibytes: int) -> Reply:
    """A body of zeros which is small only as long as nobody decompresses it."""

    async def reply(exchange: Exchange) -> None:
        body = zeros(mebibytes)
        await saying(body, content_encoding="gzip")(exchange)

    return reply


@cache
def zeros(mebibytes: int) -> bytes:
    """So many MiB of zeros as gzip (RFC 1952), without ever having all of them in memory.

    A full flush makes the compressor forget, so equal blocks become equal bytes and one of them
    has to be compressed. Blocks this large keep 1 GiB below 1 MiB, the most that a body may have.
    """
    block = bytes(2**22)
    times = mebibytes * 2**20 // len(block)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    once = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-zlib.MAX_WBITS).flush()
    check = 0
    for _ in range(times):
        check = zlib.crc32(block, check)
    length = mebibytes * 2**20 % 2**32
    return gzip.compress(b"")[:10] + once * times + last + struct.pack("<II", check, length)


def with_post(**fields: object) -> Reply:
    """Three good posts, and one more of which `fields` are different."""
    return saying(json.dumps([*posts(1), {**posts(1)[0], **fields}]).encode())


def only_post(number: bytes) -> Reply:
    return saying(b'[{"userId":1,"id":%b,"title":"t","body":"b"}]' % number)
