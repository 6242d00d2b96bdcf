"""A session in a thread of its own: sound goes in, captions can be followed from the event loop.

Between the routes and :class:`pipeline.session.Session`. Everything that may wait (decoding a file,
the model) happens in this thread and in those below it; the event loop is told by a bell.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from dragoman.errors import InputError, PipelineError, UsageError
from dragoman.server.streams import Bell, Transcript
from dragoman.stages.messages import Caption

log = logging.getLogger(__name__)


class Run:
    """Follows ``captions`` until they end; ``tell`` hears of each in the thread that runs here, and
    ``over`` at the end, with the error that there was or None.
    """

    def __init__(
        self,
        captions: Iterable[Caption],
        bell: Bell,
        tell: Callable[[Caption], None] = lambda caption: None,
        over: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        self.transcript, self.bell = Transcript(), bell
        self.error: Exception | None = None
        self.done = False
        self.moved = False  # it goes on in another process
        self._captions, self._tell, self._over = captions, tell, over
        self._left = threading.Event()
        threading.Thread(target=self._work, name="server-session", daemon=True).start()

    def leave(self) -> None:
        """Gives up what has not come yet."""
        self._left.set()

    def _work(self) -> None:
        try:
            self._follow()
        except (InputError, UsageError) as error:
            self.error = error
        except Exception as error:
            if not self._left.is_set():  # one that was given up may find no pipeline any more
                log.exception("a session failed")
            self.error = error if isinstance(error, PipelineError) else PipelineError(str(error))
        finally:
            self._over(self.error)
            self.done = True
            self.bell.ring()

    def _follow(self) -> None:
        stream: Any = iter(self._captions)  # a generator: closed, it drops the session
        with closing(stream) as captions:
            for caption in captions:
                if self._left.is_set():
                    return
                self.transcript.put(caption)
                self._tell(caption)
                self.bell.ring()
