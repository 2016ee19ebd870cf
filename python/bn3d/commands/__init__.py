"""The command `bn3d`."""
