"""What a message says of names: harmless to the terminal that shows it, and no longer than a person reads."""

from bench.errors import did_you_mean, printable


def test_controls_in_names_are_written_out() -> None:
    assert printable("a\tb\x1b[31m\u202e ä漢\nnext") == "a\\tb\\x1b[31m\\u202e ä漢\nnext"


def test_a_long_list_of_what_is_allowed_is_cut_and_the_nearest_is_named_all_the_same() -> None:
    options = [f"n{number:08d}" for number in range(1_000)]
    message = did_you_mean("n00000977x", options)
    assert message.startswith("; did you mean 'n00000977'? allowed: n00000000, ")
    assert message.endswith(", n00000039, ... and 960 more")
    assert did_you_mean("x", options[:40]).endswith("n00000039")
