"""A row of what `python -m bench data` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["embedded", "ready", "archive only", "absent", "intact", "damaged"]


@dataclass(frozen=True)
class Row:
    """One data set in one place.

    state    as listed (nothing but names and sizes was looked at): embedded, ready, archive only, absent or damaged;
             as verified: intact, damaged or absent
    where    the file or folder, None for embedded data
    images   how many, of all its parts together; None if that is not known
    note     what is damaged, or how to get what is absent; may be empty
    """

    name: str
    variant: str
    state: State
    where: Path | None
    images: int | None
    note: str
