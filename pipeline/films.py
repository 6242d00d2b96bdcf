"""A copy of a film with subtitles, as an output beside the subtitle files.

Between `pipeline.outputs`, which plans and writes the outputs of a source, and the two ways to put
subtitles into a film: `pipeline.muxing` and `pipeline.burning`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman.models import languages
from dragoman.pipeline.formats import Cue
from dragoman.pipeline.muxing import Track, mux
from dragoman.pipeline.rules import Rules
from dragoman.pipeline.subtitles import Which, cues
from dragoman.stages.messages import Caption


@dataclass(frozen=True)
class Film:
    """A copy of ``source``: with ``burnt`` in its picture, or with each of ``texts`` as a track.

    ``texts`` are those that were asked for, each with the codes of its languages.
    """

    source: Path
    texts: tuple[tuple[Which, tuple[str, ...]], ...]
    rules: Rules
    burnt: Which | None = None

    def write(
        self, path: Path, captions: Sequence[Caption], changes_s: Sequence[float] = ()
    ) -> None:
        """Writes the copy to ``path``, its cues in step with the shot changes ``changes_s``. Raises
        InputError for a film that cannot be copied, DependencyError without a font.
        """
        if self.burnt is not None:
            from dragoman.pipeline.burning import burn  # Pillow, which live sessions do not need

            burn(self.source, cues(captions, self.burnt, self.rules, changes_s), path)
        else:
            tracks = [
                self._track(which, codes, cues(captions, which, self.rules, changes_s))
                for which, codes in self.texts
            ]
            mux(self.source, tracks, path)

    def _track(self, which: Which, codes: Sequence[str], shown: Sequence[Cue]) -> Track:
        name = " + ".join(languages.find(code).name for code in codes)
        return Track(shown, codes[0], name, which == self._default)

    @property
    def _default(self) -> Which:
        """The track that is shown at once: the translation, if there is one."""
        texts: list[Which] = [which for which, _ in self.texts]
        return "translation" if "translation" in texts else texts[0]
