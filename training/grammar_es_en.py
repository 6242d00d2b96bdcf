"""The words of the bundled grammar: Spanish, with English as the first translation.

Place: data of `training.grammar`, in the notation of `training.grammar_entries`; the sentence
patterns are in `training.grammar_patterns`. Everyday talk, meetings, lessons, travel, weather.

Unusual: the wording is chosen for live translation. English keeps the Spanish order wherever it is
good English ("at three thirty", not "at half past three"), and a Spanish beginning has one English.
"""

from collections.abc import Sequence

from training.grammar import Entry, Forms
from training.grammar_entries import (
    agreeing,
    combined,
    entry,
    nouns,
    persons,
    plain,
    subjects,
    tasters,
    verb,
)

_DAYS = (
    ("lunes", "Monday"),
    ("martes", "Tuesday"),
    ("miércoles", "Wednesday"),
    ("jueves", "Thursday"),
    ("viernes", "Friday"),
    ("sábado", "Saturday"),
    ("domingo", "Sunday"),
)
_ON_DAY = [entry(f"el {es}", f"on {en}") for es, en in _DAYS]

_PEOPLE = """
    mi hermana = my sister : 3s fs; mi hermano = my brother : 3s ms; mi madre = my mother : 3s fs
    mi padre = my father : 3s ms; mi amiga = my friend : 3s fs; mi jefe = my boss : 3s ms
    mi vecina = my neighbor : 3s fs; mi abuela = my grandmother : 3s fs
    mi hija = my daughter : 3s fs; mi hijo = my son : 3s ms; la profesora = the teacher : 3s fs
    el profesor = the teacher : 3s ms; la directora = the director : 3s fs
    el médico = the doctor : 3s ms; mis padres = my parents : 3p mp
    mis amigos = my friends : 3p mp; los niños = the children : 3p mp
    los estudiantes = the students : 3p mp; mis compañeros = my colleagues : 3p mp
    los clientes = the clients : 3p mp
"""
_NAMES = """
    Ana = Ana : 3s fs; Carlos = Carlos : 3s ms; Marta = Marta : 3s fs; Luis = Luis : 3s ms
    Elena = Elena : 3s fs
"""
_PRONOUNS = """
        ella = she : 3s fs; él = he : 3s ms; ellos = they : 3p mp; nosotros = we : 1p mp
    """
_SILENT = "= I : 1s ms; = I : 1s fs; = we : 1p mp"
_YOU = "= you : 2s ms; = you : 2s fs"

_FOOD = """
    el arroz = rice : ms; el pescado = fish : ms; el pollo = chicken : ms; la carne = meat : fs
    la fruta = fruit : fs; el pan = bread : ms; el queso = cheese : ms; la sopa = soup : fs
    la ensalada = salad : fs; los huevos = eggs : mp; las manzanas = apples : fp
    las naranjas = oranges : fp; las verduras = vegetables : fp; el chocolate = chocolate : ms
"""
_LIKED = """
    la música = music : fs; el cine = cinema : ms; el fútbol = football : ms
    el invierno = winter : ms; el verano = summer : ms; los perros = dogs : mp
    los gatos = cats : mp; las flores = flowers : fp; la playa = the beach : fs
    la ciudad = the city : fs; el café = coffee : ms; el té = tea : ms
"""
_DRINKS = """
    café = coffee; té = tea; agua fría = cold water; leche = milk; zumo de naranja = orange juice
    vino = wine
"""

_THINGS = """
    coche = car : ms; casa = house : fs; mesa = table : fs; silla = chair : fs
    teléfono = phone : ms; reloj = watch : ms; ordenador = computer : ms; bolsa = bag : fs
    camisa = shirt : fs; bicicleta = bicycle : fs; cámara = camera : fs; maleta = suitcase : fs
    abrigo = coat : ms; zapatos = shoes : mp; llaves = keys : fp; regalo = present : ms
    lámpara = lamp : fs; vestido = dress : ms
"""
_DOCUMENTS = """
        libro = book : ms; carta = letter : fs; informe = report : ms; mensaje = message : ms
        documento = document : ms; proyecto = project : ms; contrato = contract : ms
        artículo = article : ms; lista = list : fs
    """
