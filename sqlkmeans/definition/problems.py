"""What is wrong with a definition, in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sqlkmeans.definition.values import READ_ON, Strict, nearest, shown
from sqlkmeans.errors import MOST_PROBLEMS

Model = TypeVar("Model", bound=Strict)
Owners = Mapping[str, type[Strict]]


def build(
    model: type[Model], owners: Owners, values: Mapping[str, Any], path: str, problems: list[str]
) -> Model | None:
    """A model of these values; None where there are problems, which are added to the others.

    Parameters
    ----------
    model : type
    owners : mapping of str to type
        The models of keys whose values are tables.
    values : mapping
    path : str
        Where the values stand, for people.
    problems : list of str
    """
    known = partial(_known_keys, model, owners)
    try:
        return model(**values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        unknown = [d for d in details if d["type"] == "extra_forbidden"][:MOST_PROBLEMS]
        meant = {(*d["loc"][:-1], _meant(d, known(d))) for d in unknown}
        details = [
            detail
            for detail in details
            # A key that is there with a typo is one mistake, not two.
            if not (detail["type"] == "missing" and detail["loc"] in meant)
        ]
        problems += [_problem(detail, path, known(detail)) for detail in details[:MOST_PROBLEMS]]
        problems += [f"{path}: {detail['msg']}" for detail in details[MOST_PROBLEMS:]]
        return None


def _known_keys(model: type[Strict], owners: Owners, detail: ErrorDetails) -> tuple[str, ...]:
    # What is wrong with several keys together has no place of its own.
    owner = owners.get(str(detail["loc"][0]), model) if detail["loc"] else model
    return tuple(field for field in owner.model_fields if field != "name")


def _meant(detail: ErrorDetails, known: tuple[str, ...]) -> str:
    """The key that an unknown one is a typo of, or nothing."""
    given = str(detail["loc"][-1]).lower()
    return next(iter(difflib.get_close_matches(given, known, n=1)), "")


def _problem(detail: ErrorDetails, path: str, known: tuple[str, ...]) -> str:
    """One line: where, what was given, what is allowed."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    where = path + "".join(parts)
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        meant = _meant(detail, known)
        hint = f", did you mean {meant}?" if meant else ""
        return f"{where}: unknown key{hint} ({READ_ON})"
    if kind == "missing":
        return f"{where}: missing, and there is no default ({READ_ON})"
    if kind == "value_error":
        return f"{where}: {context['error']}"
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        options = tuple(part.strip('" ') for part in allowed.replace(" or ", ",").split(","))
        return f"{where}: {shown(given)}{nearest(str(given), options)}; allowed: {allowed}"
    if kind == "string_pattern_mismatch":
        return f"{where}: {shown(given)}; allowed: letters, digits and _, not starting with a digit"
    allowed = _IN_WORDS.get(kind, "").format(**context) or detail["msg"]
    allowed = allowed.removeprefix("Input should be ").removeprefix("Value should have ")
    return f"{where}: {shown(given)}; allowed: {allowed}"


#: What pydantic says in words of its own, by its kind of error.
_IN_WORDS = {
    "too_short": "one or more",
    "tuple_type": "a list",
    "model_type": "a table of keys",
    "string_type": "a text",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
}
