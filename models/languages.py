"""The languages that a session is spoken in or translated into: one table for all of the project.

A language is added by a line here. What a model really knows is its own matter: it may declare
pairs (:func:`models.prompt.pairs_of`), and the released Gemma 3n declares none. Sources: ISO 639-1
and 639-2 codes; the languages are those of speech models in wide use, Gemma's among them.
"""

from dataclasses import dataclass

from dragoman.errors import LanguageError


@dataclass(frozen=True)
class Language:
    """``code``: ISO 639-1 (639-3 where there is none); ``name``: in English, as prompts have it.

    ``tags`` are the three-letter codes that media files use. ``spaced`` is False where words are
    written without spaces between them, ``right_to_left`` True where lines run that way.
    ``names`` is what people call it, in English first, then in its own and in other languages.
    """

    code: str
    name: str
    tags: tuple[str, ...]
    spaced: bool = True
    right_to_left: bool = False
    names: tuple[str, ...] = ()


# Code, English name, three-letter codes; `solid`: no spaces between words; `rtl`: right to left.
_TABLE = """
af Afrikaans afr
am Amharic amh
ar Arabic ara rtl
as Assamese asm
az Azerbaijani aze
be Belarusian bel
bg Bulgarian bul
bn Bengali ben
bo Tibetan bod tib solid
br Breton bre
bs Bosnian bos
ca Catalan cat
ceb Cebuano ceb
ckb Central_Kurdish ckb rtl
co Corsican cos
cs Czech ces cze
cy Welsh cym wel
da Danish dan
de German deu ger
dv Dhivehi div rtl
el Greek ell gre
en English eng
eo Esperanto epo
es Spanish spa
et Estonian est
eu Basque eus baq
fa Persian fas per rtl
fi Finnish fin
fil Filipino fil tgl
fo Faroese fao
fr French fra fre
fy Western_Frisian fry
ga Irish gle
gd Scottish_Gaelic gla
gl Galician glg
gu Gujarati guj
ha Hausa hau
haw Hawaiian haw
he Hebrew heb rtl
hi Hindi hin
hmn Hmong hmn
hr Croatian hrv
ht Haitian_Creole hat
hu Hungarian hun
hy Armenian hye arm
id Indonesian ind
ig Igbo ibo
is Icelandic isl ice
it Italian ita
ja Japanese jpn solid
jv Javanese jav
ka Georgian kat geo
kk Kazakh kaz
km Khmer khm solid
kn Kannada kan
ko Korean kor
ku Kurdish kur
ky Kyrgyz kir
la Latin lat
lb Luxembourgish ltz
ln Lingala lin
lo Lao lao solid
lt Lithuanian lit
lv Latvian lav
mg Malagasy mlg
mi Maori mri mao
mk Macedonian mkd mac
ml Malayalam mal
mn Mongolian mon
mr Marathi mar
ms Malay msa may
mt Maltese mlt
my Burmese mya bur solid
nb Norwegian_Bokmål nob
ne Nepali nep
nl Dutch nld dut
nn Norwegian_Nynorsk nno
no Norwegian nor
ny Chichewa nya
oc Occitan oci
or Odia ori
pa Punjabi pan
pl Polish pol
ps Pashto pus rtl
pt Portuguese por
qu Quechua que
ro Romanian ron rum
ru Russian rus
rw Kinyarwanda kin
sa Sanskrit san
sd Sindhi snd rtl
si Sinhala sin
sk Slovak slk slo
sl Slovenian slv
sm Samoan smo
sn Shona sna
so Somali som
sq Albanian sqi alb
sr Serbian srp
st Sesotho sot
su Sundanese sun
sv Swedish swe
sw Swahili swa
ta Tamil tam
te Telugu tel
tg Tajik tgk
th Thai tha solid
ti Tigrinya tir
tk Turkmen tuk
tr Turkish tur
tt Tatar tat
ug Uyghur uig rtl
uk Ukrainian ukr
ur Urdu urd rtl
uz Uzbek uzb
vi Vietnamese vie
wo Wolof wol
xh Xhosa xho
yi Yiddish yid rtl
yo Yoruba yor
yue Cantonese yue solid
zh Chinese zho chi solid
zu Zulu zul
"""

