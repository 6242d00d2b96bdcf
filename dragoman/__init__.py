"""Live speech translation on Gemma 3n.

    for caption in dragoman.caption("talk.wav", pace="fast"):
        print(caption)

`caption` and `Captioner` give captions as they come, `translate` writes subtitles for files. The
folders of the repository (`encoders`, `decoder`, `pipeline` and the others) are packages below this
name, so that an installed copy never meets a folder of somebody else called `models` or `pipeline`.
In a checkout they are links to the folders beside this one.
"""

from typing import TYPE_CHECKING, Any

from dragoman.captioner import Captioner, caption, translate
from dragoman.data import Translator
from dragoman.errors import DragomanError
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.stages.messages import Caption
    from dragoman.stages.messages import SessionOptions as Options

__all__ = [
    "Caption",
    "Captioner",
    "DragomanError",
    "ModelSpec",
    "Options",
    "Translator",
    "caption",
    "translate",
]


_LATE = {"Options": "SessionOptions", "Caption": "Caption"}  # they need numpy


def __getattr__(name: str) -> Any:
    """`Options` and `Caption`, once they are asked for."""
    if name not in _LATE:
        raise AttributeError(f"module 'dragoman' has no attribute {name!r}")
    from dragoman.stages import messages

    return getattr(messages, _LATE[name])
