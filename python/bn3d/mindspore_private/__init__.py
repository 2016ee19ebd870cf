"""Every name that MindSpore does not document, and only here."""
