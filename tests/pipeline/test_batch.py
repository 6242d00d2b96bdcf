import json
import os

import av
import numpy as np
import pytest

from dragoman.pipeline import batch_file as batch_module
from dragoman.pipeline import batch_options
from dragoman.pipeline import outputs as outputs_module
from dragoman.pipeline.batch_file import Advanced
from dragoman.pipeline.journal import DRAFT, Journal
from dragoman.pipeline.pool import QUEUED
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.rules import Rules
from dragoman.pipeline.segments import segments
from dragoman.spec import BATCH_SIZE, ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions
from dragoman.stages.segment import SegmentStage
from tests.pipeline import media_files
from tests.pipeline.batches import batch, outputs, records, run, sound, without_words, workers
from tests.pipeline.chains import pool_of
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT, fakes, tone

NANO = media_files.ROOT / "models" / "nano"
HAS_NANO = (NANO / "model.safetensors").exists()
CHUNK_S = 0.16
HEARD = [*media_files.GOOD, *media_files.CHANNELS]
ALL_FILES = {f"{x}.{form}" for x in ("es", "en", "es-en") for form in ("srt", "vtt")} | {"json"}


pytestmark = pytest.mark.usefixtures("with_ray")


@pytest.fixture(scope="module")
def pool(with_ray):
    """Workers with fake stages."""
    with workers(fakes()) as made:
        yield made


# What is made of a file.


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    media_files.make_all(folder)
    return folder


@pytest.fixture(scope="module")
def real_stages(tiny_folder):
    """The bundled model if it is there, else one with random weights: its name and its stages."""
    model = "nano" if HAS_NANO else str(tiny_folder)
    return model, recipes(ModelSpec(model, threads=1))


@pytest.fixture(scope="module")
def translated(tmp_path_factory, media, real_stages):
    """All media files through real stages, in one run: results, and the folder of the outputs."""
    out = tmp_path_factory.mktemp("out")
    model, stages = real_stages
    workers = pool_of(stages[1:], workers=2)
    results = run(batch([media], out, stages, spec=ModelSpec(model)), workers)
    workers.stop()
    return results, out


@pytest.mark.parametrize("name", sorted(media_files.BAD))
def test_a_bad_file_says_why_and_leaves_no_outputs(translated, name):
    results, out = translated
    result = results[name]
    assert (result.status, result.bad_input, result.outputs) == ("failed", True, ())
    assert media_files.BAD[name] in result.reason
    stem = name.rpartition(".")[0]
    assert [path.name for path in out.iterdir() if path.name.startswith(stem)] == []


def test_every_other_file_of_that_run_is_whole(translated):
    results, out = translated
    good = {name for name, result in results.items() if result.status == "done"}
    assert good == {*HEARD, "broken off.mp3"}
    assert len(results) == len(good) + len(media_files.BAD) >= 40
    for name in HEARD:
        result = results[name]
        (stem,) = {
            path.name.removesuffix(".json") for path in result.outputs if path.suffix == ".json"
        }
        assert stem == (name if name.startswith("film.") else name.rpartition(".")[0])
        assert {path.name.removeprefix(f"{stem}.") for path in result.outputs} == ALL_FILES
        assert all(path.is_file() for path in result.outputs)
    assert not list(out.glob(f"*{DRAFT}*"))


