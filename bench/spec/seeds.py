"""Every random draw of a run comes from a seed named by what it is for, so that a resumed run draws the same."""

import hashlib


def derived_seed(*parts: str | int) -> int:
    """Return a 63-bit seed from the SHA-256 of the parts, such as (run seed, "order", epoch)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
