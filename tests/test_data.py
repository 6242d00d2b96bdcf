"""`dragoman.Translator` gives what the pipeline gives, with Ray Data and without it."""

import numpy as np
import pytest

import dragoman
from dragoman.errors import InputError, LanguageError, PipelineError, SizeError
from tests.pipeline import media_files
from tests.pipeline.batches import ray_of_our_own
from tests.pipeline.fake_stages import POISON, fakes, tone


@pytest.fixture
def fake_stages(monkeypatch):
    monkeypatch.setattr("dragoman.pipeline.recipes.recipes", lambda _: fakes())


def batch(*chunks: int, value: float = 0.1) -> dict:
    samples = np.empty(len(chunks), object)
    samples[:] = [tone(count, value) for count in chunks]
    places = np.arange(len(chunks))
    return {"path": np.array(["a.wav"] * len(chunks)), "segment": places, "start": places * 16_000,
            "samples": samples}  # fmt: skip


def test_a_batch_of_segments_becomes_captions(fake_stages):
    translator = dragoman.Translator()
    for _ in range(2):
        assert translator(batch(2, 5)) == {
            "segment": [0, 1],
            "path": ["a.wav", "a.wav"],
            "start": [0.0, 1.0],
            "end": [0.32, 1.8],
            "transcript": ["w0 w1", "w0 w1 w2 w3 w4"],
            "translation": ["W0 W1", "W0 W1 W2 W3 W4"],
        }


def test_options_are_read_as_everywhere(fake_stages):
    spec = dragoman.ModelSpec(size="half")
    translator = dragoman.Translator(dragoman.Options(language="Spanish"), spec)
    assert (translator._options.language, translator._options.size) == ("es", "half")
    with pytest.raises(LanguageError):
        dragoman.Translator(dragoman.Options(language="ja"))
    with pytest.raises(SizeError):
        dragoman.Translator(spec=dragoman.ModelSpec(size="E9B"))


def test_what_fails_is_an_error(fake_stages):
    with pytest.raises(PipelineError, match="a segment of a.wav failed in stage 'encode'"):
        dragoman.Translator()(batch(2, value=POISON))
    with pytest.raises(InputError, match="does not exist"):
        dragoman.Translator.segments({"path": "none.wav"})


def test_files_are_cut_as_a_batch_cuts_them(tmp_path):
    path = media_files.write(tmp_path / "a.wav", media_files.speech(), "pcm_s16le")
    rows = dragoman.Translator.segments({"path": str(path)})
    assert [row["segment"] for row in rows] == list(range(media_files.SENTENCES))
    assert all(row["path"] == str(path) and row["samples"].dtype == np.float32 for row in rows)
    assert rows[0]["start"] + len(rows[0]["samples"]) <= rows[1]["start"]


@pytest.mark.timeout(300)
def test_ray_data_runs_it(tmp_path):
    """As the page says, with the bundled model."""
    import ray

    path = media_files.write(tmp_path / "a.wav", media_files.speech(), "pcm_s16le")
    with ray_of_our_own(cpus=3):
        rows = ray.data.from_items([{"path": str(path)}])
        rows = rows.flat_map(dragoman.Translator.segments)
        rows = rows.map_batches(dragoman.Translator, batch_size=8, concurrency=1)
        told = sorted(rows.take_all(), key=lambda row: row["segment"])
    alone = dragoman.Translator()
    for row, cut in zip(told, dragoman.Translator.segments({"path": str(path)}), strict=True):
        (said,) = alone({name: [value] for name, value in cut.items()})["transcript"]
        assert row["transcript"] == said != "" and row["translation"]
