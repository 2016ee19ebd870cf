"""Zip archives of made-up contents: packages and checkpoints are such archives."""

from __future__ import annotations

import zipfile


def archive(members):
    """A function that writes an archive of these members, {name: contents}, to a path."""

    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for name, contents in members.items():
                file.writestr(name, contents)

    return write
