"""What the models of all sources have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# JavaScript holds integers exactly up to here (Number.MAX_SAFE_INTEGER).
Id = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Resource(BaseModel):
    """An upstream's resource: its field names kept as they come, unknown fields ignored.

    Strict: a number in quotes is a broken item, not a number to be guessed.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_serialization_defaults_required=True,  # what is unknown is there, and null
    )
