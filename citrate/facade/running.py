"""A model is found, here or in the registry, and generates text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError, NotFoundError
from citrate.core.records import Format
from citrate.core.sink import Progress
from citrate.facade.fetching import Fetching

if TYPE_CHECKING:
    from citrate.inference.run import Generation
    from citrate.registry.applied import Chosen


@dataclass(frozen=True)
class Located:
    """A model's files on this machine."""

    path: Path
    format: Format
    variant: str = ""
    """What was pulled; empty of a local path, and so is the digest."""
    sha256: str = ""


class Running(Fetching):
    """Nothing is loaded before it is verified, and it is loaded in a child process."""

    def locate(
        self,
        model: str,
        *,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Located:
        """The files of a model that is a path here, or a reference that is pulled."""
        from citrate import formats
        from citrate.inference.run import RUNNABLE

        if not model:
            raise ConfigError("no model is named", hint="a file, a folder or a reference; the working folder is '.'")
        path = Path(model)
        if not path.exists() and (
            model.startswith(("/", "./", "../", "~")) or path.suffix in (".gguf", ".safetensors")
        ):
            raise NotFoundError(f"no such file or folder: {model}")
        if path.exists():
            found = formats.inspect(path)
            formats.require_writes(found, path.name)
            return Located(path, Format(found.format))
        pulled = self.pull(model, gateways=gateways, allow=allow, progress=progress, runnable=RUNNABLE)
        found = formats.inspect(pulled.path)
        formats.require_writes(found, model)
        formats.require_template(found, pulled.chat_template_sha256, model)
        variant = pulled.variant
        return Located(pulled.path, variant.variant.format, str(variant.variant), variant.sha256)

    def adapter(
        self,
        text: str,
        model: Located,
        *,
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        progress: Progress | None = None,
    ) -> Chosen:
        """An adapter for a model that was located: ``REF`` or ``DIR``, either with ``=SCALE``.

        Raises:
            IntegrityError: a byte is not what the chain says, or it was trained on another model.
            FormatError: no adapter, one that does not fit the model, or one that its runtime cannot be given.
        """
        from citrate.registry import applied

        host = applied.Host(model.path, model.format, model.variant or model.path.name, model.sha256)
        named = applied.Named.parse(text)
        return applied.choose(self, named, host, gateways=gateways, allow=allow, progress=progress)

    def run(
        self,
        model: str,
        prompt: str,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        chat: bool = True,
        sandbox: bool = True,
        adapter: str = "",
        gateways: Iterable[str] = (),
        allow: frozenset[str] = frozenset(),
        on_text: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> Generation:
        """Pull the variant for this machine and generate text with it, in a child process without network.

        Args:
            model: a reference, or the path of a model's file or folder.
            prompt: what the user says.
            max_tokens: stop after so many tokens.
            temperature: 0 is greedy.
            seed: for temperatures above 0.
            chat: wrap the prompt in the model's own chat template; else complete it as it is.
            sandbox: deny the child network and new files; False only where no sandbox works.
            adapter: the reference or folder of an adapter that was trained on this model, or ``...=SCALE``.
            gateways: where to fetch from, besides the settings' own.
            allow: ``deprecated``, ``quarantined``.
            on_text: called with each piece of text as it comes.
            progress: told of the pull.
        """
        from citrate.inference.run import GenerationSettings, generate

        settings = GenerationSettings(
            max_tokens=max_tokens, temperature=temperature, seed=seed, chat=chat, sandbox=sandbox
        )
        found = self.locate(model, gateways=gateways, allow=allow, progress=progress)
        more = self.adapter(adapter, found, gateways=gateways, allow=allow, progress=progress) if adapter else None
        return generate(
            found.path,
            found.format,
            prompt,
            settings,
            adapter=more.applied if more else None,
            on_text=on_text,
        )
