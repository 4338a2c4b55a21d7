"""What the models of all sources have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# JavaScript holds integers exactly up to here (Number.MAX_SAFE_INTEGER).
Id = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Resource(BaseModel):
    """An upstream's resource, with the upstream's field names; unknown fields are ignored.

    Strict: a number in quotes makes an item invalid, it is not converted.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_serialization_defaults_required=True,  # unknown fields are present, as null
    )
