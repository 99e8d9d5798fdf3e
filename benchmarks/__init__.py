"""Measure what docs/design.md promises, each figure beside a baseline of the same run.

Nothing here is a test: a slow figure fails nothing, only something that breaks does.
"""