_PLACES = """
    la estación = the station : fs; el aeropuerto = the airport : ms
    el hospital = the hospital : ms; el banco = the bank : ms; la farmacia = the pharmacy : fs
    el museo = the museum : ms; el parque = the park : ms; el hotel = the hotel : ms
    el restaurante = the restaurant : ms; la escuela = the school : fs
    la oficina = the office : fs; la biblioteca = the library : fs; el mercado = the market : ms
    la plaza = the square : fs; la universidad = the university : fs
    el supermercado = the supermarket : ms; la iglesia = the church : fs
    el teatro = the theater : ms
"""
_EVENTS = """
    la reunión = the meeting : fs; la clase = the class : fs; la película = the movie : fs
    la conferencia = the conference : fs; el concierto = the concert : ms
    el partido = the game : ms; el curso = the course : ms; el examen = the exam : ms
    la fiesta = the party : fs; la cena = the dinner : fs; la presentación = the presentation : fs
    la entrevista = the interview : fs
"""
_CITIES = """
    Madrid = Madrid; Barcelona = Barcelona; Valencia = Valencia; Sevilla = Seville
    Granada = Granada; Bogotá = Bogotá; Lima = Lima; Buenos Aires = Buenos Aires; París = Paris
    Londres = London; Roma = Rome; Nueva York = New York
"""

_IN_TIME = """
    mañana = tomorrow; mañana por la mañana = tomorrow morning
    mañana por la tarde = tomorrow afternoon; esta tarde = this afternoon; esta noche = tonight
    la próxima semana = next week; el próximo mes = next month; este fin de semana = this weekend
    después de comer = after lunch
"""
_AGO = """
    ayer = yesterday; anoche = last night; la semana pasada = last week
    el mes pasado = last month; el año pasado = last year; esta mañana = this morning
    ayer por la tarde = yesterday afternoon; el fin de semana pasado = last weekend
"""
_OFTEN = """
    todos los días = every day; cada semana = every week; todas las mañanas = every morning
    en verano = in summer; los fines de semana = on weekends; por la noche = at night
    a veces = sometimes
"""
_CLOSED_DAYS = """
        los lunes = on Mondays; los sábados = on Saturdays; los domingos = on Sundays; hoy = today
    """

_VERBS = {
    "eat": [
        verb("comer como comes come comemos comen", "comí comiste comió comieron", "eat/eats/ate"),
        verb(
            "preparar preparo preparas prepara preparamos preparan",
            "preparé preparaste preparó prepararon",
            "prepare/prepares/prepared",
        ),
    ],
    "drink": [
        verb(
            "beber bebo bebes bebe bebemos beben",
            "bebí bebiste bebió bebieron",
            "drink/drinks/drank",
        ),
    ],
    "use": [
        verb(
            "comprar compro compras compra compramos compran",
            "compré compraste compró compraron",
            "buy/buys/bought",
        ),
        verb(
            "buscar busco buscas busca buscamos buscan",
            "busqué buscaste buscó buscaron",
            "look for/looks for/looked for",
        ),
        verb(
            "vender vendo vendes vende vendemos venden",
            "vendí vendiste vendió vendieron",
            "sell/sells/sold",
        ),
    ],
    "work": [
        verb("leer leo lees lee leemos leen", "leí leíste leyó leyeron", "read/reads/read"),
        verb(
            "escribir escribo escribes escribe escribimos escriben",
            "escribí escribiste escribió escribieron",
            "write/writes/wrote",
        ),
        verb(
            "terminar termino terminas termina terminamos terminan",
            "terminé terminaste terminó terminaron",
            "finish/finishes/finished",
        ),
        verb(
            "enviar envío envías envía enviamos envían",
            "envié enviaste envió enviaron",
            "send/sends/sent",
        ),
    ],
    "visit": [
        verb(
            "visitar visito visitas visita visitamos visitan",
            "visité visitaste visitó visitaron",
            "visit/visits/visited",
        ),
    ],
    "meet": [
        verb(
            "llamar llamo llamas llama llamamos llaman",
            "llamé llamaste llamó llamaron",
            "call/calls/called",
        ),
        verb(
            "ayudar ayudo ayudas ayuda ayudamos ayudan",
            "ayudé ayudaste ayudó ayudaron",
            "help/helps/helped",
        ),
    ],
    "study": [
        verb(
            "estudiar estudio estudias estudia estudiamos estudian",
            "estudié estudiaste estudió estudiaron",
            "study/studies/studied",
        ),
    ],
}

