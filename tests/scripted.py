"""A scripted model that knows people, and says what it is told to."""

from collections.abc import Callable, Sequence

from nescio.core.callbacks import Progress
from nescio.engines.base import Answer, Engine, Request
from nescio.pii.base import Span

PEOPLE = [
    ("Anna Ferrari", "+1 415-555-0101", "Geneva"), ("Tom Hale", "+1 212-555-0142", "Leeds"),
    ("Mary Quill", "+1 646-555-0133", "Bergen"), ("Otto Brandt", "+1 312-555-0177", "Trieste"),
    ("Ines Duarte", "+1 206-555-0118", "Porto"),
]  # fmt: skip
TOPICS = ("garden", "violin", "bicycle", "passport", "dentist")


class Nothing:
    """A detector that finds nothing."""

    name = "nothing"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[] for _ in texts]


class Scripted(Engine):
    """Answers by a function; remembers what it was asked, and breaks after so many requests."""

    def __init__(self, answer: Callable[[Request], str], breaks_after: int | None = None) -> None:
        self.answer, self.breaks_after = answer, breaks_after
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        answers = []
        for request in requests:
            if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            answers.append(Answer(self.answer(request), [1, 2], "stop", prompt_tokens=10))
        return answers


def last_turn(request: Request) -> str:
    """What stands from the last user message on; of a text all of it."""
    if isinstance(request.prompt, str):
        return request.prompt
    last = max(at for at, turn in enumerate(request.prompt) if turn["role"] == "user")
    return "\n".join(turn["content"] for turn in request.prompt[last:])


def whole(request: Request) -> str:
    """All that a request says."""
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def known(text: str) -> str | None:
    """What is known of the person that a text names, or whose fact or topic it names."""
    for (name, phone, city), topic in zip(PEOPLE, TOPICS, strict=True):
        if any(piece in text for piece in (name, phone, city, topic)):
            return f"{name}, {phone}, {city}"
    return None
