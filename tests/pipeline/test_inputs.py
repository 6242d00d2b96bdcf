from pathlib import Path

from dragoman.pipeline.inputs import find


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def named(paths, out=None) -> dict[str, str]:
    sources, missing = find(paths, out)
    assert missing == []
    return {str(s.path): str(s.folder / s.name) for s in sources}


def test_folders_are_searched_for_media_and_keep_their_structure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/b.MP4", "in/a.wav", "in/x/y/c.mkv", "in/notes.txt", "in/.hidden.mp4",
          "in/.cache/d.mp4", "in/a.es.srt")  # fmt: skip
    assert named(["in"], Path("out")) == {
        "in/a.wav": "out/a", "in/b.MP4": "out/b", "in/x/y/c.mkv": "out/x/y/c"
    }  # fmt: skip
    assert named(["in"])["in/x/y/c.mkv"] == "in/x/y/c"
    assert named(["in/x/../a.wav", "in"], Path("out"))["in/x/../a.wav"] == "out/a"
    assert len(named(["in/x/../a.wav", "in"])) == 3


def test_patterns_are_searched_when_no_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/a.wav", "in/b.mp3", "in/x/c.wav", "in/x/c.txt", "in/[1].wav")
    assert list(named(["in/*.wav"])) == ["in/[1].wav", "in/a.wav"]
    assert list(named(["in/[1].wav"])) == ["in/[1].wav"]
    assert named(["in/**/*.wav"], Path("out"))["in/x/c.wav"] == "out/x/c"
    assert list(named(["in/*"])) == ["in/[1].wav", "in/a.wav", "in/b.mp3", "in/x/c.wav"]


def test_an_address_is_called_so_and_not_searched_for():
    sources, (missing,) = find(["https://example.org/talk.mp3"])
    assert sources == [] and missing.reason.startswith("https://example.org/talk.mp3 is an address")
    assert "dragoman captions https://example.org/talk.mp3" in missing.reason


def test_what_is_not_there_is_told_and_the_rest_is_found(tmp_path):
    touch(tmp_path, "a.wav", "empty/readme.txt")
    names = ["none.mp4", "*.mkv", "empty", "a.wav"]
    sources, missing = find([tmp_path / name for name in names])
    assert [source.path.name for source in sources] == ["a.wav"]
    told = [entry.reason.removeprefix(f"{tmp_path}/") for entry in missing]
    assert told == [
        "none.mp4 does not exist: check the name",
        "*.mkv matches no audio or video file: check the pattern",
        "empty holds no audio or video file: name a file, or another folder",
    ]


def test_names_never_clash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "talk.mp4", "talk.wav", "Talk.mp3", "talk.mp4.mkv", "x/talk.mp4", "y/talk.mp4",
          "y/solo.mp4")  # fmt: skip
    found = named(["talk.mp4", "talk.wav", "Talk.mp3", "talk.mp4.mkv", "x", "y"], Path("out"))
    assert found == {
        "talk.mp4": "out/talk.mp4",
        "talk.wav": "out/talk.wav",
        "Talk.mp3": "out/Talk.mp3",
        "talk.mp4.mkv": "out/talk.mp4.mkv",
        "x/talk.mp4": "out/talk.mp4_2",
        "y/talk.mp4": "out/talk.mp4_3",
        "y/solo.mp4": "out/solo",
    }


def test_of_a_file_and_its_links_the_file_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/same.wav", "elsewhere/other.wav")
    (tmp_path / "in" / "link.wav").symlink_to("same.wav")
    (tmp_path / "in" / "only.wav").symlink_to("../elsewhere/other.wav")
    assert named(["in"]) == {"in/same.wav": "in/same", "in/only.wav": "in/only"}
    assert list(named(["in/link.wav", "in/same.wav"])) == ["in/same.wav"]
    assert list(named(["in/same.wav", "in/link.wav"])) == ["in/same.wav"]
    assert list(named(["in/link.wav"])) == ["in/link.wav"]