def test_all_containers_have_the_segments_of_the_recording(translated):
    results, out = translated
    options = SessionOptions()
    spans = [
        (speech.start / SAMPLE_RATE_HZ, speech.end / SAMPLE_RATE_HZ)
        for speech in segments([media_files.speech()], SegmentStage(), options)
    ]
    assert len(spans) == media_files.SENTENCES
    for name in HEARD:
        assert results[name].segments == len(spans)
        (path,) = [path for path in results[name].outputs if path.suffix == ".json"]
        form = json.loads(path.read_text())
        assert form["source"] == name and form["options"]["language"] == "es"
        assert form["duration"] == pytest.approx(media_files.SPOKEN_S, abs=0.15)
        assert form["warnings"] == []
        found = [(event["start"], event["end"]) for event in form["segments"]]
        assert np.array(found) == pytest.approx(np.array(spans[: len(found)]), abs=0.35)
        texts = {"transcript", "translation", "transcript_confidence", "translation_confidence"}
        written = {"start", "end", *texts, "words", "frames", "size", "guards"}
        assert all(set(segment) == written for segment in form["segments"])
        assert without_words(form["segments"])


def test_a_file_that_breaks_off_is_done_as_far_as_it_goes(translated):
    result = translated[0]["broken off.mp3"]
    (warning,) = result.warnings
    assert warning.startswith("broken off.mp3 seems truncated: it ends after 4.6 s")
    assert result.segments == 1


def test_subtitles_keep_the_rules_of_cues(translated):
    """Two lines of 42 characters at most, 1 to 7 s, no overlaps: read back from the files."""
    import pysubs2

    for path in translated[1].glob("*.srt"):
        events = list(pysubs2.load(str(path)))
        for event in events:
            lines = event.text.split("\\N")
            assert len(lines) <= 2
            assert all(len(line) <= 42 or " " not in line for line in lines)
            assert 0 < event.duration <= 7_000
        for before, after in zip(events, events[1:], strict=False):
            assert before.end <= after.start


@pytest.mark.skipif(not HAS_NANO, reason="the bundled model is not there")
@pytest.mark.parametrize("name", sorted(HEARD))
def test_the_bundled_model_hears_the_words_in_every_container(translated, name):
    import jiwer

    from dragoman.models.words import normalized

    (path,) = [path for path in translated[0][name].outputs if path.suffix == ".json"]
    events = json.loads(path.read_text())["segments"]
    said = media_files.SPOKEN.with_name("talk.es.txt").read_text().splitlines()
    said = " ".join(said[: media_files.SENTENCES])
    heard = " ".join(event["transcript"] for event in events)
    assert jiwer.wer(normalized(said), normalized(heard)) <= 0.3
    assert all(event["translation"] for event in events)


def test_a_job_gives_the_same_whatever_worker_runs_it(translated, media, real_stages, tmp_path):
    """One worker instead of two, and the files in another order."""
    model, stages = real_stages
    paths = [media / "phone call.wav", media / "master.flac"]
    alone = pool_of(stages[1:], workers=1)
    run(batch(paths, tmp_path, stages, spec=ModelSpec(model)), alone)
    alone.stop()
    found = outputs(tmp_path)
    assert len(found) == 14 and found["master.es.srt"] != b""
    assert all((translated[1] / name).read_bytes() == data for name, data in found.items())


def test_the_outputs_hold_all_segments_in_order(pool, tmp_path):
    sound(tmp_path / "a.wav", 23)
    result = run(batch([tmp_path]), pool)["a.wav"]
    assert (result.status, result.segments) == ("done", 5)
    form = json.loads((tmp_path / "a.json").read_text())
    starts = [event["start"] for event in form["segments"]]
    assert starts == [round(k * CHUNKS_A_SEGMENT * CHUNK_S, 3) for k in range(5)]
    both = (tmp_path / "a.es-en.srt").read_text()
    assert both.count("w0") == both.count("W0") == 5


@pytest.mark.parametrize(
    ("options", "suffixes"),
    [
        ({"formats": ("srt",)}, {"es.srt", "en.srt", "es-en.srt"}),
        ({"formats": ("json", "vtt"), "texts": ("translation",)}, {"en.vtt", "json"}),
        (
            {"session": SessionOptions(language="en", target_language="it"), "formats": ("srt",)},
            {"en.srt", "it.srt", "en-it.srt"},
        ),
    ],
)
def test_only_what_is_asked_for_is_written(pool, tmp_path, options, suffixes):
    file = sound(tmp_path / "a.wav", 6)
    run(batch([file], tmp_path / "out", **options), pool)
    assert set(outputs(tmp_path / "out")) == {f"a.{suffix}" for suffix in suffixes}


