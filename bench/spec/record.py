"""The base of everything that is written down and checked: grids, specs, recipes."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record: unknown keys, and values of the wrong type, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
