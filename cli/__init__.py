"""The ``normspec`` command."""
