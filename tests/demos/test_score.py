import pytest

from dragoman.demos.score import word_error_rate


def test_word_errors_do_not_count_case_or_punctuation():
    assert word_error_rate("¡Hola, mundo!", "hola mundo") == 0
    assert word_error_rate("uno dos tres cuatro", "uno tres cuatro cinco seis") == 0.75
    assert word_error_rate("今日は、晴れ。", "今日も晴れ") == 0.2, "of its letters"
    with pytest.raises(ValueError, match="no words"):
        word_error_rate("...", "hola")
