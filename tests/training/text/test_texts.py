"""Drawing by split: nothing of evaluation, nor what is near to it, reaches training."""

import random
import re
from pathlib import Path

import pytest

from training.text import LANGUAGES, TableError, Texts
from training.text.leaks import NearIndex
from training.text.tables import FOLDER, frame_split, sentence_split

HEADER = "\t".join(LANGUAGES)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts()


def write(folder: Path, kind: str, topic: str, rows: list[list[str]]) -> None:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    lines = [HEADER, *("\t".join(row) for row in rows)]
    (folder / kind / f"{topic}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentence_of(split: str, pattern: str) -> str:
    """A sentence whose number puts it into the split."""
    return next(s for s in map(pattern.format, range(1_000)) if sentence_split(s) == split)


def test_the_tables_can_be_drawn_from(texts):
    rng = random.Random(1)
    allowed = re.compile(r"[¿¡]?[A-ZÀ-ÿŒœ][A-Za-zÀ-ÿŒœ .,?!¿¡'-]*[.?!]")
    for split in ("train", "dev", "test"):
        for _ in range(150):
            sentence = texts.draw(rng, split)
            assert set(sentence.texts) == set(LANGUAGES)
            for text in sentence.texts.values():
                assert allowed.fullmatch(text), (sentence.id, text)
                assert "  " not in text
    with pytest.raises(ValueError, match="unknown split"):
        texts.draw(rng, "validation")


def test_shares_of_the_splits():
    splits = [sentence_split(f"Sentence number {n}.") for n in range(5_000)]
    assert 0.03 < splits.count("dev") / 5_000 < 0.05
    assert 0.03 < splits.count("test") / 5_000 < 0.05
    frames = [frame_split(f"Frame number {n}.") for n in range(5_000)]
    assert 0.04 < frames.count("dev") / 5_000 < 0.06


def test_what_is_near_an_evaluation_sentence_is_not_trained(tmp_path):
    kept = sentence_of("test", "The old clock of room {} strikes twelve.")
    near = [
        kept.replace("old", "new"),
        kept.replace("old ", ""),
        kept.replace("clock", "kitchen clock"),
        kept.upper().replace(".", "!"),
    ]
    far = "The new clock of the house rings loudly."
    rows = [[text, *[text + f" {lang}" for lang in LANGUAGES[1:]]] for text in [kept, *near, far]]
    write(tmp_path, "sentences", "home", rows)
    write(tmp_path, "slots", "month", [["May"] * 5])
    texts = Texts(tmp_path)
    rng = random.Random(2)
    drawn = {texts.draw(rng, "train").texts["en"] for _ in range(300)}
    assert drawn == {far, "May."}
    assert [s.texts["en"] for s in texts.held_out("test")] == [kept]


def test_a_near_sentence_in_any_language_counts(tmp_path):
    kept = sentence_of("dev", "Number {} is here.")
    write(
        tmp_path,
        "sentences",
        "home",
        [
            [kept, "a b c d", "e f g h", "i j k l", "m n o p"],
            ["Far from all others.", "q r s t", "e f X h", "u v w x", "y z a b"],
            ["One more for training.", "1 2 3 4", "5 6 7 8", "9 10 11 12", "13 14 15 16"],
        ],
    )
    texts = Texts(tmp_path)
    leaking = next(s for s in texts.sentences["train"] if s.texts["en"].startswith("Far"))
    assert texts.leaks(leaking)
    assert sum(texts.leaks(s) for s in texts.sentences["train"]) == 1


def test_near_index():
    index = NearIndex(["It is raining in Rome."])
    assert all(
        index.near(s)
        for s in (
            "it is raining in rome",
            "It is raining in Paris!",
            "Is raining in Rome",
            "It is raining again in Rome",
        )
    )
    assert not any(
        index.near(s) for s in ("It was snowing in Rome.", "In Rome it is raining.", "Rome.")
    )


def test_held_out_fillers_stay_out_of_training_frames(texts, tmp_path):
    held = {f.id for fs in texts.fillers.values() for f in fs if f.id in texts._held_out}
    assert 0.02 < len(held) / sum(map(len, texts.fillers.values())) < 0.08
    frame = "Where did you leave {object:the} this morning?"
    assert frame_split(frame) == "train"
    write(tmp_path, "frames", "home", [[frame] * 5])
    write(tmp_path, "sentences", "home", [["Some sentence of training."] * 5])
    objects = (FOLDER / "slots" / "object.tsv").read_text(encoding="utf-8")
    (tmp_path / "slots").mkdir()
    (tmp_path / "slots" / "object.tsv").write_text(objects, encoding="utf-8")
    small = Texts(tmp_path)
    rng = random.Random(3)
    drawn = {small.draw(rng, "train").id for _ in range(2_000)}
    used = {name.split("/")[0] for name in drawn if name.startswith("object:")}
    used |= {name.split("/")[1] for name in drawn if name.startswith("home:") and "/" in name}
    assert used and not used & held and len(used) + len(held & used) > 50


def test_evaluation_fills_hardly_change_when_fillers_are_added(tmp_path):
    frame = next(
        f
        for f in map("Where did you leave {{object:the}} on day {}?".format, range(200))
        if frame_split(f) == "test"
    )
    names = [[f"thing {n}||things {n}", *[f"cosa {n}|f|cosas {n}"] * 4] for n in range(60)]
    said = []
    for count in (59, 60):
        folder = tmp_path / str(count)
        write(folder, "frames", "home", [[frame] * 5])
        write(folder, "sentences", "home", [["Some sentence of training."] * 5])
        write(folder, "slots", "object", names[:count])
        said.append({s.texts["en"] for s in Texts(folder).held_out("test")})
    assert len(said[0] & said[1]) >= 9 and all(len(s) >= 9 for s in said)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("en\tes\n", "header"),
        (HEADER + "\none\ttwo\n", "cells"),
        (HEADER + "\na\tb\tc\td\t \n", "filled cells"),
    ],
)
def test_faulty_tables_are_named(tmp_path, text, message):
    (tmp_path / "sentences").mkdir()
    (tmp_path / "sentences" / "bad.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "slots").mkdir()
    with pytest.raises(TableError, match=message) as error:
        Texts(tmp_path)
    assert "bad.tsv:" in str(error.value)
