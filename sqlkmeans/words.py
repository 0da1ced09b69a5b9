"""Words that reach people: nothing in them drives a terminal, and no password is shown."""

from __future__ import annotations

import re
import unicodedata

#: Control characters, format characters (which reorder or hide text), separators of lines and
#: paragraphs, halves of characters.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
#: After a scheme: a user, a password, and the last @ of the word.
_IN_URL = re.compile(r"(://[^\s/:@]*):\S*@")
#: In a connection string, percent-encoded or not.
_IN_OPTIONS = re.compile(
    r"(?i)(pwd|password)(\s*=\s*|%3d)(\{(?:[^}]|\}\})*\}?|(?:(?!%3b)[^;&'\"\n])*)"
)


#: What they take for the end of a password.
_ENDS = frozenset(";&'\"\n}@ ")


def has_unseen(text: str) -> bool:
    """Whether a text has characters that nobody sees, but a terminal or a reader's eye obeys."""
    return not text.isprintable() and any(unicodedata.category(c) in _UNSEEN for c in text)


def visible(text: str) -> str:
    """The same with such characters, line breaks too, as escapes: ``\\x1b``, ``\\u202e``."""
    if not has_unseen(text):
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which they stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


def visible_json(text: str) -> str:
    """The same for JSON, whose values stay what they are."""
    if not has_unseen(text):
        return text
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in _UNSEEN else _json_escaped(c) for c in text
    )


def without_passwords(text: str) -> str:
    """The same with ``***`` for what stands where a password does in a URL or its options."""
    return _IN_OPTIONS.sub(r"\1\2***", _IN_URL.sub(r"\1:***@", text))


def without_password(text: str, password: str | None) -> str:
    """The same with ``***`` for a password that is known, also where :func:`without_passwords` took
    a character of it for its end."""
    if not password:
        return text
    text = text.replace(password, "***")
    for start, character in enumerate(password):
        if character in _ENDS:
            text = text.replace(f"***{password[start:]}", "***")
    return text


def _escaped(character: str) -> str:
    if unicodedata.category(character) == "Cs":
        return f"\\u{ord(character):04x}"
    return character.encode("unicode_escape").decode("ascii")


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
