"""YAML in which a key stands once: of two values one would be taken, and the other believed."""

from __future__ import annotations

from collections.abc import Hashable

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r:.60} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"


def load(text: str) -> object:
    """Parse a document of plain values.

    Raises:
        yaml.YAMLError: malformed, or a key stands twice.
        RecursionError: nested too deeply.
    """
    found: object = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    return found
