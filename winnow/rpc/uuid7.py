"""UUIDs of version 7 (RFC 9562), whose text sorts by time."""


def uuid7(nanoseconds: int, random_bits: int) -> str:
    """Return the UUID of a time since 1970, to a quarter of a microsecond, and 62 random bits."""
    milliseconds, remainder = divmod(nanoseconds, 1_000_000)
    fraction = (remainder << 12) // 1_000_000
    text = f"{milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random_bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
