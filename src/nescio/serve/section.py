"""What every section of a policy file has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section: unknown keys are refused, and errors quote no input, which may be a key in the place of its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
