"""The base of everything that is written down and checked: grids, specs, recipes; and what a name is."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Names are printed, drawn, and made file names of.
MOST_LETTERS = 60
# Controls, line and paragraph separators, and what changes the direction of the text around it.
_NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$"


class Record(BaseModel):
    """A frozen record: unknown keys, and values of the wrong type, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def without_controls(text: str) -> str:
    """Return a text; ValueError for one with a control character, such as the end of a line."""
    if not re.match(_NO_CONTROLS, text) or "\n" in text:
        raise ValueError("allowed: text on one line, without control characters")
    return text


PATTERN = {"pattern": _NO_CONTROLS}
Name = Annotated[
    str, AfterValidator(without_controls), Field(min_length=1, max_length=MOST_LETTERS, json_schema_extra=PATTERN)
]
