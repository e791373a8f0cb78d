"""YAML in which a key stands once: of two values one would be taken, and the other believed."""

from __future__ import annotations

from collections.abc import Hashable

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_TOLD_MAX = 200


class NotYamlError(ValueError):
    """What is wrong with a document, as the end of a sentence that begins with its name: ``is not YAML: ...``."""


class _TwiceError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise _TwiceError(f"says {key.value!r:.80} twice: again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(data: bytes) -> object:
    """Parse a document of plain values.

    Raises:
        NotYamlError: malformed, or a key stands twice.
    """
    try:
        found: object = yaml.load(data.decode(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except _TwiceError as error:
        raise NotYamlError(str(error)) from error
    except (LookupError, AttributeError, TypeError) as error:  # PyYAML's own, of `!!int ""` and its like
        raise NotYamlError("is not YAML: a value does not have the type that its tag (!!) says") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueErrors, such as dates that are none
        words = " ".join(str(error).split()).replace('in "<unicode string>", ', "in ")
        raise NotYamlError(f"is not YAML: {words[:_TOLD_MAX]}") from error
    return found