def test_a_failing_stage_fails_its_file_alone(pool, tmp_path):
    sound(tmp_path / "bad.wav", 23, poisoned=12)
    sound(tmp_path / "good.wav", 23)
    results = run(batch([tmp_path]), pool)
    assert results["good.wav"].status == "done"
    bad = results["bad.wav"]
    assert (bad.status, bad.bad_input, bad.outputs) == ("failed", False, ())
    assert "its segment at 1.6 s failed: stage 'encode': ValueError: poison" in bad.reason
    assert not list(tmp_path.glob("bad.*[!w][!a][!v]"))


def test_few_segments_are_under_way_however_long_the_file(pool, tmp_path):
    made = batch([sound(tmp_path / "long.wav", 400)])
    assert list(made.prepare()) == []
    waiting = [pool.given for event in made.run(pool) if isinstance(event, Advanced)]
    made.close()
    assert len(waiting) > 80
    assert 0 < max(waiting) <= len(pool) * QUEUED * BATCH_SIZE


# What was done before.


def test_finished_files_are_skipped_unless_asked_to_be_done_again(pool, tmp_path):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path]), pool)
    before = outputs(tmp_path)
    again = batch([tmp_path])
    results = run(again, pool)
    assert (results["a.wav"].status, results["a.wav"].reason) == ("skipped", "already done")
    assert again.to_do == []
    done = run(batch([tmp_path], overwrite=True), pool)["a.wav"]
    assert (done.status, done.kept) == ("done", 0)
    assert outputs(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"session": SessionOptions(target_language="it")},
        {"session": SessionOptions(endpoint_ms=700)},
        {"spec": ModelSpec("another")},
        {"channel": 1},
    ],
)
def test_a_changed_option_is_done_again_if_it_asks_for_more(pool, tmp_path, change):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path], formats=("json",)), pool)
    result = run(batch([tmp_path], **({"formats": ("json",)} | change)), pool)["a.wav"]
    assert (result.status, result.kept, result.segments) == ("done", 0, 3)


LATER = {
    "formats": ("srt", "ass", "ttml", "txt", "json"),
    "texts": ("translation", "translation-above"),
    "rules": Rules(chars_per_second=9.0),
}


@pytest.mark.parametrize("first", [{"formats": ("json",)}, {}])
def test_what_is_asked_for_later_is_as_if_asked_at_once(pool, tmp_path, first):
    """By other rules, too; and nothing is heard again."""
    sound(tmp_path / "a.wav", 22.7)
    run(batch([tmp_path], tmp_path / "once", **LATER), pool)
    run(batch([tmp_path / "a.wav"], tmp_path / "later", **first), pool)
    later = batch([tmp_path / "a.wav"], tmp_path / "later", **LATER)
    results = [*later.prepare(), *later.write()]
    assert later.to_do == []
    later.close()
    assert [(r.status, r.segments, r.kept) for r in results] == [("done", 5, 5)]
    found = outputs(tmp_path / "later")
    assert {name: found[name] for name in outputs(tmp_path / "once")} == outputs(tmp_path / "once")
    again = run(batch([tmp_path / "a.wav"], tmp_path / "later", **LATER), pool)
    assert again["a.wav"].status == "skipped"


@pytest.mark.parametrize("change", ["edited", "gone", "never written"])
def test_without_the_document_of_before_a_file_is_heard_again(pool, tmp_path, change):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path], formats=("srt",) if change == "never written" else ("json",)), pool)
    if change == "edited":
        (tmp_path / "a.json").write_text("{}")
    if change == "gone":
        (tmp_path / "a.json").unlink()
    result = run(batch([tmp_path], formats=("vtt",)), pool)["a.wav"]
    assert (result.status, result.kept, result.segments) == ("done", 0, 3)


