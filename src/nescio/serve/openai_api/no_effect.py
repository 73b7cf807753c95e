"""Fields of OpenAI's bodies that this server lacks: accepted if they change nothing, else refused by name.

Clients send many fields at their default, and send messages back as they received them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

Harmless = Callable[[Any], bool]


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _any(value: Any) -> bool:
    return True


def _all_off(switches: Any) -> bool:
    return _empty(switches) or (isinstance(switches, Mapping) and not any(switches.values()))


def _one_of(*values: Any) -> Harmless:
    # 0 == False and 1 == True in Python, not in JSON.
    return lambda value: any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


_APPS: dict[str, Harmless] = {
    # Ollama's: how it runs, and how it samples.
    **dict.fromkeys(("keep_alive", "num_batch", "num_ctx", "num_gpu", "num_thread", "use_mlock", "use_mmap"), _any),
    **dict.fromkeys(("mirostat_eta", "mirostat_tau", "num_keep", "repeat_last_n"), _any),  # only beside another
    "mirostat": _one_of(None, 0),
    "repeat_penalty": _one_of(None, 1),
    "tfs_z": _one_of(None, 1),
    "think": _one_of(None, False),
    "format": _empty,
    "options": _empty,
    # Open WebUI's own: what it keeps or does itself, and what it would do for its callers before it asks a model.
    **dict.fromkeys(("background_tasks", "chat_id", "folder_id", "id", "message_ids", "model_item"), _any),
    **dict.fromkeys(("parent_id", "parent_message", "session_id", "user_message", "variables"), _any),
    **dict.fromkeys(("files", "filter_ids", "params", "skill_ids", "tool_ids", "tool_servers"), _empty),
    "features": _all_off,
}
REQUEST: dict[str, Harmless] = {
    "tools": _empty,
    "tool_choice": _one_of(None, "none", "auto"),
    "parallel_tool_calls": _one_of(None, True, False),
    "functions": _empty,
    "function_call": _one_of(None, "none", "auto"),
    "response_format": lambda value: value is None or value == {"type": "text"},
    "modalities": _one_of(None, ["text"]),
    "audio": _empty,
    "prediction": lambda value: value is None or isinstance(value, Mapping),  # it saves time only
    "web_search_options": _one_of(None),
    "reasoning_effort": _one_of(None, "none"),
    "verbosity": _one_of(None, "medium"),
    "prompt_cache_retention": lambda value: value is None or isinstance(value, str),
    "repetition_penalty": _one_of(None, 1),
    "best_of": _one_of(None, 1),
    "echo": _one_of(None, False),
    "suffix": _one_of(None, ""),
    # Of vLLM, SGLang and the clients made for them.
    "add_generation_prompt": _one_of(None, True),
    "chat_template_kwargs": _empty,
    "ignore_eos": _one_of(None, False),
    "include_stop_str_in_output": _one_of(None, False),
    "length_penalty": _one_of(None, 1),
    "min_tokens": _one_of(None, 0),
    "skip_special_tokens": _one_of(None, True),
    "spaces_between_special_tokens": _one_of(None, True),
    "stop_token_ids": _empty,
    "typical_p": _one_of(None, 1),
    "use_beam_search": _one_of(None, False),
    "continue_final_message": _one_of(None, False),
    **_APPS,
}
RESPONSES: dict[str, Harmless] = {
    **_APPS,
    "store": _one_of(None, False),
    "previous_response_id": _empty,
    "conversation": _empty,
    "background": _one_of(None, False),
    "include": lambda value: _empty(value) or value == ["reasoning.encrypted_content"],  # there are no thoughts
    "reasoning": lambda value: _empty(value) or value == {"effort": "none"},
    "truncation": _one_of(None, "disabled"),
    "prompt": _empty,
    "max_tool_calls": _empty,
    "top_logprobs": _one_of(None, 0),
    "prompt_cache_retention": lambda value: value is None or isinstance(value, str),
}
MESSAGE: dict[str, Harmless] = {
    "function_call": _empty,
    "annotations": lambda value: value is None or isinstance(value, list),
    "audio": _empty,
    "parsed": _empty,
    "reasoning": lambda value: value is None or isinstance(value, str),  # never part of a prompt
    "reasoning_content": lambda value: value is None or isinstance(value, str),
    "reasoning_details": lambda value: value is None or isinstance(value, list),
    "thinking": lambda value: value is None or isinstance(value, str),
    # LiteLLM's, in what it returns.
    "images": _empty,
    "provider_specific_fields": lambda value: value is None or isinstance(value, Mapping),
    "thinking_blocks": lambda value: value is None or isinstance(value, list),
}


def without_no_effect(body: Any, fields: Mapping[str, Harmless]) -> Any:
    """Drop the fields of a body that change nothing.

    Args:
        body: What was sent; only objects are looked at.
        fields: For each field whether a value changes nothing.

    Raises:
        PydanticCustomError: A field would change the answer; `errors.of_validation` names it.
    """
    if not isinstance(body, Mapping):
        return body
    for name, value in body.items():
        if name in fields and not fields[name](value):
            message = "this server does not support the value; leave the field out"
            raise PydanticCustomError("unsupported", message, {"field": name})
    return {name: value for name, value in body.items() if name not in fields}
