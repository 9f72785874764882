"""The base of everything that is written down and checked: grids, specs, recipes; and what a name is."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bench.errors import NO_CONTROLS, without_controls

# Names are printed, drawn, and made file names of.
MOST_LETTERS = 60


class Record(BaseModel):
    """A frozen record: unknown keys, and values of the wrong type, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


PATTERN = {"pattern": f"^{NO_CONTROLS}$"}
Name = Annotated[
    str, AfterValidator(without_controls), Field(min_length=1, max_length=MOST_LETTERS, json_schema_extra=PATTERN)
]
