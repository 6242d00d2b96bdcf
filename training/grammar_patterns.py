"""The sentence patterns of the bundled grammar, Spanish and English side by side.

Place: data of `training.grammar`, which explains the notation; the words are in
`training.grammar_es_en`. A pattern takes two lines, Spanish (a weight may stand before it) and
`= English`; pieces stand between `|`, and `1,2:` names the Spanish pieces an English piece needs.
"""

from training.grammar import Template

# The objects that each group of verbs takes: Spanish, English.
_OBJECTS = {
    "eat": [("{food.bare}", "{food.bare}")],
    "drink": [("{beverage}", "{beverage}")],
    "use": [
        ("{det@thing} {thing}", "{det@thing} {thing}"),
        ("{det@thing} {thing} {look@thing}", "{det@thing} {look@thing} {thing}"),
    ],
    "work": [
        ("{det@doc} {doc}", "{det@doc} {doc}"),
        ("{un@doc} {doc} {view@doc}", "{un@doc} {view@doc} {doc}"),
    ],
    "visit": [("{place}", "{place}"), ("{city}", "{city}")],
    "meet": [("a {person}", "{person}")],
    "study": [("{language}", "{language}")],
}

# VERB and OBJECT stand for each verb group and each of its objects.
_ACTIONS = """
{who} | {modal@who} | {VERB.inf} | OBJECT
    = {who} | {modal@who} | {VERB.inf} | OBJECT
{who} | {modal@who} | {VERB.inf} | OBJECT | {when}
    = {who} | {modal@who} | {VERB.inf} | OBJECT | {when}
{when} | {who} | {modal@who} | {VERB.inf} | OBJECT
    = {when} | {who} | {modal@who} | {VERB.inf} | OBJECT
{when} | {silent} {modal@silent} | {VERB.inf} | OBJECT
    = {when} | {silent} {modal@silent} | {VERB.inf} | OBJECT
{silent} {modal@silent} | {VERB.inf} | OBJECT | con {kin}
    = {silent} {modal@silent} | {VERB.inf} | OBJECT | with {kin}
{who} | {modalnot@who} | {VERB.inf} | OBJECT | {when}
    = {who} | {modalnot@who} | {VERB.inf} | OBJECT | {when}
{silent} {modalnot@silent} | {VERB.inf} | OBJECT | {because}
    = {silent} {modalnot@silent} | {VERB.inf} | OBJECT | {because}
{they} | {VERB.past@they} | OBJECT | {ago}
    = {they} | {VERB.past@they} | OBJECT | {ago}
{ago} | {they} | {VERB.past@they} | OBJECT
    = {ago} | {they} | {VERB.past@they} | OBJECT
{ago} | {me} {VERB.past@me} | OBJECT | en {city}
    = {ago} | {me} {VERB.past@me} | OBJECT | in {city}
¿{ask} | {VERB.inf} | OBJECT | {when}?
    = {ask} | {VERB.inf} | OBJECT | {when}?
¿cuándo {ask} | {VERB.inf} | OBJECT?
    = when {ask} | {VERB.inf} | OBJECT?
¿quién va a | {VERB.inf} | OBJECT | {when}?
    = who is going to | {VERB.inf} | OBJECT | {when}?
"""
_HABITS = """
{who} | {VERB.now@who} | OBJECT | {often}
    = {who} | {VERB.now@who} | OBJECT | {often}
{silent} {VERB.now@silent} | OBJECT | con {kin} | {often}
    = {silent} {VERB.now@silent} | OBJECT | with {kin} | {often}
"""
_NO_HABIT = ("use", "visit")

