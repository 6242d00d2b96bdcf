"""Sentences with slots: parsing and filling.

Place: between the tables and `training.text.texts`. A cell such as
"¿Dónde dejaste {object:the}? Es {adj@object}, [nuevo/nueva@object]." has slots `{category:form}`,
`{category#2:form}` for a second draw of a category, `{adj@object}` for an adjective that agrees
with a slot, and `[masculine/feminine@slot]` for any other word that does.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from training.text.nouns import COUNTED_FORMS, NOUN_FORMS, attach, is_feminine, phrase
from training.text.tables import LANGUAGES, Entry, Filler, Row, TableError

_MARK = re.compile(
    r"\{(?P<category>\w+)(?P<number>#\d)?(?::(?P<form>\w+))?(?:@(?P<noun>\w+(?:#\d)?))?\}"
    r"|\[(?P<masculine>[^\]/]*)/(?P<feminine>[^\]/]*)@(?P<agrees>\w+(?:#\d)?)\]"
)
_RELATIVES = "relative"


@dataclass(frozen=True)
class Slot:
    """name: category and number, such as "object" or "city#2"; agrees: the slot that decides an
    adjective's gender, or ""; adjective: the slot whose adjective stands between article and noun,
    as in English, or "".
    """

    name: str
    category: str
    form: str
    agrees: str
    adjective: str = ""


@dataclass(frozen=True)
class Agreement:
    """A word that follows the gender of a slot's noun."""

    masculine: str
    feminine: str
    slot: str


@dataclass(frozen=True)
class Frame:
    """cells: one a language, each a sequence of plain text, slots and agreements."""

    row: Row
    cells: tuple[tuple[str | Slot | Agreement, ...], ...]

    @property
    def slots(self) -> dict[str, str]:
        """Categories by slot name, in a fixed order."""
        found = {p.name: p.category for p in self.cells[1] if isinstance(p, Slot)}
        return dict(sorted(found.items()))

    def takes(self, name: str, filler: Filler) -> bool:
        """Whether the filler has every form that the slot asks for in some language."""
        for entry, cell in zip(filler.entries, self.cells, strict=True):
            for piece in cell:
                if not isinstance(piece, Slot) or piece.name != name:
                    continue
                if piece.form in COUNTED_FORMS and not entry.plural:
                    return False
        return True

    def fill(self, fillers: Mapping[str, Filler]) -> dict[str, str]:
        """The sentence in each language; fillers: one for each name in `slots`."""
        return {
            language: _fill(language, cell, {n: f.entries[i] for n, f in fillers.items()})
            for i, (language, cell) in enumerate(zip(LANGUAGES, self.cells, strict=True))
        }


def parse(row: Row) -> Frame:
    """Raises TableError when a mark cannot be read or the slots of two languages differ."""
    cells = tuple(_parse(row, cell) for cell in row.cells)
    names = [sorted(p.name for p in cell if isinstance(p, Slot)) for cell in cells]
    for language, found in zip(LANGUAGES, names, strict=True):
        if sorted(set(found)) != sorted(set(names[0])) or not found:
            raise TableError(
                f"{row.place}: expected in {language} the slots of {LANGUAGES[0]}, {names[0]}, "
                f"got {found}"
            )
    return Frame(row, (_adjectives_first(cells[0]), *cells[1:]))


def _adjectives_first(
    cell: tuple[str | Slot | Agreement, ...],
) -> tuple[str | Slot | Agreement, ...]:
    """The English cell with each adjective that is written behind its noun put before it."""
    pieces = list(cell)
    for place in range(len(pieces) - 2):
        noun, space, adjective = pieces[place : place + 3]
        if not (isinstance(noun, Slot) and isinstance(adjective, Slot)) or space != " ":
            continue
        if adjective.agrees == noun.name:
            merged = dataclasses.replace(noun, adjective=adjective.name)
            return _adjectives_first((*pieces[:place], merged, *pieces[place + 3 :]))
    return cell


def _parse(row: Row, cell: str) -> tuple[str | Slot | Agreement, ...]:
    pieces: list[str | Slot | Agreement] = []
    position = 0
    for match in _MARK.finditer(cell):
        pieces.append(cell[position : match.start()])
        position = match.end()
        if match["category"]:
            name, form = match["category"] + (match["number"] or ""), match["form"] or ""
            if form not in NOUN_FORMS:
                raise TableError(f"{row.place}: expected a form among {NOUN_FORMS}, got {form!r}")
            pieces.append(Slot(name, match["category"], form, match["noun"] or ""))
        else:
            pieces.append(Agreement(match["masculine"], match["feminine"], match["agrees"]))
    pieces.append(cell[position:])
    plain = "".join(piece for piece in pieces if isinstance(piece, str))
    names = {piece.name for piece in pieces if isinstance(piece, Slot)}
    nouns = {p.agrees for p in pieces if isinstance(p, Slot)} - {""}
    nouns |= {p.slot for p in pieces if isinstance(p, Agreement)}
    if re.search(r"[{}\[\]@|#]", plain) or not nouns <= names:
        raise TableError(
            f"{row.place}: cannot read {cell!r}: expected {{category:form}} or "
            f"[masculine/feminine@slot], and agreement with a slot of the cell, got {nouns - names}"
        )
    return tuple(piece for piece in pieces if piece != "")


def _fill(
    language: str, cell: tuple[str | Slot | Agreement, ...], entries: Mapping[str, Entry]
) -> str:
    text = ""
    for piece in cell:
        if isinstance(piece, str):
            text += piece
        elif isinstance(piece, Agreement):
            feminine = is_feminine(entries[piece.slot])
            text += piece.feminine if feminine else piece.masculine
        else:
            text = _put_slot(language, text, piece, entries)
    return _capitalize(text.replace("*", ""))


def _put_slot(language: str, text: str, slot: Slot, entries: Mapping[str, Entry]) -> str:
    entry = entries[slot.name]
    if slot.adjective:
        before = entries[slot.adjective].text
        entry = Entry(f"{before} {entry.text}", entry.gender, f"{before} {entry.plural}")
    if slot.agrees and entry.feminine:
        return text + (entry.feminine if is_feminine(entries[slot.agrees]) else entry.text)
    is_noun = bool(entry.plural or entry.gender) and slot.category != "name"
    if not slot.form:
        return attach(language, text, entry.text, is_noun)
    return attach(
        language, text, phrase(language, entry, slot.form, slot.category == _RELATIVES), is_noun
    )


def _capitalize(text: str) -> str:
    """Upper case for the first letter of the text and of each sentence in it."""
    return re.sub(r"(^|[.?!] )([¿¡]?)(\w)", lambda m: m[1] + m[2] + m[3].upper(), text)
