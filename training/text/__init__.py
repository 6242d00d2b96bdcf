"""Everyday sentences in five parallel languages: what the voices of the corpus say.

Place: the source of text of `training.speech`. `sentences/` holds whole sentences, `frames/`
sentences with slots, `slots/` what may fill them; each row says one thing in five languages.

    python -m training.text        # counts rows and word forms, and looks for leaks

`tables` reads the rows, `nouns` makes articles and contractions, `frames` fills slots, `leaks`
finds training sentences too near to an evaluation one, and `texts.Texts` draws.
"""

from training.text.tables import LANGUAGES, SPLITS, TableError
from training.text.texts import Sentence, Texts

__all__ = ["LANGUAGES", "SPLITS", "Sentence", "TableError", "Texts"]
