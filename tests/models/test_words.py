from dragoman.models.words import normalized


def test_case_punctuation_and_symbols_are_not_compared():
    assert normalized("¿Qué, tal?  ¡Bien—gracias! 3 €") == "qué tal bien gracias 3"
    assert normalized("Que\u0301") == "que\u0301", "an accent of its own belongs to its letter"
