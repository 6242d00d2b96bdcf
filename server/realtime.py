"""`/v1/realtime` and `/v1/realtime/translations`: sound in, text out, over a web socket.

Between the clients and :mod:`server.speaker`. Of each connection one coroutine reads, one writes
what the session said. The next message is read when the one before was taken, so a client that
floods waits in its own system's buffers; one that sends faster than it speaks is refused at the
limit of sound that waits.
"""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from dragoman.models.languages import find
from dragoman.pipeline.start import check
from dragoman.server.access import answer
from dragoman.server.dialects import DIALECTS, Command, Transcription
from dragoman.server.hub import Hub
from dragoman.server.limits import Allowance
from dragoman.server.refusals import Refusal, invalid, refusal_of
from dragoman.server.settings import DIGITS, Message, Settings, rate
from dragoman.server.speaker import Speaker
from dragoman.server.speakers import Speakers

POLL_S = 0.5  # how often limits of time are looked at
NORMAL, POLICY = 1000, 1008
RATES_HZ = {"vllm": 16_000}
OPENAI_HZ = 24_000


class Realtime:
    """The two routes, over the sessions ``speakers``."""

    def __init__(self, hub: Hub, speakers: Speakers) -> None:
        self._hub, self._speakers = hub, speakers

    async def transcribe(self, socket: WebSocket) -> None:
        await self._serve(socket, "transcription")

    async def translate(self, socket: WebSocket) -> None:
        await self._serve(socket, "translation")

    async def _serve(self, socket: WebSocket, kind: str) -> None:
        """Refused before the handshake, or served until it ends."""
        asked = socket.query_params
        try:
            after = _number(asked.get("after", "0"))
            if "session" in asked:
                speaker = await self._speakers.find(asked["session"])
                speaker.outbox.after(after)
            else:
                speaker = await self._begin(asked, kind)
        except Exception as error:
            refusal = refusal_of(error)
            self._hub.metrics.refused(refusal.code)
            return await socket.send_denial_response(answer(refusal))
        offered = socket.scope["subprotocols"]
        await socket.accept("realtime" if "realtime" in offered else None)
        connection = _Connection(self._hub, socket, speaker, after, resumed="session" in asked)
        await connection.run()

    async def _begin(self, asked: Mapping[str, str], kind: str) -> Speaker:
        """A new session; raises Refusal, LanguageError."""
        hub = self._hub
        hub.check_model(asked.get("model", ""))
        intent, name = asked.get("intent", kind), asked.get("protocol", kind)
        if intent != kind:
            raise invalid(f"intent {intent!r}: only {kind} runs here", "intent")
        if name not in DIALECTS or (name != kind and kind == "translation"):
            known = "vllm" if kind == "transcription" else kind
            raise invalid(f"protocol {name!r}: give {known}, or leave it out", "protocol")
        options = replace(
            hub.options,
            language=find(asked.get("language") or hub.options.language).code,
            target_language=find(asked.get("to_language") or hub.options.target_language).code,
        )
        await run_in_threadpool(
            check, hub.captioner.spec, options.language, options.target_language
        )
        hz = RATES_HZ.get(name, OPENAI_HZ)
        settings = Settings(options, hub.model, rate(_number(asked.get("rate", str(hz)))))
        return await self._speakers.begin(name, settings)


