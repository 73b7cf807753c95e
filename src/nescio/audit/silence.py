"""Questions to which nothing was said: refused, empty, or without an answer."""

from collections.abc import Sequence

from nescio.audit.base import Question
from nescio.audit.score import Reply
from nescio.engines.errors import EndpointError


def refused(replies: Sequence[Reply]) -> EndpointError | None:
    """Return how an endpoint refused questions, if it refused all of them."""
    return replies[0].refusal if replies and all(reply.refusal for reply in replies) else None


def why_silent(questions: Sequence[Question], replies: Sequence[Reply]) -> str:
    """Say why an attack to which nothing was said is not counted.

    Args:
        questions: The first question of each conversation.
        replies: All replies; none has text.
    """
    if why := refused(replies):
        # 403 is about a key or a filter, whatever the form of the question.
        is_text = why.status != 403 and all(isinstance(question.prompt, str) for question in questions)
        return f"needs plain text to be completed there ({why})" if is_text else f"refused by the endpoint ({why})"
    if not replies or not all(reply.is_empty for reply in replies):
        return f"none of its {len(questions)} questions was answered"
    cut = sum(reply.was_cut_off for reply in replies)
    return f"all of its {len(replies)} answers were empty" + (f", {cut} cut off by the limit of tokens" if cut else "")
