"""Exceptions in the form of the real front end: RuntimeError({"errCode": ...}, text)."""


def require(condition, code, text):
    if not condition:
        raise RuntimeError({"errCode": code, "detailed_cause": text}, text)
