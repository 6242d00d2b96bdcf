"""Writes what was measured of a model into its folder, where the model is loaded with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.pipeline.subtitles import write_whole


def note(folder: Path, measured: Mapping[str, Any]) -> None:
    """Puts keys into the `config.json` of ``folder``. Raises OSError."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | dict(measured)
    write_whole(path, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
