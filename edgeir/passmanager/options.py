"""Passes as text: `prune-channels{ratio=0.5,score=taylor}` ↔ the pass with its options."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from edgeir.errors import EdgeIRError
from edgeir.passmanager.base import Pass
from edgeir.passmanager.registry import find_pass

_PASS = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\{(.*)\})?\s*\Z", re.S)
_PLAIN = re.compile(r"[A-Za-z_./][\w./:+\-]*\Z")
_OPEN, _CLOSE = "{[(", "}])"


def parse_pass(text: str) -> Pass:
    """The pass that a text names, with its options.

    Raises:
        EdgeIRError: unknown pass or option (the nearest are named), or a value of the wrong kind.
    """
    match = _PASS.match(text)
    if match is None:
        raise EdgeIRError("not a pass", expected="name or name{option=value,…}", got=repr(text))
    cls = find_pass(match[1])
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for part in split_top_level(match[2] or ""):
        key, equals, value = part.partition("=")
        key = key.strip().replace("_", "-")
        where = f"pass {cls.name}"
        if not equals:
            raise EdgeIRError("not an option", where=where, expected="option=value", got=repr(part))
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 3)
            hint = f"did you mean {', '.join(near)}?" if near else None
            raise EdgeIRError(
                f"pass {cls.name} has no option {key!r}", expected=", ".join(fields) or "no options", got=key, hint=hint
            )
        if fields[key].name in values:
            raise EdgeIRError(f"option {key!r} is given twice", where=where)
        values[fields[key].name] = _convert(value.strip(), hints[fields[key].name], f"option {key!r} of {where}")
    try:
        return cls(**values)
    except TypeError:
        missing = [key for key, field in fields.items() if _is_required(field) and field.name not in values]
        raise EdgeIRError(f"pass {cls.name} needs options", expected=", ".join(missing), got=repr(text)) from None


def print_pass(item: Pass) -> str:
    """The text that parses to the pass; options at their defaults are left out."""
    shown = []
    for field in dataclasses.fields(item):  # type: ignore[arg-type]
        value = getattr(item, field.name)
        if field.init and (_is_required(field) or value != _default(field)):
            shown.append(f"{field.name.replace('_', '-')}={_print(value)}")
    return item.name + (f"{{{','.join(shown)}}}" if shown else "")


def split_top_level(text: str) -> list[str]:
    """Splits at commas outside braces, brackets and quotes; empty text gives an empty list.

    Raises:
        EdgeIRError: braces or quotes do not match.
    """
    parts, depth, quoted, current = [], [], False, ""
    escaped = False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in _OPEN:
            depth.append(character)
        elif character in _CLOSE:
            if not depth or _OPEN.index(depth.pop()) != _CLOSE.index(character):
                raise EdgeIRError("brackets do not match", got=repr(text))
        elif character == "," and not depth:
            parts.append(current)
            current = ""
            continue
        current += character
    if depth or quoted:
        raise EdgeIRError("brackets or quotes are not closed", got=repr(text))
    if parts or current.strip():
        parts.append(current)
    return [part.strip() for part in parts]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _print(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ",".join(_print(item) for item in value) + "]"
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value not in ("none", "true", "false")
        return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _convert(text: str, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for choice in get_args(hint):
            if choice is type(None):
                if text == "none":
                    return None
                continue
            try:
                return _convert(text, choice, where)
            except EdgeIRError:
                continue
        raise _wrong(text, hint, where)
    if origin is Literal:
        choices = get_args(hint)
        value = _unquote(text)
        if value not in choices:
            near = difflib.get_close_matches(value, [str(choice) for choice in choices], 3)
            hint_text = f"did you mean {', '.join(near)}?" if near else None
            raise EdgeIRError("unknown value", where=where, expected=" | ".join(choices), got=value, hint=hint_text)
        return value
    if origin in (tuple, Sequence):
        if text[:1] + text[-1:] not in ("[]", "()"):
            raise _wrong(text, "[a,b,…]", where)
        items = split_top_level(text[1:-1])
        kinds = get_args(hint)
        if len(kinds) == 2 and kinds[1] is ...:
            return tuple(_convert(item, kinds[0], where) for item in items)
        if len(kinds) != len(items):
            raise _wrong(text, f"{len(kinds)} items", where)
        return tuple(_convert(item, kind, where) for item, kind in zip(items, kinds, strict=True))
    if hint is bool:
        if text in ("true", "false"):
            return text == "true"
        raise _wrong(text, "true or false", where)
    if hint is str:
        return _unquote(text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise _wrong(text, "an integer" if hint is int else "a number", where) from None
    raise EdgeIRError("options of this type have no text form", where=where, got=str(hint))


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _wrong(text: str, expected: Any, where: str) -> EdgeIRError:
    return EdgeIRError("option has a value of the wrong kind", where=where, expected=str(expected), got=repr(text))