_MODALS = [
    persons(
        "voy a/vas a/va a/vamos a/van a",
        "am going to/are going to/is going to/are going to/are going to",
    ),
    persons(
        "tengo que/tienes que/tiene que/tenemos que/tienen que",
        "have to/have to/has to/have to/have to",
    ),
    persons("quiero/quieres/quiere/queremos/quieren", "want to/want to/wants to/want to/want to"),
    persons("puedo/puedes/puede/podemos/pueden", "can"),
    persons(
        "necesito/necesitas/necesita/necesitamos/necesitan",
        "need to/need to/needs to/need to/need to",
    ),
]
_MODALS_NOT = [
    persons(
        "no voy a/no vas a/no va a/no vamos a/no van a",
        "am not going to/are not going to/is not going to/are not going to/are not going to",
    ),
    persons("no puedo/no puedes/no puede/no podemos/no pueden", "cannot"),
    persons(
        "no quiero/no quieres/no quiere/no queremos/no quieren",
        "do not want to/do not want to/does not want to/do not want to/do not want to",
    ),
]

_HOURS = plain("""
    a la una = at one; a las dos = at two; a las tres = at three; a las cuatro = at four
    a las cinco = at five; a las seis = at six; a las siete = at seven; a las ocho = at eight
    a las nueve = at nine; a las diez = at ten; a las once = at eleven; a las doce = at twelve
""")
_LATER = combined(
    _HOURS, plain("y media = thirty; y cuarto = fifteen; y diez = ten; y veinte = twenty")
)
_NUMBERS = plain("""
    dos = two; tres = three; cuatro = four; cinco = five; seis = six; siete = seven; ocho = eight
    nueve = nine; diez = ten; once = eleven; doce = twelve; trece = thirteen; catorce = fourteen
    quince = fifteen; dieciséis = sixteen; diecisiete = seventeen; dieciocho = eighteen
    diecinueve = nineteen; veinte = twenty; treinta = thirty; cuarenta = forty; cincuenta = fifty
    sesenta = sixty; cien = one hundred
""")

