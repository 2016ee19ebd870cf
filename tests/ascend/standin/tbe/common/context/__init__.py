"""`tbe.common.context`."""
