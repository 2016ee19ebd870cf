"""`tbe.common.utils`."""