def test_a_film_with_other_texts_is_made_anew(pool, tmp_path):
    film = media_files.write(tmp_path / "a.mp4", tone(7), "aac", "mpeg4", 44_100)
    for texts, count in ((("transcript",), 1), (("transcript", "translation"), 2)):
        run(batch([film], formats=("json",), texts=texts, mux=True), pool)
        with av.open(tmp_path / "a.subtitled.mp4") as copy:
            assert len(copy.streams.subtitles) == count


def test_a_file_that_is_replaced_while_it_is_read_fails(pool, tmp_path):
    """Else its captions would be taken for those of the new one."""
    path = sound(tmp_path / "a.wav", 60)
    made, results = batch([path]), []
    assert list(made.prepare()) == []
    for event in made.run(pool):
        if isinstance(event, Advanced) and not results:
            other = sound(tmp_path / "other.wav", 9, value=0.2)
            results.append(os.replace(other, path))
        results.append(event)
    made.close()
    assert results[-1].status == "failed" and "changed while it was read" in results[-1].reason
    assert not (tmp_path / "a.json").exists()
    assert run(batch([path]), pool)["a.wav"].segments == 2


def test_a_changed_file_is_done_again(pool, tmp_path):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path]), pool)
    sound(tmp_path / "a.wav", 22)
    assert run(batch([tmp_path]), pool)["a.wav"].segments == 5
    assert len(json.loads((tmp_path / "a.json").read_text())["segments"]) == 5


def test_the_sound_track_in_the_language_asked_for_is_heard(pool, tmp_path):
    film = media_files.write_tracks(tmp_path / "a.mkv", ("eng", tone(30)), ("spa", tone(10)))
    for language, count, number in (("es", 2, 2), ("en", 6, 1)):
        session = SessionOptions(language=language, target_language="it")
        result = run(batch([film], session=session, overwrite=True), pool)["a.mkv"]
        assert result.segments == count
        warnings = [f"a.mkv has 2 sound tracks (eng, spa): number {number} is heard"]
        assert list(result.warnings) == warnings
        assert json.loads((tmp_path / "a.json").read_text())["warnings"] == warnings


def test_what_an_older_version_made_is_done_again(pool, tmp_path, monkeypatch):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path]), pool)
    monkeypatch.setattr(batch_options, "MADE", batch_options.MADE + 1)
    result = run(batch([tmp_path]), pool)["a.wav"]
    assert (result.status, result.kept) == ("done", 0)


def test_outputs_that_were_deleted_are_made_again(pool, tmp_path):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path]), pool)
    (tmp_path / "a.en.vtt").unlink()
    assert run(batch([tmp_path]), pool)["a.wav"].status == "done"
    assert (tmp_path / "a.en.vtt").exists()


def test_files_of_others_are_not_overwritten_unless_asked(pool, tmp_path):
    sound(tmp_path / "a.wav", 12)
    (tmp_path / "a.es.srt").write_text("made by hand")
    result = run(batch([tmp_path]), pool)["a.wav"]
    assert result.status == "failed" and not result.bad_input
    assert "a.es.srt is there already" in result.reason and "--overwrite" in result.reason
    assert (tmp_path / "a.es.srt").read_text() == "made by hand"
    assert not (tmp_path / "a.json").exists()
    assert run(batch([tmp_path], overwrite=True), pool)["a.wav"].status == "done"
    # An output that was edited is not ours any more either.
    (tmp_path / "a.es.srt").write_text("corrected by hand")
    sound(tmp_path / "a.wav", 22)
    assert run(batch([tmp_path]), pool)["a.wav"].status == "failed"
    assert (tmp_path / "a.es.srt").read_text() == "corrected by hand"