_FIXED = """
{greet} a todos | y bienvenidos | a {event}
    = {greet} to you all | and welcome | to {event}
{greet}, | me llamo {name} | y {live@me} {me} | en {city}
    = {greet}, | my name is {name} | and {me} {live@me} | in {city}
me llamo {name} | y {ser@me} {me} | de {city}
    = my name is {name} | and {me} {ser@me} | from {city}
soy de {city} | pero {live@me} {me} | en {city#2}
    = I am from {city} | but {me} {live@me} | in {city#2}
muchas gracias a todos | {thanks}
    = thank you all very much | {thanks}
muchas gracias, {name}, | {thanks}
    = thank you very much, {name}, | {thanks}
2 {event} | {starts} | {day} | {clock}
    = {event} | {starts} | {day} | {clock}
{event} | en {city} | {starts} | {clock}
    = {event} | in {city} | {starts} | {clock}
{event} | es | {day} | {clock}
    = {event} | is | {day} | {clock}
{event} | va a ser | en {city} | {when}
    = {event} | is going to be | in {city} | {when}
{event} | va a durar | {n} {span}
    = {event} | is going to last | {n} {span}
{event} | con {person} | es | muy {view@event}
    = {event} | with {person} | is | very {view@event}
¿a qué hora | {starts} | {event} | con {person}?
    = what time | 1:does | 2:{event} | 3:with {person} | 1:{starts.inf}?
¿a qué hora | {starts} | {event}?
    = what time | 1:does | 2:{event} | 1:{starts.inf}?
¿cuándo es | {event} | con {person}?
    = when is | {event} | with {person}?
hoy | vamos a | hablar | de {topic}
    = today | we are going to | talk | about {topic}
2 {when} | {silent} {modal@silent} | hablar | de {topic}
    = {when} | {silent} {modal@silent} | talk | about {topic}
{who} | {modal@who} | hablar | de {topic} | {when}
    = {who} | {modal@who} | talk | about {topic} | {when}
por favor, | {task} | y esperen | {n} minutos
    = please, | {task} | and wait | {n} minutes
por favor, | abran el libro | en la página {n}
    = please, | open the book | on page {n}
el ejercicio {n} | es | muy {view@exercise}
    = exercise {n} | is | very {view@exercise}
no entiendo | {point} | número {n}
    = I do not understand | {point} | number {n}
no entiendo | {point}, | ¿puede repetir, por favor?
    = I do not understand | {point}, | can you repeat, please?
¿puede repetir | {point}, | por favor?
    = can you repeat | {point}, | please?
¿tienen alguna pregunta | sobre {topic}?
    = do you have any questions | about {topic}?
para {deadline} | {silent} {must@silent} | leer | {n} páginas
    = for {deadline} | {silent} {must@silent} | read | {n} pages
estoy de acuerdo | con {person} | y con {person#2}
    = I agree | with {person} | and with {person#2}
creo que | {event} | con {person} | es | muy {view@event}
    = I think that | {event} | with {person} | is | very {view@event}
2 necesitamos | más tiempo | para | {work.inf} | {the@doc} {doc}
    = we need | more time | to | {work.inf} | {the@doc} {doc}
tenemos | un problema | con {the@thing} {thing} {look@thing}
    = we have | a problem | with {the@thing} {look@thing} {thing}
{person} | {cannot@person} venir | a {event} | {when}
    = {person} | {cannot@person} come | to {event} | {when}
2 {person} | {say@person} que | {event} | {starts} | {clock}
    = {person} | {say@person} that | {event} | {starts} | {clock}
{they} | {arrived@they} tarde | a {event} | {ago}
    = {they} | {arrived@they} late | for {event} | {ago}
{now} hace | {weather} | en {city}
    = {now} it is | {weather} | in {city}
{season} hace | {weather} | en {city}
    = {season} it is | {weather} | in {city}
en {month} siempre hace | {weather} | en {city}
    = in {month} it is always | {weather} | in {city}
2 {when} | va a | {rain} | en {city}
    = {when} | it is going to | {rain} | in {city}
{when} | va a hacer | {hotcold} | en {city}
    = {when} | it is going to be | {hotcold} | in {city}
2 creo que | {when} | va a | {rain} | en {city}
    = I think that | {when} | it is going to | {rain} | in {city}
{ago} | {rained} mucho | en {city}
    = {ago} | it {rained} a lot | in {city}
{now} | el cielo está | {sky} | en {city}
    = {now} | the sky is | {sky} | in {city}
la temperatura | en {city} | es de | {n} grados
    = the temperature | in {city} | is | {n} degrees
2 si {raining} | {deadday}, | {silent} {modalnot@silent} | visitar | {place}
    = if {raining} | {deadday}, | {silent} {modalnot@silent} | visit | {place}
2 {transport} | a {city} | {leaves} | {day} | {clock}
    = {transport} | to {city} | {leaves} | {day} | {clock}
{transport} | de {city} | {leaves} | {clock}
    = {transport} | from {city} | {leaves} | {clock}
{transport} | de {city} | llega | con {n} minutos de retraso
    = {transport} | from {city} | arrives | {n} minutes late
¿a qué hora | {leaves} | {transport} | de {city}?
    = what time | 1:does | 2:{transport} | 3:from {city} | 1:{leaves.inf}?
¿cuánto {askcost@thing} | {the@thing} {thing} {look@thing}?
    = how much {askcost@thing} | {the@thing} {look@thing} {thing} | 0,1:cost?
2 {the@thing} {thing} | {cost@thing} | {n} euros
    = {the@thing} {thing} | {cost@thing} | {n} euros
{the@thing} {thing} {look@thing} | {cost@thing} | {n} euros
    = {the@thing} {look@thing} {thing} | {cost@thing} | {n} euros
2 {the@thing} {thing} | {isa@thing} | muy {price@thing}
    = {the@thing} {thing} | {isa@thing} | very {price@thing}
2 {the@thing} {thing} | {is@thing} | {where}
    = {the@thing} {thing} | {is@thing} | {where}
¿dónde {is@thing} | {the@thing} {thing} {look@thing}?
    = where {is@thing} | {the@thing} {look@thing} {thing}?
no encuentro | {the@thing} {thing} {look@thing}
    = I cannot find | {the@thing} {look@thing} {thing}
perdón, | ¿dónde está | {place}?
    = excuse me, | where is | {place}?
¿sabes dónde | está | {place}?
    = do you know where | 2:{place} | 1:is?
{place} | está | {nearby} {place#2}
    = {place} | is | {nearby} {place#2}
perdón, | ¿hay {un@place} {place.bare} | {nearby} {place#2}?
    = excuse me, | is there {un@place} {place.bare} | {nearby} {place#2}?
{place} | abre | {hour} | y cierra | {hour#2}
    = {place} | opens | {hour} | and closes | {hour#2}
{place} | está {open@place} | {closedday}
    = {place} | is {open@place} | {closedday}
gire | {side} | después de {place} | de {city}
    = turn | {side} | after {place} | in {city}
siga todo recto | {n} minutos | hasta {place}
    = go straight ahead | {n} minutes | to {place}
quiero | reservar | una habitación | para {n} {stay}
    = I want to | book | a room | for {n} {stay}
quisiera | {ticket} | a {city} | para {deadline}
    = I would like | {ticket} | to {city} | for {deadline}
2 {who} | {modal@who} | viajar | a {city} | {by}
    = {who} | {modal@who} | travel | to {city} | {by}
{when} | {silent} {modal@silent} | viajar | a {city} | {by}
    = {when} | {silent} {modal@silent} | travel | to {city} | {by}
prefiero | viajar | a {city} | {by}
    = I prefer | to travel | to {city} | {by}
{they} | {arrived@they} | a {city} | {ago} | {by}
    = {they} | {arrived@they} | in {city} | {ago} | {by}
{ago} | {who} | {went@who} | a {city} | {by}
    = {ago} | {who} | {went@who} | to {city} | {by}
{ago} | {silent} {went@silent} a {place} | con {kin}
    = {ago} | {silent} {went@silent} to {place} | with {kin}
{silent} {go@silent} a {place} | {by} | con {kin}
    = {silent} {go@silent} to {place} | {by} | with {kin}
¿por qué no vamos | a {place} | {when}?
    = why don't we go | to {place} | {when}?
hay {n} | {crowd} | en {room}
    = there are {n} | {crowd} | in {room}
{who} | {live@who} | en {city} | con {kin}
    = {who} | {live@who} | in {city} | with {kin}
{who} | {toil@who} | en {city} | {often}
    = {who} | {toil@who} | in {city} | {often}
{who} | {toil@who} | cerca de {place}
    = {who} | {toil@who} | near {place}
{who} | {ser@who} | {job@who} | en {city}
    = {who} | {ser@who} | {job@who} | in {city}
{who} | {aged@who} {n} años
    = {who} | {aged@who} {n} years old
2 {who} | {have@who} {un@thing} {thing} {look@thing}
    = {who} | {have@who} {un@thing} {look@thing} {thing}
2 {who} | {be@who} | muy {mood@who} | {now}
    = {who} | {be@who} | very {mood@who} | {now}
{who} | {be@who} | {mood@who} | {because}
    = {who} | {be@who} | {mood@who} | {because}
{now} | {silent} {be@silent} | muy {mood@silent}
    = {now} | {silent} {be@silent} | very {mood@silent}
{who} | {speak@who} | {language} | y un poco de {language#2}
    = {who} | {speak@who} | {language} | and a little {language#2}
me {please@liked} | {liked} | pero prefiero | {liked#2}
    = I {please@liked} | {liked} | but I prefer | {liked#2}
no me {please@liked} | {liked} | ni {liked#2}
    = I do not {please@liked} | {liked} | or {liked#2}
2 {taster} {like@taster} {please@liked} | {liked}
    = {taster} {like@taster} | {liked}
2 {taster.no} {like@taster} {please@liked} | {liked}
    = {taster} {like.not@taster} | {liked}
¿te {please@liked} | {liked} | o prefieres | {liked#2}?
    = do you {please@liked} | {liked} | or do you prefer | {liked#2}?
me gusta | {hobby} | con {kin} | {often}
    = I like | to {hobby} | with {kin} | {often}
¿quieres | {hobby} | con {kin} | {when}?
    = do you want to | {hobby} | with {kin} | {when}?
quisiera | {un@dish} {dish} | y {glass}, | por favor
    = I would like | {un@dish} {dish} | and {glass}, | please
para {name} | {un@dish} {dish} | y para mí | {glass}
    = for {name} | {un@dish} {dish} | and for me | {glass}
{food} | {is@food} | muy {taste@food}
    = the {food.bare} | {is@food} | very {taste@food}
nos vemos | {day} | {clock} | en {city}
    = see you | {day} | {clock} | in {city}
nos vemos | {when} | en {city}
    = see you | {when} | in {city}
¿puedes llamar | a {person} | {when} | {clock}?
    = can you call | {person} | {when} | {clock}?
mi número | es el | {n} {n#2} {n#3}
    = my number | is | {n} {n#2} {n#3}
"""


