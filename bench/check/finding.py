"""How checks say what they found: a failure is a finding, and so is what could not be tried."""

from collections.abc import Callable

from bench.store.measured import Finding

MOST_CHARACTERS = 300


class NotHereError(Exception):
    """What a check needs is not on this machine; the message says what."""


def attempt(name: str, check: Callable[[], Finding]) -> Finding:
    """Return what a check finds; what it raises is wrong, but for what is not here."""
    try:
        return check()
    except NotHereError as reason:
        return Finding(name=name, state="not here", detail=str(reason))
    except Exception as error:
        return Finding(name=name, state="wrong", detail=reason_of(error))


def reason_of(error: BaseException) -> str:
    """Return an error in one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"[:MOST_CHARACTERS]
