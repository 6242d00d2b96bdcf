"""The errors that people meet, each with the exit code of the command that meets it.

Everything may import this module, which imports nothing. A message says what is wrong, where, what
was expected and what to do. An error that crosses from one process to another travels as a
`Failure` (`pipeline.link`), which keeps its exit code.
"""

OK, FAILED, USAGE, NO_INPUT, NO_DEPENDENCY, INTERRUPTED = 0, 1, 2, 3, 4, 130


class DragomanError(Exception):
    """The base of all errors below. ``exit_code`` is what a command returns for it."""

    exit_code = FAILED


class UsageError(DragomanError, ValueError):
    """Something was asked for that cannot be done: another choice is needed."""

    exit_code = USAGE


class LanguageError(UsageError):
    """A language code that is not known, or a pair that the model was not made for."""


class SizeError(UsageError):
    """A size that nobody knows, or that the model does not have."""


class DeviceError(UsageError):
    """An accelerator that was asked for and is not there."""


class CheckpointError(UsageError):
    """A model folder that is missing, incomplete, damaged, or of another kind."""


class TokenizerError(CheckpointError):
    """The tokenizer file is missing, unreadable, or lacks a special token that the prompt needs."""


class InputError(DragomanError, ValueError):
    """An input that is missing or cannot be read."""

    exit_code = NO_INPUT


class DependencyError(DragomanError, ImportError):
    """A library that the system lacks; the message says how to install it."""

    exit_code = NO_DEPENDENCY


class SessionError(DragomanError, RuntimeError):
    """A session was used against its contract: unknown, opened twice, or with a gap in ``seq``."""


class PipelineError(DragomanError, RuntimeError):
    """A session, or the pipeline under it, failed.

    ``stage`` names where, ``kind`` the class of the error there, ``trace`` its traceback as text.
    ``exit_code`` is that of the error there.
    """

    def __init__(
        self,
        message: str,
        stage: str = "",
        kind: str = "",
        trace: str = "",
        exit_code: int = FAILED,
    ) -> None:
        super().__init__(message)
        self.stage, self.kind, self.trace, self.exit_code = stage, kind, trace, exit_code


def exit_code(error: BaseException) -> int:
    """The exit code of any error: its own where it has one."""
    if isinstance(error, DragomanError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return NO_DEPENDENCY if isinstance(error, ImportError) else FAILED
