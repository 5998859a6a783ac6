"""Reading YAML: what is written, and nothing that it could also mean.

The scalars of YAML 1.2's core schema, less what people do not mean by them: ``no``, ``1:30``, ``010``, ``1_000``,
``0x10`` and dates are text, which a setting that is a number refuses by name. No key may be given twice, no value stand
for another (``*name``), and nothing be nested deeper than :data:`DEEPEST`.
"""

import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node

from strata.engine.options import DIGITS

DEEPEST = 40
"""Levels of lists and keys in one another; a configuration has five."""


class Reader(yaml.SafeLoader):
    """A loader of plain values: text, numbers, true and false, null, lists, and keys with values."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # filled below, where the loader's own would be those of YAML 1.1

    def __init__(self, text: str) -> None:
        """``text`` is read as one document."""
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """One node, with those below it; refuses one that stands for another, and too many below each other."""
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            _refuse(f"*{alias.anchor} stands for another value; write that value here", alias)
        self._depth += 1
        if self._depth > DEEPEST:
            event = self.get_event()  # type: ignore[no-untyped-call]
            _refuse(f"more than {DEEPEST} levels of lists and keys in one another", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Keys and values; refuses a key that is given twice."""
        seen: set[object] = set()
        for named, _ in node.value:
            key = self.construct_object(named, deep=True)
            if isinstance(key, Hashable) and key in seen:
                _refuse(f"the key {key!r} is given twice", named)
            seen.add(key if isinstance(key, Hashable) else id(named))
        return super().construct_mapping(node, deep)


def _refuse(problem: str, at: Any) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


WHOLE = r"(0|[1-9][0-9]*)"
EXPONENT = r"[eE][-+]?[0-9]+"
for tag, pattern, firsts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", rf"[-+]?(0|[1-9][0-9]{{0,{DIGITS - 1}}})", "-+0123456789"),
    ("float", rf"[-+]?((\.[0-9]+|{WHOLE}\.[0-9]*)({EXPONENT})?|{WHOLE}{EXPONENT})", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    Reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"), list(firsts))


def read(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        yaml.YAMLError: for anything else, and for what this module does not read.
    """
    return yaml.load(text, Reader)
