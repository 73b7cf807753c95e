"""The converter of `/v1/responses`: parts of an answer to output items and to typed events."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from nescio.serve.errors import ErrorBody
from nescio.serve.openai_api.part import Call, Part
from nescio.serve.openai_api.response_bodies import Finish, Usage
from nescio.serve.openai_api.responses_bodies import (
    Incomplete,
    OutputCall,
    OutputMessage,
    OutputText,
    ResponseBody,
    ResponseEvent,
    ResponseUsage,
)
from nescio.serve.openai_api.responses_request import ResponsesRequest


class ResponsesConverter:
    """Converter of `/v1/responses`.

    Args:
        model: Name of the model that answers.
        body: The request.
    """

    done: ClassVar[str] = ""

    def __init__(self, model: str, body: ResponsesRequest) -> None:
        self._head: dict[str, Any] = {"id": _new("resp"), "created_at": int(time.time()), "model": model} | _echo(body)
        self._sequence = 0
        self._output: list[OutputMessage | OutputCall] = []
        self._open: OutputMessage | None = None
        self._finish: Finish | None = None

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return the events that say that the answer has begun."""
        return [
            self._event(f"response.{name}", response=self._body("in_progress").model_dump())
            for name in ("created", "in_progress")
        ]

    def events(self, part: Part) -> list[BaseModel]:
        """Return a part as events: text belongs to the open message, and a call is an item of its own."""
        events = list[BaseModel]()
        if part.text:
            events += self._opened() if self._open is None else []
            events.append(self._text_event("delta", delta=part.text, logprobs=[]))
            self._message.content[0].text += part.text
        for call in part.calls:
            events += [*self._closed("completed"), *self._called(call)]
        if part.finish:
            self._finish = part.finish
            events += self._opened() if not self._output and self._open is None else []
            events += self._closed(self._status)
        return events

    def last_events(self, usage: Usage, with_usage: bool) -> list[BaseModel]:
        """Return the event that says that the answer has ended, with all of it."""
        return [self._event(f"response.{self._status}", response=self._body(self._status, usage).model_dump())]

    def error_event(self, error: ErrorBody) -> BaseModel:
        """Return the event of an error, after which nothing follows."""
        return self._event("error", **error.error.model_dump(include={"code", "message", "param"}))

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return the answer in one body."""
        self.events(choices[0])
        return self._body(self._status, usage)

    @property
    def _status(self) -> Any:
        return "completed" if self._finish in ("stop", "tool_calls") else "incomplete"

    @property
    def _message(self) -> OutputMessage:
        assert self._open is not None  # text is added to an open message only
        return self._open

    def _body(self, status: Any, usage: Usage | None = None) -> ResponseBody:
        why = Incomplete(reason="content_filter" if self._finish == "content_filter" else "max_output_tokens")
        return ResponseBody(
            **self._head,
            status=status,
            incomplete_details=why if status == "incomplete" else None,
            output=self._output,
            usage=None if usage is None else ResponseUsage.of(usage),
        )

    def _event(self, kind: str, **fields: Any) -> ResponseEvent:
        self._sequence += 1
        return ResponseEvent(type=kind, sequence_number=self._sequence - 1, **fields)

    def _item_event(self, kind: str, item: BaseModel) -> ResponseEvent:
        return self._event(f"response.output_item.{kind}", output_index=len(self._output), item=item.model_dump())

    def _text_event(self, kind: str, name: str = "output_text", **fields: Any) -> ResponseEvent:
        place = {"item_id": self._message.id, "output_index": len(self._output), "content_index": 0}
        return self._event(f"response.{name}.{kind}", **place, **fields)

    def _opened(self) -> list[BaseModel]:
        self._open = OutputMessage(id=_new("msg"), status="in_progress", content=[])
        added = self._item_event("added", self._open)
        self._open.content.append(OutputText(text=""))
        part = self._text_event("added", "content_part", part=self._open.content[0].model_dump())
        return [added, part]

    def _closed(self, status: Any) -> list[BaseModel]:
        if self._open is None:
            return []
        self._open.status = status
        content = self._open.content[0]
        events: list[BaseModel] = [
            self._text_event("done", text=content.text, logprobs=[]),
            self._text_event("done", "content_part", part=content.model_dump()),
            self._item_event("done", self._open),
        ]
        self._output.append(self._open)
        self._open = None
        return events

    def _called(self, call: Call) -> list[BaseModel]:
        item = OutputCall(id=_new("fc"), status="in_progress", call_id=call.id, name=call.name, arguments="")
        added = self._item_event("added", item)
        place = {"item_id": item.id, "output_index": len(self._output)}
        kind = "response.function_call_arguments"
        delta = self._event(f"{kind}.delta", **place, delta=call.arguments)
        done = self._event(f"{kind}.done", **place, name=call.name, arguments=call.arguments)
        item = item.model_copy(update={"status": "completed", "arguments": call.arguments})
        events: list[BaseModel] = [added, delta, done, self._item_event("done", item)]
        self._output.append(item)
        return events


def _new(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _echo(body: ResponsesRequest) -> dict[str, Any]:
    """Return the fields of a request that the answer repeats."""
    dumped = body.model_dump(by_alias=True, exclude_none=True)
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": dumped.get("text") or {"format": {"type": "text"}},
        "tool_choice": dumped.get("tool_choice", "auto"),
        "tools": dumped.get("tools", []),
        "top_p": 1.0 if body.top_p is None else body.top_p,
    }