# The people and things of each slot. Names of slots are those that the patterns use.
CATEGORIES: dict[str, Sequence[Entry]] = {
    "who": subjects(_PEOPLE)
    + subjects(_NAMES)
    + subjects(_PRONOUNS)
    + subjects(
        """
        mi hermano y yo = my brother and I : 1p mp; Ana y Carlos = Ana and Carlos : 3p mp
    """
    ),
    "they": subjects(_PEOPLE) + subjects(_NAMES) + subjects("ella = she : 3s fs; él = he : 3s ms"),
    "person": subjects(_PEOPLE) + subjects(_NAMES),
    "kin": subjects(_PEOPLE),
    "name": subjects(_NAMES),
    "silent": subjects(_SILENT),
    "me": subjects("= I : 1s ms"),
    "you": subjects(_YOU),
    "modal": _MODALS,
    "modalnot": _MODALS_NOT,
    "future": [_MODALS[0]],
    "ask": plain(
        """
        vas a = are you going to; tienes que = do you have to; quieres = do you want to
        puedes = can you
    """
    ),
    "food": nouns(_FOOD),
    "liked": nouns(_FOOD) + nouns(_LIKED),
    "beverage": plain(_DRINKS),
    "thing": nouns(_THINGS),
    "doc": nouns(_DOCUMENTS),
    "place": nouns(_PLACES),
    "event": nouns(_EVENTS),
    "city": plain(_CITIES),
    "language": plain(
        """
        inglés = English; francés = French; alemán = German; italiano = Italian; español = Spanish
    """
    ),
    "when": plain(_IN_TIME) + _ON_DAY,
    "ago": plain(_AGO) + _ON_DAY,
    "day": _ON_DAY
    + plain("""
        mañana = tomorrow; esta tarde = this afternoon; hoy = today; esta noche = tonight
    """),
    "often": plain(_OFTEN),
    "closedday": plain(_CLOSED_DAYS),
    "clock": 3 * _HOURS + _LATER,
    "hour": _HOURS,
    "n": _NUMBERS,
    "det": agreeing("""
        el la los las = the; un una unos unas = a / some; mi mi mis mis = my
        este esta estos estas = this / these; nuestro nuestra nuestros nuestras = our
    """),
    "the": agreeing(
        "el la los las = the; mi mi mis mis = my; este esta estos estas = this / these"
    ),
    "un": agreeing("un una unos unas = a / some"),
    "look": agreeing("""
        rojo roja rojos rojas = red; negro negra negros negras = black; azul azules = blue
        blanco blanca blancos blancas = white; nuevo nueva nuevos nuevas = new
        viejo vieja viejos viejas = old; pequeño pequeña pequeños pequeñas = small
        grande grandes = big
    """),
    "price": agreeing("""
        caro cara caros caras = expensive; barato barata baratos baratas = cheap
        bonito bonita bonitos bonitas = pretty; viejo vieja viejos viejas = old
    """),
    "view": agreeing("""
        importante importantes = important; interesante interesantes = interesting
        difícil difíciles = difficult; largo larga largos largas = long
        aburrido aburrida aburridos aburridas = boring
    """),
    "mood": agreeing("""
        cansado cansada cansados cansadas = tired; contento contenta contentos contentas = happy
        enfermo enferma enfermos enfermas = sick; ocupado ocupada ocupados ocupadas = busy
        preocupado preocupada preocupados preocupadas = worried
        nervioso nerviosa nerviosos nerviosas = nervous; triste tristes = sad
    """),
    "job": agreeing("""
        ingeniero ingeniera ingenieros ingenieras = a engineer / engineers
        abogado abogada abogados abogadas = a lawyer / lawyers
        enfermero enfermera enfermeros enfermeras = a nurse / nurses
    """),
    "open": agreeing(
        """
        abierto abierta abiertos abiertas = open; cerrado cerrada cerrados cerradas = closed
    """
    ),
    "be": [persons("estoy/estás/está/estamos/están", "am/are/is/are/are")],
    "ser": [persons("soy/eres/es/somos/son", "am/are/is/are/are")],
    "have": [persons("tengo/tienes/tiene/tenemos/tienen", "have/have/has/have/have")],
    "aged": [persons("tengo/tienes/tiene/tenemos/tienen", "am/are/is/are/are")],
    "live": [persons("vivo/vives/vive/vivimos/viven", "live/live/lives/live/live")],
    "toil": [persons("trabajo/trabajas/trabaja/trabajamos/trabajan", "work/work/works/work/work")],
    "go": [persons("voy/vas/va/vamos/van", "am going/are going/is going/are going/are going")],
    "speak": [persons("hablo/hablas/habla/hablamos/hablan", "speak/speak/speaks/speak/speak")],
    "went": [persons("fui/fuiste/fue/fuimos/fueron", "went")],
    "arrived": [persons("llegué/llegaste/llegó//llegaron", "arrived")],
    "must": [_MODALS[1]],
    "cannot": [_MODALS_NOT[1]],
    "say": [persons("digo/dices/dice/decimos/dicen", "say/say/says/say/say")],
    "deadday": plain("mañana = tomorrow; esta tarde = this afternoon; esta noche = tonight")
    + _ON_DAY,
    "exercise": nouns("ejercicio = exercise : ms"),
    "is": agreeing("está están = is / are"),
    "isa": agreeing("es son = is / are"),
    "cost": agreeing("cuesta cuestan = costs / cost"),
    "askcost": agreeing("cuesta cuestan = does / do"),
    "please": agreeing("gusta gustan = like"),
    "taster": tasters("""
        mi hermana = my sister : 3s; mi hermano = my brother : 3s; mi madre = my mother : 3s
        Ana = Ana : 3s; mi padre = my father : 3s; Carlos = Carlos : 3s; mi jefe = my boss : 3s
        la profesora = the teacher : 3s; los niños = the children : 3p
        mis padres = my parents : 3p; mis amigos = my friends : 3p
    """),
    "like": [
        {
            "es": Forms({"text": ""}),
            "en": Forms(
                {
                    "text.3s": "likes",
                    "text.3p": "like",
                    "not.3s": "does not like",
                    "not.3p": "do not like",
                }
            ),
        }
    ],
    "weather": plain("""
        mucho frío = very cold; mucho calor = very hot; mucho sol = very sunny
        mucho viento = very windy; frío = cold; calor = hot; buen tiempo = nice
    """),
    "hotcold": plain("""
        mucho frío = very cold; mucho calor = very hot; mucho viento = very windy
    """),
    "now": plain(
        """
        hoy = today; esta mañana = this morning; esta tarde = this afternoon; esta noche = tonight
    """
    ),
    "deadline": [
        entry(es, en)
        for es, en in (
            *((f"el {d}", e) for d, e in _DAYS),
            ("mañana", "tomorrow"),
            ("la próxima semana", "next week"),
            ("el próximo mes", "next month"),
        )
    ],
    "season": plain(
        """
        en invierno = in winter; en verano = in summer; en primavera = in spring
        en otoño = in autumn
    """
    ),
    "month": plain(
        """
        enero = January; febrero = February; marzo = March; abril = April; mayo = May
        junio = June; julio = July; agosto = August; septiembre = September; octubre = October
        noviembre = November; diciembre = December
    """
    ),
    "rain": plain("llover = rain; nevar = snow"),
    "rained": plain("llovió = rained; nevó = snowed"),
    "raining": plain(
        """
        llueve = it rains; nieva = it snows; hace frío = it is cold; hace calor = it is hot
    """
    ),
    "sky": plain("nublado = cloudy; despejado = clear; gris = gray"),
    "topic": plain("""
        la historia de España = the history of Spain; el clima = the climate; la música = music
        la ciencia = science; el presupuesto = the budget; el nuevo proyecto = the new project
        la salud = health; la economía = the economy; los resultados = the results
        la energía solar = solar energy; el viaje a Madrid = the trip to Madrid
        la tecnología = technology
    """),
    "point": plain("""
        la pregunta = the question; el ejercicio = the exercise; el problema = the problem
        la palabra = the word; la respuesta = the answer; la última frase = the last sentence
    """),
    "transport": plain(
        """
        el tren = the train; el autobús = the bus; el avión = the plane; el vuelo = the flight
        el barco = the boat
    """
    ),
    "by": plain(
        """
        en tren = by train; en autobús = by bus; en avión = by plane; en coche = by car
        en barco = by boat
    """
    ),
    "leaves": [
        {"es": Forms({"text": "sale"}), "en": Forms({"text": "leaves", "inf": "leave"})},
        {"es": Forms({"text": "llega"}), "en": Forms({"text": "arrives", "inf": "arrive"})},
    ],
    "starts": [
        {"es": Forms({"text": "empieza"}), "en": Forms({"text": "starts", "inf": "start"})},
        {"es": Forms({"text": "termina"}), "en": Forms({"text": "ends", "inf": "end"})},
    ],
    "nearby": plain(
        """
        cerca de = near; lejos de = far from; al lado de = next to; detrás de = behind
        delante de = in front of; enfrente de = across from
    """
    ),
    "side": plain("a la derecha = right; a la izquierda = left"),
    "ticket": plain(
        """
        un billete = a ticket; dos billetes = two tickets; tres billetes = three tickets
    """
    ),
    "where": plain("""
        en la mesa = on the table; en la cocina = in the kitchen; en el coche = in the car
        en la maleta = in the suitcase; en la oficina = at the office
        en la habitación = in the bedroom
    """),
    "crowd": plain(
        """
        personas = people; estudiantes = students; niños = children; sillas = chairs
        mesas = tables
    """
    ),
    "room": plain(
        """
        la sala = the room; la clase = the classroom; el parque = the park; la plaza = the square
        el restaurante = the restaurant
    """
    ),
    "thanks": plain(
        """
        por venir = for coming; por la ayuda = for the help
        por la invitación = for the invitation; por escuchar = for listening
        por la información = for the information; por todo = for everything
    """
    ),
    "greet": plain(
        """
        buenos días = good morning; buenas tardes = good afternoon; buenas noches = good evening
        hola = hello
    """
    ),
    "task": plain(
        """
        abran el libro = open the book; cierren la puerta = close the door
        escuchen la canción = listen to the song; escriban la respuesta = write the answer
        lean el texto = read the text; abran la ventana = open the window
    """
    ),
    "dish": nouns(
        """
        plato de arroz = plate of rice : ms; bocadillo de queso = cheese sandwich : ms
        ensalada verde = green salad : fs; sopa de verduras = vegetable soup : fs
        tortilla = omelet : fs; pizza = pizza : fs
    """
    ),
    "glass": plain(
        """
        un café = a coffee; un té = a tea; una botella de agua = a bottle of water
        un vaso de leche = a glass of milk; una cerveza = a beer
        un vaso de vino = a glass of wine
    """
    ),
    "taste": agreeing("bueno buena buenos buenas = good; frío fría fríos frías = cold"),
    "hobby": plain(
        """
        bailar = dance; cantar = sing; nadar = swim; cocinar = cook; viajar = travel; leer = read
        caminar = walk
    """
    ),
    "because": plain(
        """
        porque llueve = because it is raining; porque hace frío = because it is cold
        porque es muy tarde = because it is very late
        porque es muy temprano = because it is very early
        porque no hay tiempo = because there is no time
        porque hoy es domingo = because today is Sunday
    """
    ),
    "span": plain("minutos = minutes; horas = hours"),
    "stay": plain("noches = nights; días = days; semanas = weeks"),
}
CATEGORIES |= _VERBS
