"""Text as word error rates compare it, here and in training alike."""

import unicodedata


def normalized(text: str) -> str:
    """Lower case, punctuation and symbols gone, single spaces."""
    kept = (" " if unicodedata.category(c)[0] in "PS" else c for c in text.lower())
    return " ".join("".join(kept).split())
