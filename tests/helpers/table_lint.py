"""Findings of the table checker in a line each, for tests."""

from fusedm.tables import Finding, Severity, check_text

XTS_KEY = bytes(range(64)).hex()
AES_KEY = bytes(range(32)).hex()


def told(found: Finding) -> str:
    """severity at 'what is marked': text."""
    return f"{found.severity.value} at {found.place.text!r}: {found.text}"


def findings(text: str, **how) -> list[str]:
    """What is found in a text."""
    return [told(found) for found in check_text(text, **how).findings]


def errors(text: str, **how) -> list[Finding]:
    """What is refused in a text."""
    return [f for f in check_text(text, **how).findings if f.severity is Severity.ERROR]


def with_keys(line: str) -> str:
    """A line with K, H and S for a key of 64, 32 and 16 bytes."""
    keys = {"K": XTS_KEY, "H": AES_KEY, "S": AES_KEY[:32]}
    line = line.replace("by-id/H", f"by-id/{AES_KEY}")
    return " ".join(keys.get(word, word) for word in line.split(" "))
