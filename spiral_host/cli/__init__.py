"""The command line: arguments to calls on a daemon; the only package that prints."""

from spiral_host.cli.app import app, main

__all__ = ["app", "main"]
