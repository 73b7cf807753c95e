"""The processes that `torchrun` or `accelerate launch` started to train together."""

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from nescio.core.models import best_device


def processes() -> PartialState:
    """Return this process's place among them; without a GPU they communicate through gloo."""
    return PartialState(cpu=best_device().type == "cpu")


def sharded() -> bool:
    """Whether the weights are spread over the processes (FSDP), so that no engine can answer with them."""
    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))
