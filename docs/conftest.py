"""Runs every Python block of the documents that promise it."""

import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore's warnings, read when it is imported

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["pytorch_differences*.md"]
).pytest()
