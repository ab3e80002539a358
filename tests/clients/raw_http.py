"""HTTP/1.1 over plain sockets of asyncio, as far as the scripts here need it: full control of what is sent, and of when it ends."""

import asyncio
import contextlib
import json
import socket
import struct


class Answer:
    def __init__(self, status, headers, reader, writer):
        self.status, self.headers, self.reader, self.writer = status, headers, reader, writer

    async def pieces(self):
        """The body as it comes."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readline()
        elif "content-length" in self.headers:
            if length := int(self.headers["content-length"]):
                yield await self.reader.readexactly(length)
        else:
            while piece := await self.reader.read(65536):
                yield piece

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])

    async def json(self):
        return json.loads(await self.body())

    async def events(self):
        """The data of each server-sent event: JSON, or the string [DONE]."""
        pending = b""
        async for piece in self.pieces():
            pending += piece
            while (end := pending.find(b"\n\n")) >= 0:
                event, pending = pending[:end], pending[end + 2 :]
                for line in event.decode("utf-8").split("\n"):
                    if line.startswith("data:"):
                        data = line[5:].strip()
                        yield data if data == "[DONE]" else json.loads(data)

    def close(self):
        close(self.writer)


def close(writer):
    with contextlib.suppress(Exception):
        writer.close()


def reset(writer):
    """Ends the connection by a reset instead of an orderly end."""
    with contextlib.suppress(Exception):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def read_answer(reader, writer):
    """The head of an answer. ConnectionError if the connection ends before it."""
    status = await reader.readline()
    if not status:
        raise ConnectionResetError("the connection ended before an answer")
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(int(status.split()[1]), headers, reader, writer)


def request_bytes(path, body=None, method=None, headers=None):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    fields = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + data


async def send(host, port, path, body=None, method=None, headers=None):
    """One request on a connection of its own; the answer's body is still to be read, and close() is the caller's."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request_bytes(path, body, method, headers))
        await writer.drain()
        return await read_answer(reader, writer)
    except BaseException:
        close(writer)
        raise


async def call(host, port, path, body=None, method=None, headers=None):
    """(status, body as JSON or bytes) of one request."""
    answer = await send(host, port, path, body, method, headers)
    try:
        data = await answer.body()
    finally:
        answer.close()
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, data
