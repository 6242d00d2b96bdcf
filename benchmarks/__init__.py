"""Measurements of the running system; each module is a command that prints what it measured."""
