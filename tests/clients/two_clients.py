"""Two agents talk through the service with the `websockets` library, a client written by others.

Reads its task as one line of JSON from standard input (third_party_clients.rs writes it). Exits 0 if everything went as the
protocol says; otherwise 1, after a message that names the step, what was expected, and what both clients had received.

Every wait is for an event, with a limit. A frame that no step has asked for is a failure too.
"""

import asyncio
import json
import re
import signal
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

EVENT_LIMIT_SECONDS = 60
STEP_LIMIT_SECONDS = 120
SCRIPT_LIMIT_SECONDS = 240

MESSAGE_KEYS = (
    "id message_scope channel_id thread_id sender_agent_id body_text body_rendered_html metadata_json created_at "
    "edited_at deleted_at deleted_by_agent_id sender_name sender_chat_handle"
).split()


class Failure(Exception):
    """Something went otherwise than the protocol says."""


class Client:
    """One socket: collects what arrives and hands it out by type."""

    all = []

    def __init__(self, label, socket):
        self.label = label
        self.socket = socket
        self.received = []
        self.untaken = []
        self.close_code = None
        self.news = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())
        Client.all.append(self)

    @classmethod
    async def open(cls, label, url, **options):
        # A proxy that the environment names has no business here.
        socket = await connect(url, proxy=None, max_size=None, open_timeout=EVENT_LIMIT_SECONDS, ping_interval=None, **options)
        return cls(label, socket)

    async def _read(self):
        try:
            async for data in self.socket:
                frame = json.loads(data) if isinstance(data, str) else {"type": "(binary)", "bytes": len(data)}
                async with self.news:
                    self.received.append(frame)
                    self.untaken.append(frame)
                    self.news.notify_all()
        except ConnectionClosed:
            pass
        async with self.news:
            self.close_code = self.socket.close_code
            self.news.notify_all()

    async def send(self, event_type, **fields):
        await self.socket.send(json.dumps({"type": event_type, **fields}, ensure_ascii=False))

    async def take(self, event_type, **expected):
        """Waits for the oldest frame of this type that was not taken yet, and checks the named fields."""

        def oldest(*types):
            return next((frame for frame in self.untaken if frame.get("type") in types), None)

        what = f"{event_type} with {expected}"
        await self._until(lambda: oldest(event_type, "error", "auth.failed") or self.close_code, what)
        frame = oldest(event_type)
        if frame is None:
            refused = oldest("error", "auth.failed")
            found = refused or f"a close with {self.close_code}"
            raise Failure(f"{self.label} waited for {what}, and was sent {found}")
        self.untaken.remove(frame)
        for key, value in expected.items():
            check_equal(f"{self.label}: {key} of {event_type}", frame.get(key, "(missing)"), value)
        return frame

    async def closed_by_server(self):
        """Waits for the server to close and returns its code."""
        await self._until(lambda: self.close_code, "a close from the server")
        return self.close_code

    async def close(self):
        await self.socket.close()
        await self.reader

    async def round_trip(self):
        """What the service sent to this socket before now has been received when this returns."""
        await self.send("ping")
        await self.take("pong")

    async def _until(self, condition, what):
        try:
            async with self.news:
                await asyncio.wait_for(self.news.wait_for(condition), EVENT_LIMIT_SECONDS)
        except asyncio.TimeoutError:
            raise Failure(f"{self.label} waited {EVENT_LIMIT_SECONDS} s in vain for {what}") from None


def check(condition, failure):
    if not condition:
        raise Failure(failure)


def check_equal(what, found, expected):
    check(found == expected, f"{what}: expected {expected!r}, found {found!r}")


def nothing_left(*clients):
    for client in clients:
        check(not client.untaken, f"{client.label} received an unexpected event: {client.untaken}")


