"""What all routes of one server share: the loaded model, the limits, the places, the folder.

Made by :mod:`server.app`. Uploads lie in a folder that only its owner can read, and that goes with
the server.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dragoman.captioner import Captioner
from dragoman.models.hub import name_of
from dragoman.server.limits import Limits, Places
from dragoman.server.metrics import Metrics
from dragoman.server.refusals import Refusal
from dragoman.stages.messages import SessionOptions


class Hub:
    """One server; ``options`` are those of sessions that ask for nothing else, ``aliases`` other
    names that its model may be asked by; ``state`` is the folder of what another process may go on
    with, None: it is lost with this one.
    """

    def __init__(
        self,
        captioner: Captioner,
        options: SessionOptions,
        limits: Limits,
        metrics: Metrics,
        aliases: Sequence[str] = (),
        state: Path | None = None,
    ) -> None:
        self.captioner, self.options, self.limits, self.metrics = (
            captioner, options, limits, metrics
        )  # fmt: skip
        self.model = name_of(Path(captioner.spec.model))
        self.models = (self.model, *aliases)
        self.folder = Path(tempfile.mkdtemp(prefix="dragoman-serve-")).resolve()
        self.state = state
        if state is not None:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files = Places(limits.files, "files")
        self.sessions = Places(limits.sessions, "live sessions")
        self.viewers = Places(limits.viewers, "viewers")

    def check_model(self, name: str) -> None:
        """Raises Refusal for a model that is not served; an empty name is the one that is."""
        if name and name not in self.models:
            known = ", ".join(self.models)
            raise Refusal(
                404, "model_not_found", f"the model {name!r} is not served here: ask for {known}",
                "model",
            )  # fmt: skip

    def close(self) -> None:
        """Gives up the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
