"""Replies that are broken: each breaks the response to a request for posts in its own way."""

import asyncio
import gzip
import json
import struct
import zlib
from functools import cache

from tests.service.replies import SECRET, head, never, posts, respond_with
from tests.service.upstream import Exchange, Reply

_POSTS = json.dumps(posts(1)).encode()
_HEAD = head(content_length=len(_POSTS))
_PAUSE = 0.05
"""Seconds between two bytes: no single read waits long, and yet the response takes far too long."""


async def _drip(exchange: Exchange, data: bytes) -> None:
    for byte in data:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(_PAUSE)


async def dripping_body(exchange: Exchange) -> None:
    await exchange.send(_HEAD)
    await _drip(exchange, _POSTS)


async def dripping_head(exchange: Exchange) -> None:
    await _drip(exchange, _HEAD + _POSTS)


async def closed_at_once(exchange: Exchange) -> None:
    exchange.close()


async def truncated(exchange: Exchange) -> None:
    """The bytes sent are valid JSON: only the `Content-Length` shows that some are missing."""
    await exchange.send(head(content_length=len(_POSTS) + 10) + _POSTS)
    exchange.close()


async def reset_in_body(exchange: Exchange) -> None:
    await exchange.send(_HEAD + _POSTS[:50])
    await asyncio.sleep(_PAUSE)  # a reset also discards what the peer has not read yet
    exchange.reset()


async def garbage(exchange: Exchange) -> None:
    """Not HTTP. The connection stays open: the client must not wait for more to notice."""
    await exchange.send(b"\x16\x03\x01" + SECRET.encode() + b"\r\n\r\n")
    await never(exchange)


async def two_content_lengths(exchange: Exchange) -> None:
    await exchange.send(head(content_length=f"{len(_POSTS)}\r\nContent-Length: 2") + _POSTS)


async def too_many_headers(exchange: Exchange) -> None:
    headers = {f"x_flood_{n}": SECRET for n in range(5000)}
    await exchange.send(head(content_length=len(_POSTS), **headers) + _POSTS)


async def no_content(exchange: Exchange) -> None:
    await exchange.send(head("204 No Content"))


async def endless_chunks(exchange: Exchange) -> None:
    """1 GiB in chunks, all from one buffer."""
    spaces = b" " * 65536
    chunk = b"%x\r\n%b\r\n" % (len(spaces), spaces)
    await exchange.send(head(transfer_encoding="chunked"))
    for _ in range(2**30 // len(spaces)):
        await exchange.send(chunk)
    await exchange.send(b"0\r\n\r\n")


def gzip_bomb(mebibytes: int) -> Reply:
    """A small body that decompresses to so many MiB of zeros."""

    async def reply(exchange: Exchange) -> None:
        body = gzipped_zeros(mebibytes)
        await respond_with(body, content_encoding="gzip")(exchange)

    return reply


@cache
def gzipped_zeros(mebibytes: int) -> bytes:
    """So many MiB of zeros as gzip (RFC 1952), made without ever having all of them in memory.

    A full flush resets the compressor, so equal blocks become equal bytes and only one of them has
    to be compressed. With blocks this large, 1 GiB stays below 1 MiB, the default body limit.
    """
    block = bytes(2**22)
    times = mebibytes * 2**20 // len(block)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    compressed_block = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-zlib.MAX_WBITS).flush()
    checksum = 0
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    trailer = struct.pack("<II", checksum, mebibytes * 2**20 % 2**32)
    return gzip.compress(b"")[:10] + compressed_block * times + last + trailer


def with_post(**fields: object) -> Reply:
    """Three good posts, and a copy of the first with these `fields` replaced."""
    return respond_with(json.dumps([*posts(1), {**posts(1)[0], **fields}]).encode())


def post_with_id(number: bytes) -> Reply:
    return respond_with(b'[{"userId":1,"id":%b,"title":"t","body":"b"}]' % number)
