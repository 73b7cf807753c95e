"""Names that recipes and files of version 0.1.0 use, translated into today's."""

from typing import Any

_ROW_GUIDANCE = ("scale", "space", "positive", "negative", "plausibility", "adaptive")


def nested_guidance(row: Any) -> Any:
    """Move the guidance settings that 0.1.0 wrote flat in a row of `evaluate.rows` into its `guidance`.

    Raises:
        ValueError: A row has both forms; Pydantic adds the place.
    """
    if not isinstance(row, dict):
        return row
    flat = {name: row[name] for name in _ROW_GUIDANCE if name in row}
    if not flat:
        return row
    if "guidance" in row:
        raise ValueError(f"{min(flat)} and guidance: give the settings in guidance only")
    return {name: value for name, value in row.items() if name not in flat} | {"guidance": flat}
