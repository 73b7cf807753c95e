"""An engine that answers what a test writes, as a local model with Hermes' calls of tools would."""

from collections.abc import Callable, Sequence

from nescio.core.callbacks import Progress
from nescio.engines.base import Answer, Capabilities, Engine, Request


class Says(Engine):
    """Set `says` between requests; `asked` keeps them."""

    def __init__(self) -> None:
        self.says: Callable[[Request], str] = lambda request: "fine"
        self.finish = "stop"
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        self.asked += requests
        return [Answer(self.says(request), [1, 2], self.finish, prompt_tokens=3) for request in requests]

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(control_tokens=("<|im_end|>",), chat_template="<tool_call>")
