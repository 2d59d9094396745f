"""The puppet on the package websockets, as a client and as a server: puppet.py URL [CERTIFICATES]

Commands and events are those of puppet.mjs and ws.mjs.
"""

import asyncio
import ssl
import sys

import websockets
from websockets.extensions import permessage_deflate

LIMIT = 64 * 1024 * 1024

strings, certificates = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None


def words(text):
    return text.split(",") if text else None


def deflate(role, text):
    """The factories for "deflate" and parameters as RFC 7692 writes them: "deflate;client_max_window_bits=9"."""
    name, *parameters = text.split(";")
    if name != "deflate":
        return None
    options = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        options[key] = int(value) if value else True
    if role == "client":
        return [permessage_deflate.ClientPerMessageDeflateFactory(**options)]
    return [permessage_deflate.ServerPerMessageDeflateFactory(**options)]


def extensions(socket):
    agreed = getattr(socket, "extensions", None) or getattr(getattr(socket, "protocol", None), "extensions", None)
    return ",".join(extension.name for extension in agreed or [])


class Puppet:
    def __init__(self, master):
        self.master = master
        self.sockets = {}
        self.pieces = {}
        self.servers = []
        self.tasks = set()

    async def say(self, *fields):
        await self.master.send("\t".join(str(field) for field in fields))

    def start(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def watch(self, name, socket):
        self.sockets[name] = socket
        await self.say("open", name, socket.subprotocol or "", extensions(socket))
        try:
            async for message in socket:
                if isinstance(message, str):
                    await self.say("message", name, "text", message.encode().hex())
                else:
                    await self.say("message", name, "binary", message.hex())
        except websockets.ConnectionClosed:
            pass
        await socket.wait_closed()
        code, reason = socket.close_code, socket.close_reason or ""
        await self.say("closed", name, code, reason.encode().hex(), "torn" if code == 1006 else "clean")

    async def connect(self, name, url, protocols, options=""):
        more = {"ssl": ssl.create_default_context(cafile=f"{certificates}/ca.pem")} if url.startswith("wss:") else {}
        try:
            socket = await websockets.connect(
                url, subprotocols=words(protocols), compression=None, extensions=deflate("client", options),
                max_size=LIMIT, ping_interval=None, **more)
        except (OSError, websockets.WebSocketException):
            await self.say("closed", name, 1006, "", "torn")
            return
        self.start(self.watch(name, socket))

    async def listen(self, name, protocols, tls, options=""):
        context, count = None, 0
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{certificates}/localhost.pem", f"{certificates}/localhost.key")

        async def accept(socket):
            nonlocal count
            count += 1
            await self.watch(f"{name}.{count}", socket)

        server = await websockets.serve(
            accept, "127.0.0.1", 0, subprotocols=words(protocols), compression=None,
            extensions=deflate("server", options), max_size=LIMIT, ping_interval=None, ssl=context)
        self.servers.append(server)
        await self.say("listening", name, next(iter(server.sockets)).getsockname()[1])

    async def send(self, name, kind, payload):
        data = bytes.fromhex(payload)
        await self.sockets[name].send(data.decode() if kind == "text" else data)

    async def piece(self, name, kind, payload, more):
        data = bytes.fromhex(payload)
        queue = self.pieces.get(name)
        if queue is None:
            queue = self.pieces[name] = asyncio.Queue()

            async def fragments():
                last = False
                while not last:
                    fragment, last = await queue.get()
                    yield fragment

            self.start(self.sockets[name].send(fragments()))
        queue.put_nowait((data.decode() if kind == "text" else data, more == "last"))
        if more == "last":
            del self.pieces[name]
        await asyncio.sleep(0)

    async def ping(self, name, payload):
        waiter = await self.sockets[name].ping(bytes.fromhex(payload))

        async def pong():
            await waiter
            await self.say("pong", name, payload)

        self.start(pong())

    async def close(self, name, code="1000", reason=""):
        self.start(self.sockets[name].close(int(code), bytes.fromhex(reason).decode()))

    async def tear(self, name):
        self.sockets[name].transport.abort()

    async def obey(self):
        async for message in self.master:
            name, *fields = message.split("\t")
            try:
                await getattr(self, name)(*fields)
            except Exception as error:  # whatever it is, the spec shall hear of it
                await self.say("broken", fields[0], name, error)


async def main():
    async with websockets.connect(strings, compression=None, max_size=LIMIT, ping_interval=None) as master:
        await Puppet(master).obey()


asyncio.run(main())