class Conversation:
    """Everything the steps need; a step is a method, run in the order of `STEPS`."""

    def __init__(self, task):
        self.url = task["url"]
        self.ann, self.bob = task["agents"]
        self.channel = task["channel_id"]
        self.thread = task["thread_id"]
        self.foreign_channel = task["foreign_channel_id"]
        self.foreign_thread = task["foreign_thread_id"]
        self.disabled_thread = task["disabled_thread_id"]
        self.max_length = task["max_message_length"]
        self.messages_each = task["messages_each"]
        self.last_channel_message = 0
        self.a = self.b = None

    async def authenticate(self, client, agent, online):
        await client.send("auth", token=agent["token"])
        await client.take(
            "auth.ok", agent_id=agent["id"], name=agent["name"], role=agent["role"], online_agent_ids=sorted(online)
        )

    async def connecting(self):
        self.a = await Client.open("A", self.url)
        # The browser's client may add a query, and sends an Origin; the library offers compression by itself.
        self.b = await Client.open(
            "B", self.url + "?v=1", origin=self.url.replace("ws://", "http://").split("/ws")[0]
        )
        for client in (self.a, self.b):
            check(client.socket.subprotocol is None, f"{client.label}: a subprotocol was agreed on")
            extensions = client.socket.response.headers.get("Sec-WebSocket-Extensions")
            check(extensions is None, f"{client.label}: an extension was agreed on: {extensions}")

    async def before_authentication(self):
        for event in ("ping", "chat.typing", "no.such.event"):
            await self.a.send(event, channel_id=self.channel)
            await self.a.take("auth.failed", message="Authenticate before sending chat events")
        stranger = await Client.open("stranger", self.url)
        await stranger.send("auth", token="not.a.token")
        await stranger.take("auth.failed", message="Invalid or expired token")
        check_equal("close code after a wrong token", await stranger.closed_by_server(), 4401)
        nothing_left(stranger)

    async def authentication_and_presence(self):
        await self.authenticate(self.a, self.ann, [self.ann["id"]])
        await self.authenticate(self.b, self.bob, [self.ann["id"], self.bob["id"]])
        await self.a.take("presence.updated", agent_id=self.bob["id"], online=True)

    async def ping(self):
        for client in (self.a, self.b):
            await client.send("ping", ref="p-1")
            pong = await client.take("pong", ref="p-1")
            check(isinstance(pong.get("time"), int), f"pong without a time: {pong}")
            check(abs(pong["time"] - time.time()) < 60, f"pong with another time than ours: {pong}")

    async def channel_message(self):
        await self.a.send("chat.channel.message.send", channel_id=self.channel, body="  Grüße & <b>Küsse</b> 🙂  ")
        for client in (self.a, self.b):
            frame = await client.take("chat.channel.message.created")
            message = frame["message"]
            check_equal("columns of a message", list(message), MESSAGE_KEYS)
            check(isinstance(message["id"], int) and message["id"] > 0, f"id of a message: {message['id']!r}")
            created_at = message["created_at"]
            check(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", created_at), f"created_at: {created_at!r}")
            expected = {
                "message_scope": "channel",
                "channel_id": self.channel,
                "thread_id": None,
                "sender_agent_id": self.ann["id"],
                "body_text": "Grüße & <b>Küsse</b> 🙂",
                "body_rendered_html": "Grüße &amp; &lt;b&gt;Küsse&lt;/b&gt; 🙂",
                "metadata_json": None,
                "edited_at": None,
                "deleted_at": None,
                "deleted_by_agent_id": None,
                "sender_name": self.ann["name"],
            }
            check_equal("message", {key: message[key] for key in expected}, expected)
            self.last_channel_message = message["id"]

    async def direct_message(self):
        # Ids may come as strings of digits, too.
        await self.b.send("chat.direct.message.send", thread_id=str(self.thread), body="just you")
        for client in (self.a, self.b):
            message = (await client.take("chat.direct.message.created"))["message"]
            found = [
                message[key] for key in ("message_scope", "channel_id", "thread_id", "sender_agent_id", "body_text")
            ]
            check_equal("direct message", found, ["direct", None, self.thread, self.bob["id"], "just you"])

    async def typing(self):
        who = {"agent_id": self.ann["id"], "agent_name": self.ann["name"]}
        await self.a.send("chat.typing", scope="channel", channel_id=self.channel)
        await self.b.take("chat.typing", scope="channel", channel_id=self.channel, thread_id=None, **who)
        await self.a.send("chat.typing", scope="direct", thread_id=self.thread)
        await self.b.take("chat.typing", scope="direct", channel_id=None, thread_id=self.thread, **who)
        # To the one who types it is not sent back.
        await self.a.round_trip()
        nothing_left(self.a, self.b)

    async def read_markers(self):
        async def read(sent, stored):
            await self.b.send("chat.read", scope="channel", channel_id=self.channel, last_read_message_id=sent)
            for client in (self.a, self.b):
                await client.take(
                    "chat.read.updated",
                    scope="channel",
                    channel_id=self.channel,
                    thread_id=None,
                    agent_id=self.bob["id"],
                    last_read_message_id=stored,
                )

        newest = self.last_channel_message
        await read(newest, newest)
        await read(0, newest)  # never back
        await read(newest + 1000, newest)  # never beyond what there is

    async def errors(self):
        channel, direct = "chat.channel.message.send", "chat.direct.message.send"
        too_long = "ä" * (self.max_length + 1)
        no_channel, no_thread = (
            "You do not have access to this chat channel",
            "You do not have access to this direct message thread",
        )
        for event, fields, text in (
            ("no.such.event", {}, "Unsupported websocket event type"),
            (channel, {"channel_id": self.foreign_channel, "body": "x"}, "You cannot post in this chat channel"),
            (channel, {"body": "x"}, "You cannot post in this chat channel"),
            (channel, {"channel_id": self.channel, "body": " \t\n"}, "Message cannot be empty"),
            (channel, {"channel_id": self.channel, "body": 7}, "Message cannot be empty"),
            (
                channel,
                {"channel_id": self.channel, "body": too_long},
                f"Message cannot exceed {self.max_length} characters",
            ),
            (direct, {"thread_id": self.foreign_thread, "body": "x"}, no_thread),
            (
                direct,
                {"thread_id": self.disabled_thread, "body": "x"},
                "Disabled agents cannot receive new direct messages",
            ),
            ("chat.typing", {"scope": "channel"}, "channel_id is required"),
            ("chat.typing", {"scope": "direct"}, "thread_id is required"),
            ("chat.typing", {"channel_id": self.foreign_channel}, no_channel),
            (
                "chat.read",
                {"scope": "direct", "thread_id": self.foreign_thread, "last_read_message_id": 1},
                no_thread,
            ),
        ):
            await self.a.send(event, ref=41, **fields)
            await self.a.take("error", message=text, ref=41)
        for text in ("no JSON at all", "[]", "{}", '{"type":""}', '{"type":5}', "null"):
            await self.a.socket.send(text)
            await self.a.take("error", message="Invalid websocket event")
        # Only the one at fault has heard of it.
        await self.b.round_trip()
        nothing_left(self.a, self.b)

    async def both_at_once(self):
        """Several hundred messages from both sides at the same time, into both conversations by turns."""

        def conversation_of(number):
            return "direct" if number % 3 == 0 else "channel"

        async def talk(client):
            for number in range(self.messages_each):
                body = f"{client.label} {number}"
                if conversation_of(number) == "direct":
                    await client.send("chat.direct.message.send", thread_id=self.thread, body=body)
                else:
                    await client.send("chat.channel.message.send", channel_id=self.channel, body=body)

        async def listen(client, seen):
            for scope in ("channel", "direct"):
                for _ in range(2 * sum(conversation_of(n) == scope for n in range(self.messages_each))):
                    message = (await client.take(f"chat.{scope}.message.created"))["message"]
                    seen[scope].append((message["id"], message["body_text"]))

        seen_by_a, seen_by_b = {"channel": [], "direct": []}, {"channel": [], "direct": []}
        await asyncio.gather(talk(self.a), talk(self.b), listen(self.a, seen_by_a), listen(self.b, seen_by_b))
        for scope in ("channel", "direct"):
            seen = seen_by_a[scope]
            for at, (one, other) in enumerate(zip(seen, seen_by_b[scope])):
                check(one == other, f"{scope}: at place {at} A saw {one} and B saw {other}")
            ids = [message_id for message_id, _ in seen]
            check(ids == sorted(set(ids)), f"{scope}: the ids do not rise: {ids}")
            for label in ("A", "B"):
                found = [body for _, body in seen if body.startswith(label)]
                sent = [f"{label} {n}" for n in range(self.messages_each) if conversation_of(n) == scope]
                check_equal(f"{scope}: what {label} sent, in the order sent", found, sent)
        for client in (self.a, self.b):
            await client.round_trip()
        nothing_left(self.a, self.b)

    async def leaving(self):
        # A page that is loaded again is not seen to leave.
        await self.b.close()
        self.b = await Client.open("B again", self.url)
        await self.authenticate(self.b, self.bob, [self.ann["id"], self.bob["id"]])
        await self.b.send("chat.channel.message.send", channel_id=self.channel, body="back")
        for client in (self.a, self.b):
            await client.take("chat.channel.message.created")
        nothing_left(self.a, self.b)
        # One that stays away is.
        await self.b.close()
        await self.a.take("presence.updated", agent_id=self.bob["id"], online=False)
        await self.a.round_trip()
        nothing_left(self.a, self.b)
        await self.a.close()
        check_equal("close code that the service answered with", self.a.close_code, 1000)

    STEPS = (
        connecting,
        before_authentication,
        authentication_and_presence,
        ping,
        channel_message,
        direct_message,
        typing,
        read_markers,
        errors,
        both_at_once,
        leaving,
    )


async def run(task):
    conversation = Conversation(task)
    for step in Conversation.STEPS:
        name = step.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            await asyncio.wait_for(step(conversation), STEP_LIMIT_SECONDS)
        except (Failure, ConnectionClosed, OSError, KeyError, asyncio.TimeoutError) as failure:
            print(f'two_clients: FAILED at "{name}": {type(failure).__name__}: {failure}')
            for client in Client.all:
                print(f"  {client.label} (close code {client.close_code}) received {len(client.received)} frames:")
                for frame in client.received[-12:]:
                    print(f"    {json.dumps(frame, ensure_ascii=False)[:400]}")
            return 1
        print(f"two_clients: {name}: as expected ({time.monotonic() - started:.2f} s)")
    return 0


def main():
    sys.stderr = sys.stdout  # A traceback is to stand where the caller looks.
    # The last resort, where even the limits above do not end it: the caller waits without one.
    signal.alarm(SCRIPT_LIMIT_SECONDS)
    return asyncio.run(run(json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    sys.exit(main())