# Names besides the English one, as people and models write them: the language's own, and for the
# languages that are translated most, what the others of them say, in as many lines as it takes.
_NAMES = """
ar العربية árabe arabe arabo Arabisch アラビア語 阿拉伯语 아랍어 арабский अरबी
bg български
bn বাংলা
ca català catalán
cs čeština česky
da dansk
de Deutsch Deutsche alemán allemand tedesco alemão ドイツ語 德语 德文 독일어 немецкий الألمانية जर्मन
el Ελληνικά
en inglés anglais inglese inglês Englisch Englische 英語 英语 英文 영어 английский англійська
en الإنجليزية अंग्रेज़ी अंग्रेजी इंग्लिश Engels angielski İngilizce Tiếng_Anh Bahasa_Inggris ภาษาอังกฤษ
es español castellano espagnol spagnolo espanhol Spanisch Spanische スペイン語 西班牙语 스페인어
es испанский الإسبانية स्पेनिश Latin_American_Spanish
fa فارسی Farsi
fi suomi
fil Tagalog
fr français francés francese francês Französisch Französische フランス語 法语 法文 프랑스어
fr французский الفرنسية फ़्रेंच फ़्रांसीसी
he עברית
hi हिन्दी हिंदी ヒンディー語 印地语 힌디어 хинди الهندية
hr hrvatski
hu magyar
id Bahasa_Indonesia
it italiano italien Italienisch Italienische イタリア語 意大利语 이탈리아어 итальянский الإيطالية
it इतालवी
ja 日本語 japonés japonais giapponese japonês Japanisch Japanische 日语 日文 일본어 японский
ja اليابانية जापानी
ko 한국어 coreano coréen Koreanisch 韓国語 韩语 корейский الكورية
ms Bahasa_Melayu
nb bokmål
nl Nederlands holandés néerlandais olandese holandês Niederländisch
no norsk
pl polski
pt português portugués portugais portoghese Portugiesisch Portugiesische ポルトガル語 葡萄牙语
pt 포르투갈어 португальский البرتغالية पुर्तगाली Brazilian_Portuguese Portuguese_Brazil
ro română
ru русский ruso russe russo Russisch ロシア語 俄语 러시아어 الروسية रूसी
sk slovenčina
sv svenska
sw Kiswahili
ta தமிழ்
te తెలుగు
th ไทย ภาษาไทย
tr Türkçe
uk українська
ur اردو
vi Tiếng_Việt
zh Mandarin 中文 汉语 漢語 普通话 chino chinois cinese chinês Chinesisch 中国語 중국어 китайский
zh الصينية चीनी Mandarin_Chinese Simplified_Chinese Traditional_Chinese Chinese_Simplified
zh Chinese_Traditional
"""


def _spoken(line: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in line.split())


_OTHERS: dict[str, tuple[str, ...]] = {}
for _code, *_names in map(_spoken, _NAMES.strip().splitlines()):
    _OTHERS[_code] = (*_OTHERS.get(_code, ()), *_names)


def read(line: str) -> Language:
    """A line of the table."""
    code, said, *rest = line.split()
    name = said.replace("_", " ")
    tags = tuple(word for word in rest if word not in ("rtl", "solid"))
    names = (name, *_OTHERS.get(code, ()))
    return Language(code, name, tags, "solid" not in rest, "rtl" in rest, names)


LANGUAGES = {language.code: language for language in map(read, _TABLE.strip().splitlines())}
SAID = {
    said: language
    for language in LANGUAGES.values()
    for said in (*map(str.lower, reversed(language.names)), *language.tags, language.code)
}


def find(said: str) -> Language:
    """A language by its code (`es`, `ES`, `spa`, `es-MX`) or one of its names, in any case.

    Raises LanguageError that names the nearest languages.
    """
    key = said.strip().lower().replace("_", "-")
    language = SAID.get(key) or SAID.get(key.split("-")[0])
    if language is None:
        close = [f"{one.code} ({one.name})" for one in LANGUAGES.values() if _is_close(key, one)]
        known = ", ".join(close) if close else "a code such as en, es, fr, de, zh, ar"
        raise LanguageError(f"unknown language {said!r}: choose {known}, or an English name")
    return language


def _is_close(key: str, language: Language) -> bool:
    if len(key) <= 3:
        return bool(key) and language.code[:1] == key[:1]
    return any(name.lower().startswith(key[:4]) for name in language.names)
