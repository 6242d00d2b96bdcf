"""What visitors choose in the page for their next recording or file: languages, and a size.

Between :mod:`demos.browser_routes` and the model's folder, which says what there is to choose. What
a page sends is checked here as the command line checks its options.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dragoman.errors import SizeError, UsageError
from dragoman.models import hub, languages
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.prompt import Pairs, check_pair, pairs_of
from dragoman.models.sizes import sizes
from dragoman.stages.messages import SessionOptions

WHOLE, BY_LOAD = "", "auto"
SIZES = {WHOLE: "Whole model", BY_LOAD: "Smaller when behind"}
KEYS = ("language", "target_language", "size")


@dataclass(frozen=True)
class Choices:
    """``pairs`` are those of the model, none: any; ``sizes`` the names of its slices."""

    model: str
    pairs: Pairs = ()
    sizes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: str, folder: Path | None) -> "Choices":
        """Those of ``model`` in ``folder``; where that is not here any pair, and no named size."""
        if folder is None:
            return cls(model)
        pairs = pairs_of(hub.read_config(folder))
        named = sizes(Checkpoint.open(str(folder)).text_config)
        return cls(hub.name_of(folder), pairs, tuple(named))

    def offered(self, options: SessionOptions) -> dict[str, Any]:
        """What a page lets choose from, and what of it is chosen: codes and names."""
        spoken = dict.fromkeys(spoken for spoken, _ in self.pairs)
        known = list(spoken) or list(languages.LANGUAGES)
        return {
            "chosen": {key: getattr(options, key) for key in KEYS},
            "languages": {code: languages.find(code).name for code in self._codes()},
            "targets": {code: self._targets(code) for code in known} if self.pairs else {},
            "sizes": {**SIZES, **{name: name for name in self._named(options)}},
        }

    def applied(self, options: SessionOptions, told: Mapping[str, Any]) -> SessionOptions:
        """``options`` with what a page has chosen; raises LanguageError, SizeError, UsageError."""
        if unknown := [key for key in told if key not in KEYS]:
            raise UsageError(f"{unknown[0]!r} cannot be chosen: choose {', '.join(KEYS)}")
        if wrong := [key for key, value in told.items() if not isinstance(value, str)]:
            raise UsageError(f"{wrong[0]}: got {told[wrong[0]]!r}, expected a text")
        chosen = replace(options, **told)
        check_pair(chosen.language, chosen.target_language, self.pairs, self.model)
        if chosen.size not in (*SIZES, *self._named(options)):
            known = ", ".join([BY_LOAD, *self.sizes])
            raise SizeError(f"size {chosen.size!r}: choose {known}, or none for the whole model")
        return replace(
            chosen,
            language=languages.find(chosen.language).code,
            target_language=languages.find(chosen.target_language).code,
        )

    def _codes(self) -> list[str]:
        codes = dict.fromkeys(code for pair in self.pairs for code in pair) or languages.LANGUAGES
        return sorted(codes, key=lambda code: languages.find(code).name)

    def _targets(self, spoken: str) -> list[str]:
        return [target for source, target in self.pairs if source == spoken]

    def _named(self, options: SessionOptions) -> list[str]:
        """The sizes by name, and the one of the command line, which may be another."""
        return list(dict.fromkeys([*self.sizes, *([options.size] if options.size else [])]))
