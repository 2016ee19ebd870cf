"""`tbe.common`."""
