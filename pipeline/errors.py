"""Errors that the people who run the program can do something about."""


class InputError(ValueError):
    """An input that is missing or cannot be read; the message says what, where and what to do."""


class DeviceError(ValueError):
    """An accelerator that was asked for and is not there; the message says what to do."""