def _templates() -> list[Template]:
    templates = [_template(pattern) for pattern in _patterns(_FIXED)]
    for verb, objects in _OBJECTS.items():
        patterns = _patterns(_ACTIONS)
        if verb not in _NO_HABIT:
            patterns += _patterns(_HABITS)
        for pattern in patterns:
            for spanish, english in objects:
                es, en = (text.replace("VERB", verb) for text in pattern)
                pair = es.replace("OBJECT", spanish), en.replace("OBJECT", english)
                templates.append(_template(pair, 0.9 / len(objects)))
    return templates


def _patterns(table: str) -> list[tuple[str, str]]:
    """Pairs of lines: a text, and its translation after a `=`."""
    lines = table.strip().splitlines()
    return [
        (spanish, english.strip().removeprefix("= "))
        for spanish, english in zip(lines[::2], lines[1::2], strict=True)
    ]


def _template(pattern: tuple[str, str], weight: float = 1.0) -> Template:
    spanish, english = pattern
    if spanish[0].isdigit():
        number, spanish = spanish.split(" ", 1)
        weight = float(number)
    return Template({"es": _stop(spanish), "en": _stop(english)}, weight)


def _stop(text: str) -> str:
    return text if text.endswith("?") else text + "."


TEMPLATES = _templates()
