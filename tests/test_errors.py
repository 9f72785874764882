"""What a message says of a name does nothing to the terminal that shows it."""

from bench.errors import printable


def test_controls_in_names_are_written_out() -> None:
    assert printable("a\tb\x1b[31m\u202e ä漢\nnext") == "a\\tb\\x1b[31m\\u202e ä漢\nnext"
