"""Questions to which nothing was said: refused, empty, or without an answer."""

from collections.abc import Sequence

from nescio.audit.base import Question
from nescio.audit.score import Reply
from nescio.core.errors import NescioError
from nescio.engines.errors import EndpointError


def refused(replies: Sequence[Reply]) -> EndpointError | None:
    """Return how an endpoint refused questions, if it refused all of them."""
    return replies[0].refusal if replies and all(reply.refusal for reply in replies) else None


def check_plain(replies: Sequence[Reply], limit: int) -> None:
    """Check that the plain question, which comes first, says anything of what the others would give.

    Args:
        replies: Its replies.
        limit: Most tokens of an answer.

    Raises:
        NescioError: The endpoint refused all of them, or all answers reached the limit without a word.
    """
    if why := refused(replies):
        raise NescioError(f"every plain question was refused: {why}")
    if replies and all(reply.is_empty and reply.was_cut_off for reply in replies):
        raise NescioError(
            f"every plain answer was empty and cut off at --max-tokens {limit}; the model's thoughts may need more"
        )


def nothing_said(replies: Sequence[Reply]) -> str | None:
    """Return a line if all answers that came were empty; None if some had text, or none came."""
    came = [reply for reply in replies if reply.answer is not None]
    if not came or not all(reply.is_empty for reply in came):
        return None
    return (
        f"all {len(came)} answers were empty, and show nothing; is the model, or the limit --max-tokens, the right one?"
    )


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
