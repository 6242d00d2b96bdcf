import pytest

from training import foreign
from training.speech_parts import Speech
from training.voices import TRAIN_VARIANTS


@pytest.mark.parametrize("language", foreign.LANGUAGES)
def test_test_sentences_are_kept_out_of_training(language):
    trained, kept = (set(foreign.sentences(language, test)) for test in (False, True))
    assert len(trained) >= 15 and len(kept) >= 4 and not trained & kept


def test_test_voices_are_kept_out_of_training():
    assert not set(foreign.TEST_VARIANTS) & set(TRAIN_VARIANTS)


def test_it_is_speech_that_nobody_writes_down(tmp_path):
    for test in (False, True):
        foreign.build(tmp_path, "de", 3, test)
    for split in ("foreign", "foreign-test"):
        speech = Speech(tmp_path, split)
        assert len(speech) == 3 and {r.language for r in speech.records} == {"de"}
        for example in map(speech.__getitem__, range(3)):
            assert example.words == [] and example.samples.std() > 300
    path = tmp_path / "foreign" / "espeak" / "de.npy"
    before = path.stat().st_mtime_ns
    foreign.build(tmp_path, "de", 3, test=False)
    assert path.stat().st_mtime_ns == before, "a part is made once"
