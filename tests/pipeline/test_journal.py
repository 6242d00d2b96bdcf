from dragoman.pipeline.journal import DRAFT, NAME, Finished, Journal
from dragoman.stages.messages import Caption, Text
from tests.pipeline.batches import records


def caption(index: int) -> Caption:
    said = Text("uno ñ", "", (0.5, 0.25), ((index, index + 4), (index + 5, index + 9)))
    return Caption("final", index, index, index + 9, "es", "en", said, Text("one"))


def test_a_journal_cut_anywhere_keeps_all_whole_lines(tmp_path):
    journal = Journal(tmp_path, "one")
    journal.begin("a", "a.mp4", "w")
    for index in range(3):
        found = None if index == 1 else caption(index)
        journal.finish_segment("a", index, Finished(index, index + 9, found))
    journal.close()
    data = (tmp_path / NAME).read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(0, len(data), 7):
        (tmp_path / NAME).write_bytes(data[:cut])
        journal = Journal(tmp_path, "two")
        whole = sum(end - 1 <= cut for end in ends)
        if whole == 0:
            assert journal.entries == {}
        else:
            kept = journal.entries["a"].segments
            assert sorted(kept) == list(range(whole - 1))
            assert all(kept[k].caption == (None if k == 1 else caption(k)) for k in kept)
            assert all(repr(kept[k].caption) == repr(caption(k)) for k in kept if k != 1)
        journal.begin("b", "b.mp4", "w")
        journal.close()
        journal = Journal(tmp_path, "three")
        assert "b" in journal.entries
        journal.close()


def test_a_journal_forgets_the_segments_of_finished_files(tmp_path):
    journal = Journal(tmp_path, "one")
    for name in ("a", "b"):
        journal.begin(name, f"{name}.mp4", "w")
        for index in range(50):
            journal.finish_segment(name, index, Finished(index, index + 9, caption(index)))
    journal.announce("a", {"a.json": "sha"})
    journal.finish("a", {"a.json": "layout"})
    journal.close()
    journal = Journal(tmp_path, "two")
    kept = [r for r in records(tmp_path) if r["kind"] == "segment"]
    assert {r["name"] for r in kept} == {"b"} and len(kept) == 50
    assert journal.entries["a"].done and journal.entries["a"].outputs == {"a.json": ["sha"]}
    journal.close()


def test_what_was_written_adds_up_until_the_work_begins_anew(tmp_path):
    """Older versions listed the files, without what they were made by."""
    journal = Journal(tmp_path, "one")
    journal.begin("a", "a.mp4", "w")
    journal.finish("a", {"a.json": "one", "a.es.srt": "one"})
    journal.close()
    path = tmp_path / NAME
    path.write_text(path.read_text() + '{"kind": "done", "name": "a", "written": ["a.es.vtt"]}\n')
    journal = Journal(tmp_path, "two")
    journal.finish("a", {"a.es.srt": "two"})
    written = {"a.json": "one", "a.es.srt": "two", "a.es.vtt": ""}
    assert journal.entries["a"].written == written
    journal.begin("a", "a.mp4", "other work")
    assert journal.entries["a"].written == {}
    journal.close()


def test_a_journal_that_tells_nothing_goes_and_any_other_stays(tmp_path):
    for name in ("a", "b"):
        journal = Journal(tmp_path, name)
        journal.begin(name, f"{name}.mp4", "w")
        assert (tmp_path / NAME).is_file()
        if name == "b":
            journal.finish_segment(name, 0, Finished(0, 9, None))
        journal.tidy()
        journal.close()
        assert (tmp_path / NAME).exists() == (name == "b")


def test_drafts_of_a_killed_run_are_removed(tmp_path):
    for name in (f"{DRAFT}-0.srt", f".{DRAFT}-0.srt.77.tmp", f"{DRAFT}.jsonl"):
        (tmp_path / name).write_text("half")
    (tmp_path / "draft.srt").write_text("someone's")
    Journal(tmp_path, "one").close()
    assert [path.name for path in tmp_path.iterdir()] == ["draft.srt"]
