"""Answers are kept by part and by model, and never half."""

import pytest

from evaluation.store import Store, fingerprint


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gemma3n"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_part_is_made_once(model, tmp_path):
    made = []

    def make():
        made.append(1)
        yield {"said": "él"}

    for _ in range(2):
        store = Store(tmp_path / "kept", str(model), "make eval")
        part = store.part("utterances/espeak/es-en", make)
    assert part.rows == [{"said": "él"}] and made == [1]
    assert part.made.command == "make eval"
    assert list(store.parts("utterances")) == ["espeak/es-en"]


def test_a_part_that_fails_leaves_nothing(model, tmp_path):
    store = Store(tmp_path / "kept", str(model), "make eval")

    def fails():
        yield {"said": "uno"}
        raise RuntimeError("the machine stopped")

    with pytest.raises(RuntimeError):
        store.part("one", fails)
    assert store.read("one") is None
    assert store.part("one", lambda: [{"said": "dos"}]).rows == [{"said": "dos"}]


def test_another_version_of_a_model_has_parts_of_its_own(model, tmp_path):
    before = fingerprint(model)
    Store(tmp_path / "kept", str(model), "").part("one", lambda: [{}])
    (model / "model.safetensors").write_bytes(b"Weights")
    assert fingerprint(model) != before
    assert Store(tmp_path / "kept", str(model), "").read("one") is None
