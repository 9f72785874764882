"""How many images a grid asks for: a number, or a share of those there would be otherwise."""

from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

# More is a slip of the finger, or a plan that would never end.
MOST_IMAGES = 10**9


def _checked(least: int) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, float) and 0 < value <= 1:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_IMAGES:
            return value
        raise ValueError(
            f"allowed: a whole number, at least {least} and at most {MOST_IMAGES:,}, or a share above 0 and at most "
            "1.0, such as 0.1"
        )

    return BeforeValidator(check)


def _schema(least: int) -> WithJsonSchema:
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": least, "maximum": MOST_IMAGES}, share]})


Images = Annotated[int | float, _checked(1), _schema(1)]
ImagesOrNone = Annotated[int | float, _checked(0), _schema(0)]


def images_of(asked: float | None, available: int) -> int:
    """Return how many images are asked for: all that are available for None; a share is at least one image, if any."""
    if asked is None:
        return available
    return asked if isinstance(asked, int) else min(available, max(1, round(Fraction(str(asked)) * available)))
