"""One exception type for a user's mistake: printed as its message alone, exit code 2, never with a traceback."""

import difflib
import re
from collections.abc import Iterable, Sequence

# No controls, line and paragraph separators, nor what changes the direction of the text around it.
NO_CONTROLS = r"[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*"


class UserError(Exception):
    """A mistake in what the user gave; the message says where, what was found, and what is allowed."""


# Keys of a grid, and what other programs and the paper call them, in small letters without _ and -; initials such as lr
# need no place here. A key that another key holds is named with it where only that one is allowed.
USUAL_NAMES = {
    "optimizer.learning_rate": ("eta",),
    "optimizer.weight_decay": ("l2",),
    "optimizer.momentum": ("mom", "mu"),
    "optimizer.nesterov": (),
    "optimizer.label_smoothing": ("smoothing",),
    "recipe.epochs": ("numepochs", "nepochs", "maxepochs", "epoch"),
    "recipe.update_every": ("dt", "deltat", "updatefrequency", "updateinterval"),
    "recipe.drop_fraction": ("deathrate", "droprate", "zeta"),
    "batch_size": ("batch", "minibatch"),
    "members": ("m", "nmembers", "nummembers", "ensemblesize", "numensemble"),
    "sparsity": ("s",),
    "replicates": ("reps", "repeats", "nreplicates", "numseeds", "nseeds"),
    "seed": ("randomseed", "rng"),
    "data": ("dataset", "ds"),
    "model": ("arch", "architecture", "net", "network", "backbone"),
    "method": ("algo", "algorithm"),
    "execution.precision": ("dtype", "amp"),
}
# Of a long list, such as the classes of ImageNet, a message names so many.
MOST_OPTIONS = 40


def nearest(found: object, options: Sequence[str], most: int = 1) -> list[str]:
    """Return the options most like a value: what it usually means, those that hold it, those spelled like it.

    Of several words, initials count as a spelling: lr is most like learning_rate.
    """
    text = str(found)[:100]
    usual = [option for option in options if len(text) > 1 and _initials(option) == text.casefold()]
    usual += _usual(text, options)
    close = difflib.get_close_matches(text, options, n=most, cutoff=0.5)
    holding = [option for option in options if len(text) > 1 and text.casefold() in option.casefold()]
    holding.sort(key=lambda option: not option.casefold().startswith(text.casefold()))
    return list(dict.fromkeys([*usual, *([*holding, *close] if most > 1 else [*close, *holding])]))[:most]


def _initials(option: str) -> str:
    words = re.split(r"[_\W]+", option.casefold())
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


def _usual(text: str, options: Sequence[str]) -> list[str]:
    """Return the key that a usual name stands for, as "optimizer.learning_rate" where only `optimizer` is allowed."""
    plain = re.sub("[_-]", "", text.casefold())
    for path, names in USUAL_NAMES.items():
        holder, _, key = path.rpartition(".")
        if plain in (*names, key.replace("_", ""), _initials(key) or key):
            return [key] if key in options else [path] if holder in options else []
    return []


def did_you_mean(found: object, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'? allowed: ..." for a message about a value outside a closed set of strings."""
    options = list(allowed)
    close = nearest(found, options)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    more = f", ... and {len(options) - MOST_OPTIONS:,} more" if len(options) > MOST_OPTIONS else ""
    return f"{hint} allowed: {', '.join(options[:MOST_OPTIONS])}{more}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def without_controls(text: str) -> str:
    """Return a text; ValueError for one with a control character, such as the end of a line."""
    if not re.fullmatch(NO_CONTROLS, text):
        raise ValueError("allowed: text on one line, without control characters")
    return text


def printable(message: str) -> str:
    """Return a message whose names, tabs and escapes included, do nothing to a terminal; its lines stay lines."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in message)
