"""What a wire format is: a request out of a target, and the meaning of one event. Pure on both sides."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from agent.sse import Event
from agent.timeline import Usage
from isochrone.config import Assignment


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One POST that asks for a stream. Holds the key: never logged."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one event of a stream said. The default says nothing: a ping, a role, a filter's note."""

    answer: bool = False
    """A token of the visible answer."""
    reasoning: bool = False
    """A token of thought."""
    tool: bool = False
    """A token of a tool call."""
    finished: bool = False
    """The model came to its end, at the length limit or before: the stream is good."""
    done: bool = False
    """Nothing follows."""
    usage: Usage | None = None
    error: str | None = None
    """The provider's words when it failed after it had begun."""
    unreadable: str | None = None
    """Why the event is not of this format."""

    @property
    def token(self) -> bool:
        """Whether the event carried a token of any channel."""
        return self.answer or self.reasoning or self.tool


class MakeRequest(Protocol):
    """Makes the request for one probe."""

    def __call__(self, target: Assignment, *, key: str | None, prompt: str) -> Request:
        """Return the request; raises ValueError when the target cannot be asked this way."""
        ...


class WireFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's way."""

    request: MakeRequest
    interpret: Callable[[Event], Reading]
    error_text: Callable[[bytes], str | None]
    """The provider's words in the body of a failed answer; None when it holds none."""