def test_two_runs_do_not_share_a_folder(pool, tmp_path):
    sound(tmp_path / "a.wav", 12)
    other = Journal(tmp_path, "other")
    result = run(batch([tmp_path]), pool)["a.wav"]
    assert result.status == "failed" and "another run is writing into" in result.reason
    other.close()
    assert run(batch([tmp_path]), pool)["a.wav"].status == "done"


def test_a_folder_that_cannot_be_made_fails_the_file(pool, tmp_path):
    file = sound(tmp_path / "a.wav", 6)
    result = run(batch([file], file / "out"), pool)["a.wav"]
    assert result.status == "failed" and "choose another with -o" in result.reason


def test_whatever_moment_a_run_ends_the_next_one_does_only_the_rest(pool, tmp_path):
    """Abandons a run after each of its events; outputs never differ, no segment is done twice."""
    media = tmp_path / "media"
    media.mkdir()
    for name, chunks in (("a", 23), ("b", 7)):
        sound(media / f"{name}.wav", chunks)
    whole = tmp_path / "whole"
    run(batch([media], whole), pool)
    out, done, runs = tmp_path / "out", set(), 0
    while True:
        runs += 1
        made = batch([media], out)
        skipped = [result.path.name for result in made.prepare()]
        if not made.to_do:
            break
        for event in made.run(pool):
            if isinstance(event, Advanced) and event.worked_s:
                break
        made.close()
        while pool.busy:
            pool.collect()
        segments_there = {
            (r["name"], r["index"], r["run"]) for r in records(out) if r["kind"] == "segment"
        }
        done |= segments_there
    made.close()
    assert runs > 4 and skipped == ["a.wav", "b.wav"]
    assert len(done) == len({(name, index) for name, index, _ in done}) == 7
    assert outputs(out) == outputs(whole)


def test_a_name_in_the_journal_stays_with_its_file(pool, tmp_path):
    sound(tmp_path / "talk.wav", 6)
    run(batch([tmp_path]), pool)
    first = (tmp_path / "talk.json").read_bytes()
    media_files.write(tmp_path / "talk.flac", tone(12), "flac")
    results = run(batch([tmp_path / "talk.flac"]), pool)
    assert {path.name.split(".")[1] for path in results["talk.flac"].outputs} == {"flac"}
    assert (tmp_path / "talk.json").read_bytes() == first
    assert run(batch([tmp_path]), pool)["talk.wav"].status == "skipped"


def test_a_run_killed_while_outputs_appear_knows_them_as_its_own(pool, tmp_path, monkeypatch):
    sound(tmp_path / "a.wav", 12)
    run(batch([tmp_path]), pool)
    sound(tmp_path / "a.wav", 22)
    replaced, real = [], os.replace

    def killed(source, target):
        if DRAFT in str(target) or not str(target).endswith((".srt", ".vtt", ".json")):
            return real(source, target)
        if len(replaced) == 3:
            raise KeyboardInterrupt
        replaced.append(target)
        return real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run(batch([tmp_path]), pool)
    monkeypatch.undo()
    assert len(replaced) == 3
    result = run(batch([tmp_path]), pool)["a.wav"]
    assert (result.status, result.kept, result.segments) == ("done", 5, 5)


def test_an_error_that_nobody_foresaw_in_ones_outputs_stops_no_other(tmp_path, pool, monkeypatch):
    def write_all(outputs, folder, name, *rest):
        if name == "bad":
            raise StopIteration
        return outputs_module.write_all(outputs, folder, name, *rest)

    monkeypatch.setattr(batch_module, "write_all", write_all)
    files = [sound(tmp_path / f"{name}.wav", CHUNKS_A_SEGMENT) for name in ("bad", "good")]
    results = run(batch(files, tmp_path / "out"), pool)
    assert [results[file.name].status for file in files] == ["failed", "done"]
    assert results["bad.wav"].reason == "its outputs cannot be written: StopIteration: "
