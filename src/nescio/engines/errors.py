"""What can go wrong with a request: no answer came, the engine is closed, or it does not fit the context."""

from nescio.core.errors import NescioError, first_line
from nescio.engines.answer import Answer


class EndpointError(NescioError):
    """An endpoint did not answer a request.

    Args:
        message: What is wrong, in words of our own.
        status: HTTP status that it answered with; 504 if it was too slow, 502 if it broke off or made no sense.
        said: What it says itself, in one line; it may repeat a part of the prompt.
        retry_after: Seconds after which it may be asked again, if it says so.

    Attributes:
        so_far: What it had said before it broke off; None: nothing.
    """

    so_far: Answer | None = None

    def __init__(self, message: str, status: int = 502, said: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{message} (it says: {said})" if said.strip("… ") else message)
        self.message, self.status, self.retry_after = message, status, retry_after


class UnansweredError(EndpointError):
    """One request got no answer; others may still get theirs."""


class BrokenError(NescioError):
    """An engine broke while it answered.

    Args:
        what: What failed.
        error: Why. Its text may quote a prompt, so `message` names no more than its type.
    """

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(f"{what} ({type(error).__name__}: {first_line(error)})")
        self.message = f"{what} ({type(error).__name__})"
        self.__cause__ = error


class EngineClosedError(NescioError):
    """The engine was closed or failed; it takes no more requests."""


class NoLikelihoodsError(NescioError):
    """The engine generates, but scores nothing."""


class FieldError(NescioError):
    """A field of a request that the engine's model refuses.

    Attributes:
        field: Its name.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class TooLongError(NescioError):
    """A request that fits only with a shorter answer.

    Attributes:
        tokens_left: Number of new tokens that fit after the prompt; below 1 the prompt itself is too long.
    """

    def __init__(self, message: str, tokens_left: int) -> None:
        super().__init__(message)
        self.tokens_left = tokens_left


class ContextExceededError(TooLongError):
    """Prompt and new tokens exceed the model's context.

    Args:
        prompt_tokens: Length of the prompt.
        max_tokens: Number of new tokens.
        context: Size of the context.
        or_more: Whether no more than the beginning of the prompt was counted.
    """

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int, *, or_more: bool = False) -> None:
        prompt = f"{prompt_tokens} or more" if or_more else str(prompt_tokens)
        super().__init__(
            f"a prompt of {prompt} tokens and {max_tokens} new ones exceed the model's context of {context}; "
            "shorten one of them",
            context - prompt_tokens,
        )
