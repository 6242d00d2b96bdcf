"""Writes a text down in the phonemes that Kokoro-82M was trained on.

Place: `training.voices_kokoro` speaks what this writes.

Licences: phonemizer and espeak-ng are GPL-3.0-or-later; they only write down the phonemes.
"""

import espeakng_loader  # pyright: ignore[reportMissingImports]
from phonemizer.backend import EspeakBackend  # pyright: ignore[reportMissingImports]
from phonemizer.backend.espeak.wrapper import EspeakWrapper  # pyright: ignore[reportMissingImports]

LANGUAGES = {"en": "en-us", "es": "es", "fr": "fr-fr", "it": "it", "pt": "pt-br"}
_SYMBOLS = {  # number of the first symbol of each run
    1: ";:,.!?", 9: "—…\"()“” \u0303ʣʥʦʨᵝ\uab67AI", 31: "O", 33: "Q", 35: "ST", 39: "W",
    41: "Yᵊabcdef", 50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ",
    92: "ɡ", 99: "ɥ", 101: "ɨɪʝ", 110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ",
    135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ", 156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓",
    171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
TOKENS = {symbol: first + i for first, run in _SYMBOLS.items() for i, symbol in enumerate(run)}
# The model was trained with one letter for each of these pairs (hexgrad/misaki, espeak.py).
_LETTERS = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q",
    "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "^": "", "-": "", "«": "“", "»": "”",
}  # fmt: skip
_AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ɚ": "əɹ", "ɐ": "ə", "ː": ""}


class KokoroError(RuntimeError):
    """A file of the model is missing or wrong, or an argument cannot be spoken."""


class Writer:
    """espeak-ng as a function from text to phonemes; one per process."""

    def __init__(self):
        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        self._backends: dict[str, EspeakBackend] = {}

    def write(self, text: str, language: str) -> str:
        """Write down the sounds of a text, with its punctuation; language: a key of LANGUAGES.

        Raises KokoroError for another language.
        """
        if language not in LANGUAGES:
            raise KokoroError(
                f"language: expected one of {', '.join(LANGUAGES)}, got {language!r}; use one of "
                "those, or speak phonemes"
            )
        if language not in self._backends:
            self._backends[language] = EspeakBackend(
                LANGUAGES[language],
                preserve_punctuation=True,
                with_stress=True,
                tie="^",
                language_switch="remove-flags",  # else "(en)" is spoken before a foreign word
            )
        sounds = "".join(self._backends[language].phonemize([text])).strip()
        for pair, letter in (_LETTERS | (_AMERICAN if language == "en" else {})).items():
            sounds = sounds.replace(pair, letter)
        return "".join(sound for sound in sounds if sound in TOKENS)


def tokens(sounds: str) -> list[int]:
    """The model's number of each phoneme; raises KokoroError for a phoneme it does not have."""
    unknown = sorted({sound for sound in sounds if sound not in TOKENS})
    if unknown:
        raise KokoroError(f"phonemes: expected those of TOKENS, got {unknown}; use Writer.write")
    return [TOKENS[sound] for sound in sounds]