class _Connection:
    """One web socket of a session; it sends what comes behind message ``after``."""

    def __init__(
        self, hub: Hub, socket: WebSocket, speaker: Speaker, after: int, resumed: bool
    ) -> None:
        self._hub, self._socket, self._speaker = hub, socket, speaker
        self._after, self._resumed = after, resumed
        self._allowance = Allowance(hub.limits.burst_messages, hub.limits.messages_per_s)
        self._faults, self._replies = 0, 0

    async def run(self) -> None:
        """Serves until one side ends it; a session that is over, too, is brought to its end."""
        speaker = self._speaker
        speaker.attach(self)  # another one, if there was any, sees it and goes
        await self._reply(self._greeting())
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            was_mine = speaker.detach(self)
        if was_mine and any([task.result() for task in done]):  # raises what nobody foresaw
            await run_in_threadpool(speaker.end)

    def _greeting(self) -> Message:
        """The session; to one that came back also where to go on."""
        told = self._speaker.dialect.created()
        if not self._resumed:
            return told
        resumed = {"after": self._after, "received_bytes": self._speaker.received_bytes}
        return {**told, **resumed, "type": "session.resumed"}

    # What the session said. Each coroutine returns whether the session is over.

    async def _write(self) -> bool:
        speaker, bell = self._speaker, self._speaker.run.bell
        try:
            while True:
                done = speaker.run.done  # before the messages: those that come meanwhile count
                for line in speaker.outbox.after(self._after):
                    await self._socket.send_text(line)
                    self._after += 1
                if speaker.connection is not self:
                    await self._socket.close(POLICY, "the session goes on in another connection")
                    return False
                if done:
                    await self._socket.close(NORMAL)
                    return True
                self._check_times()
                if self._after == speaker.outbox.count and not speaker.run.done:
                    await bell.heard(POLL_S)
        except Refusal as refusal:
            await self._refuse(refusal)
            return True
        except (WebSocketDisconnect, RuntimeError):  # while it was being sent
            return False

    def _check_times(self) -> None:
        """Raises Refusal where the session lasts too long, or nothing is heard."""
        now, limits, speaker = time.monotonic(), self._hub.limits, self._speaker
        if now - speaker.began_at > limits.session_s:
            raise Refusal(
                408, "session_expired",
                f"a session lasts {limits.session_s:.0f} s at most: begin another",
            )  # fmt: skip
        if now - speaker.heard_at > limits.idle_s:
            raise Refusal(
                408, "session_idle",
                f"no sound came for {limits.idle_s:.0f} s: send silence while nobody speaks",
            )  # fmt: skip

    async def _refuse(self, refusal: Refusal) -> None:
        """Says why, and closes the connection."""
        self._hub.metrics.refused(refusal.code)
        await self._reply(self._speaker.dialect.error(refusal))
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(refusal.close_code, refusal.code)

    async def _reply(self, message: Message) -> None:
        """Answers this connection alone: such a message has no number. That a client has gone is
        seen by who reads from it.
        """
        self._replies += 1
        line = json.dumps({**message, "event_id": f"reply_{self._replies}"}, ensure_ascii=False)
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.send_text(line)

    # What the client said.

    async def _read(self) -> bool:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return received.get("code") == NORMAL
            if not await self._take(received):
                return True

    async def _take(self, received: Mapping[str, Any]) -> bool:
        """Does what a message says; whether the connection goes on."""
        message: Message = {}
        try:
            if not self._allowance.spend():
                raise Refusal(429, "too_many_messages", "messages come too fast: join them")
            message = _parsed(received, self._hub.limits.message_bytes)
            await self._do(message)
        except Exception as error:
            refusal = refusal_of(error)
            self._faults += 1
            if refusal.status in (413, 429) or self._faults > self._hub.limits.faults:
                await self._refuse(refusal)
                return False
            self._hub.metrics.refused(refusal.code)
            await self._reply(self._speaker.dialect.error(refusal, message))
        return True

    async def _do(self, message: Message) -> None:
        """Raises Refusal, LanguageError."""
        speaker = self._speaker
        await self._turn_to_vllm(message)
        command = self._command(message)
        if command == "append":
            await run_in_threadpool(speaker.hear, _sound(message), self)
        elif command == "update":
            await self._update(message)
        elif command == "clear":
            await run_in_threadpool(speaker.clear)
            await self._reply({"type": "input_audio_buffer.cleared"})
        elif command == "close":
            await run_in_threadpool(speaker.end)
        elif speaker.dialect.ends_turn(message):
            await run_in_threadpool(speaker.commit)

    def _command(self, message: Message) -> Command:
        commands, kind = self._speaker.dialect.commands, str(message.get("type"))
        if kind not in commands:
            known = ", ".join(commands)
            raise invalid(f"unknown message type {kind!r}: known are {known}", "type")
        return commands[kind]

    async def _update(self, message: Message) -> None:
        speaker, hub = self._speaker, self._hub
        settings = speaker.dialect.chosen(message)
        if settings.model != speaker.dialect.settings.model:
            hub.check_model(settings.model)
        options = settings.options
        await run_in_threadpool(
            check, hub.captioner.spec, options.language, options.target_language
        )
        await run_in_threadpool(speaker.set, settings)
        if (told := speaker.dialect.updated()) is not None:
            await self._reply(told)

    async def _turn_to_vllm(self, message: Message) -> None:
        """A first message that is flat comes from a client of vLLM's."""
        speaker = self._speaker
        flat = message.get("type") == "session.update" and "session" not in message
        if flat and isinstance(speaker.dialect, Transcription) and not speaker.received_bytes:
            settings = replace(speaker.dialect.settings, rate_hz=RATES_HZ["vllm"])
            await run_in_threadpool(speaker.turn_to, "vllm", settings)


def _parsed(received: Mapping[str, Any], most: int) -> Message:
    """A message of ``most`` bytes as JSON has it; raises Refusal."""
    text = received.get("text")
    if len(text or received.get("bytes") or "") > most:  # not every server in front has the limit
        raise Refusal(413, "too_large", f"a message has more than {most} bytes: send shorter ones")
    if text is None:
        raise invalid("a binary message: send JSON with the sound in base64", code="invalid_json")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise invalid("a message is no JSON object: send one in each", code="invalid_json")
    return message


def _sound(message: Message) -> bytes:
    """The sound of a message; raises Refusal."""
    try:
        return base64.b64decode(message.get("audio") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise invalid("audio is not base64 of PCM16", "audio", "invalid_audio") from None


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > DIGITS:
        raise invalid(f"{text[:DIGITS]!r} is no number: give one from 0 up")
    return int(text)
