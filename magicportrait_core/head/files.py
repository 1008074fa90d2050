"""What goes wrong with head files."""

from __future__ import annotations


class HeadFileError(ValueError):
    """A head file that cannot be used; the message is for the user."""
