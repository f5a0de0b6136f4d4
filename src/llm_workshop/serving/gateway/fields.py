"""Reading the body of a request field by field; each mistake is an ApiError that names the field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any

from llm_workshop.serving.gateway.errors import ApiError, shown

#: What these say when they ask for nothing.
NEUTRAL = {"reasoning_effort": "none", "verbosity": "medium", "function_call": "none"}


def parse_json(body: bytes) -> dict[str, Any]:
    """The object of a JSON body; raises ApiError for anything else, NaN and numbers of absurd length included."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ApiError("the body is not UTF-8 text", code="invalid_json") from None
    except RecursionError:
        raise ApiError("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:  # JSONDecodeError is one; so is a whole number of thousands of digits
        raise ApiError(f"the body is not valid JSON: {shown(str(error), 120)}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(f"the body is {_kind(value)}: send a JSON object", code="invalid_json")
    return value


class Fields:
    """The named values of an object; null means the same as leaving a field out, as in OpenAI's interface."""

    def __init__(self, values: Mapping[str, Any]):
        self.values = values

    def get(self, name: str, default: Any = None) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def number(self, name: str, default: float | None, low: float, high: float, *, above: bool = False, integer=False):
        """A number from ``low`` (or ``above`` it) to ``high``; 1.0 is a whole number too."""
        value = self.get(name)
        if value is None:
            return default
        # JSON's 1e999 is read as infinity.
        sane = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) != float("inf")
        if sane and integer:
            sane, value = value == int(value), int(value)
        if not sane or not (value > low if above else value >= low) or value > high:
            kind = "a whole number" if integer else "a number"
            bound = f"{'above' if above else 'at least'} {low} and at most {high}"
            raise invalid(name, self.values[name], f"{kind} {bound}")
        return value

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        return self.number(name, default, low, high, integer=True)

    def flag(self, name: str) -> bool:
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise invalid(name, value, "true or false")
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return None if value is None else check_text(name, value)

    def refuse_unknown(self, known: Collection[str], unsupported: Mapping[str, str]) -> None:
        """OpenAI's server refuses what it does not know, and so a typing mistake is not silently without effect.

        ``unsupported`` are parameters of theirs that ask for something this server has not, with what to do instead;
        empty values of them (null, false, 0, [], {}) and those of ``NEUTRAL`` ask for nothing and pass.
        """
        for name, value in self.values.items():
            if name in unsupported and value and value != NEUTRAL.get(name):
                raise ApiError(
                    f"Unsupported parameter: '{name}'. {unsupported[name]}", param=name, code="unsupported_parameter"
                )
            if name not in known and name not in unsupported:
                near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                name = name if len(name) <= 60 else name[:57] + "..."
                raise ApiError(f"Unknown parameter: '{name}'.{hint}", param=name, code="unknown_parameter")


def check_text(name: str, value: Any) -> str:
    """A text that UTF-8 can hold: JSON's \\ud800 alone is half a character."""
    if not isinstance(value, str):
        raise invalid(name, value, "a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(f"{name} holds half of a surrogate pair: send whole characters", param=name, code="invalid_value") from None
    return value


def invalid(name: str, value: Any, allowed: str) -> ApiError:
    return ApiError(f"Invalid value for '{name}': {shown(value)}. Use {allowed}.", param=name, code="invalid_value")


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
