"""What models write around a transcript and its translation: labels, and answers that are neither.

Tables for :mod:`models.answers`, which reads answers while they are written. All phrases are
compared folded (:func:`fold`), so that case, accents and typographic quotes do not matter. Labels
are made of the names that a language has in English, in its own tongue and in others. What is not
an answer is told by phrases that people hardly say: "I'm sorry, but I can't" may well be speech,
with "transcribe the audio" behind it it is a refusal.
In the tables `;` and line ends part phrases, `(a|b|)` are alternatives, `{}` is a language's name,
`$` the end of a line, and `*` says that a word may go on.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from itertools import product

from dragoman.models import languages


class Part(StrEnum):
    """What a label announces."""

    TRANSCRIPT = "transcript"
    TRANSLATION = "translation"


_TRANSLATION = """
{}; {} (translation|text|version); (the |)translation; translated(| text)(| {}); in {}
translation (in |into |to |){}; translated (in|into|to) {}
(here is|here's) the ({} |)translation; (here is|here's) the translation (in|into) {}
aquí está la traducción; aquí está la traducción al {}; voici la traduction; ecco la traduzione
voici la traduction en {}; ecco la traduzione in {}; aqui está a tradução; hier ist die übersetzung
traducción; traducción (al |en |){}; traducido al {}; traduction; traduction (en |){}; en {}
traduzione; traduzione (in |){}; tradução; tradução (para |para o |em |){}; em {}
übersetzung; übersetzung (ins |auf |){}; {} übersetzung; auf {}; target {}
(the |)translation is; the {} translation is
texto traducido; texte traduit; testo tradotto; texto traduzido; übersetzter text
la traducción es; vertaling; vertaling (in het |){}; tłumaczenie; {} çeviri; çeviri; terjemahan
перевод; перевод (на |){}; переклад; переклад (на |){}
訳; 英訳; 和訳; 翻訳; 翻訳 {}; {}(訳|翻訳|への翻訳|での翻訳|の翻訳| 翻訳); 以下は{}(訳|翻訳)(です|)
翻译; 翻譯; 译文; 譯文; (翻译|翻譯) {}; {}(| )(翻译|翻譯|译文|譯文); 以下是{}(翻译|翻譯|译文|譯文)
번역; 번역 {}; {} 번역; {}로 번역; الترجمة; الترجمة (إلى |){}; الترجمة ب{}; الترجمة لل{}
(اللغة|باللغة) {}; {} में; अनुवाद; अनुवाद {}; {} अनुवाद; {} में अनुवाद
"""
_TRANSCRIPT = """
{}; {} (transcription|transcript|original|text|speech|audio); in {}
(the |)(transcript|transcription)
(transcribe|transcribed text|transcribed speech|original|original text)(| {}| in {}); source {}
(the |){} transcription is; (the |)transcription is; audio (transcription|transcript)
(transcription|transcript|transcribe) (in |){}
transcripción; transcripción (en |){}; texto original; transcription en {}; texte original; en {}
trascrizione; trascrizione (in |){}; testo originale; transcrição; transcrição (em |){}; em {}
transkription; transkription (auf |){}; {} transkription; transkript; originaltext; auf {}
la transcripción es; transcriptie; transkrypcja; transkripsiyon; transkripsi; транскрипция
транскрипция {}; расшифровка; транскрипція; 原文; 原文 {}
(文字起こし|書き起こし|トランスクリプト)(| {}); {}(|の| )(文字起こし|書き起こし|原文)
(转录|轉錄|转写|轉寫)(| {}); {}(| )(转录|轉錄|转写|轉寫|原文); 전사; 전사 {}; {} 전사
النص; النص (الأصلي|{}|ب{}); التفريغ; (اللغة|باللغة) {}; {} में
 प्रतिलेख; प्रतिलेखन; ट्रांसक्रिप्शन; ट्रांसक्रिप्ट
{} (प्रतिलेख|प्रतिलेखन|ट्रांसक्रिप्शन|ट्रांसक्रिप्ट); ट्रांसक्रिप्शन {}
"""
# Ahead of an answer, up to a colon: "Sure! Here is the transcription of the audio:".
_PREFACES = """
(here is|here's|here are) (the|a|your) (transc*|transl*)
(the (transcription|transcript) (of|is)|the audio says|the speaker says|below is the transc*)
(aquí está|aquí tienes) (la|tu) (transc*|trad*); la transcripción (de|del) audio
voici (la|votre) (transc*|trad*); la transcription (de|du) (l'audio|l'enregistrement)
ecco la (tras*|trad*); la trascrizione dell'audio; aqui está a (trans*|trad*)
a transcrição do áudio; hier ist die (trans*|über*); die transkription des audios
вот (транскрипция|расшифровка|перевод); 以下は(音声の|)(文字起こし*|書き起こし*)
以下是(音频|语音)的*
다음은 (오디오|음성)(의 | )(전사*|텍스트*|번역*); (إليك|فيما يلي) (نص*|النص*|ترجمة*|الترجمة*)
यहाँ (ऑडियो का |)(ट्रांसक्रिप्शन*|प्रतिलेख*|अनुवाद*)
"""
# What may stand in front of a preface or a refusal.
_OPENERS = """
(sure|okay|ok|certainly|of course|unfortunately|so); (i'm|i am|) sorry; (i'm|i am|) sorry but
i apologize; i apologize but; claro; por supuesto; lo siento; lo siento pero; lamentablemente
bien sûr; désolé; (désolé|je suis désolé) mais; je suis désolé; certo; purtroppo
mi dispiace; mi dispiace ma; desculpe; desculpe mas; sinto muito; sinto muito mas; infelizmente
gern; natürlich; leider; (es tut mir|tut mir) leid; (es tut mir|tut mir) leid aber; entschuldigung
(okay |ok |)(i'm|i am) ready; i understand; (estoy listo|je suis prêt|sono pronto|estou pronto)
ich bin bereit; извините; извините но; к сожалению; конечно
(申し訳ありません|申し訳ございません|すみません)(|が)
抱歉; 很抱歉; 对不起; 對不起; 죄송합니다; 죄송하지만; عذرا; عذرا لكن; آسف; للأسف
(क्षमा|माफ़) (करें|कीजिए); मुझे खेद है; क्षमा करें लेकिन
"""
# In the place of an answer, by language: en, es, fr, it, pt, de, ru, ja, zh, ko, ar, hi.
_REFUSALS = """
(i can't|i cannot|i can not|i am unable to|i'm unable to|i am not able to|i'm not able to) \
(process|transcribe|translate|listen to|access|hear) (that|this|the|your|any|) \
(request|audio|speech|recording|file|clip)
i am unable to process; i'm unable to process; i am unable to transcribe; i'm unable to transcribe
i (don't|do not) have (access to|the ability to|any) (the audio|audio|listen|process|transcribe)
please (provide|upload|share|send|attach) (me with |)(the|an|your) \
(|english |spanish |french |italian |portuguese |german )(audio|speech|recording)
(i'm|i am) ready to (transcribe|translate); i will transcribe the (audio|speech|following)
there is no (audible |)speech (in|to); the audio is unclear and
(as|i am|i'm) (an ai|a language model|a large language model|a text-based)
no (audio|speech) (was |)(provided|detected|given); the audio (contains no|is silent|is empty)
no (puedo|soy capaz de|me es posible|es posible) \
(procesar|transcribir|traducir|escuchar|acceder a) \
(esa|esta|este|la|el|tu|su|ese|) (solicitud|petición|audio|grabación|archivo)
no puedo acceder al audio; no tengo acceso al audio; (como|soy) (un |)modelo de lenguaje
(por favor |)(proporciona|proporcione|envía|envíe|sube|comparte) (el|un|tu|su) (archivo de |)audio
no se (ha |)(proporcionó|proporcionado) ningún audio; como (una |)inteligencia artificial
(je ne peux pas|je ne suis pas en mesure de|je suis incapable de|il est impossible de) \
(traiter|transcrire|traduire|écouter) (cette|ce|l'|la|le|votre) \
(demande|requête|audio|fichier|enregistrement)
je ne peux pas (traiter|transcrire|traduire|écouter) l'audio; je n'ai pas accès à l'audio
(veuillez|merci de|s'il vous plaît) (fournir|envoyer|fournissez) \
(l'audio|un audio|le fichier audio|l'enregistrement)
en tant qu'(ia|intelligence artificielle); en tant que modèle de langage
non (posso|sono in grado di|riesco a|è possibile) (elaborare|trascrivere|tradurre|ascoltare) \
(questa|la|l'|il|questo|tua) (richiesta|audio|file)
non (posso|sono in grado di|riesco a|è possibile) (elaborare|trascrivere|tradurre|ascoltare) l'audio
(per favore |si prega di |)(fornisci|fornire|invia|carica) (l'audio|un audio|il file audio)
(come|in quanto|sono un) modello linguistico; non ho accesso all'audio
não (posso|consigo|sou capaz de|é possível) (processar|transcrever|traduzir|ouvir) \
(essa|esta|este|a|o|seu|sua|esse) (solicitação|pedido|áudio|arquivo|gravação)
(por favor |)(forneça|envie|carregue) (o|um|seu) (áudio|arquivo de áudio)
(como|sou) um modelo de linguagem; não tenho acesso ao áudio
ich (kann|bin nicht in der lage) (diese|die|das|ihre|keine|deine) \
(anfrage|audio|audiodatei|audiodateien|aufnahme)
bitte (stellen|geben|laden|senden) sie (mir |)(die|das|eine) (audio*|aufnahme)
bitte (stelle|lade|sende) (mir |)(die|das|eine) (audio*|aufnahme)
(als|ich bin ein) (ki|sprachmodell|ki-sprachmodell); ich habe keinen zugriff auf (die|das) audio
я не могу (обработать|расшифровать|транскрибировать|перевести) \
(аудио*|этот аудио*|это аудио*|эту запись|этот запрос|ваш запрос|запись)
(пожалуйста |)(предоставьте|загрузите|отправьте) (аудио*|запись)
(音声|音声ファイル|この音声|リクエスト|このリクエスト)を(処理|文字起こし|書き起こし|翻訳)\
(すること|)(は|が|)できません*
(音声|音声ファイル)を(提供|アップロード|送信)してください*
(我|)(无法|不能)(处理|转录|转写|翻译)(该|此|这个|这段|您的|)(请求|音频|语音|录音)*
(我|)(無法|不能)(處理|轉錄|轉寫|翻譯)(該|此|這個|這段|您的|)(請求|音訊|語音|錄音)*
(请|請)(提供|上传|上傳)(您的|)(音频|语音|录音|音訊|語音|錄音)*
(오디오|음성|요청|이 오디오|이 요청)(를|을) (처리|전사|번역)할 수 없습니다*
(오디오|음성)(를|을| 파일을) (제공|업로드)해 주세요*
لا (يمكنني|أستطيع) (معالجة|نسخ|تفريغ|ترجمة) (هذا الطلب|هذا الصوت|الصوت|الملف الصوتي|المقطع*)
يرجى (تقديم|إرسال|تحميل|رفع) (الملف الصوتي|ملف صوتي|الصوت|المقطع الصوتي)
मैं (इस |)(ऑडियो|अनुरोध) (को |का |)(ट्रांसक्राइब|संसाधित|अनुवाद) नहीं कर (सकता|सकती)
कृपया (ऑडियो|ऑडियो फ़ाइल) (प्रदान|अपलोड) करें
"""
# Behind an answer, in a paragraph of its own.
_CHATTER = """
(please |)let me know if (you*|there); i hope (this|that) (helps|is helpful); feel free to ask
would you like me to (trans*|explain|provide|help); if you (need|have) any (other|more|further)
(note|notes|explanation|breakdown|disclaimer|key points|vocabulary):; (here's|here is) a breakdown
espero que (esto |)(te |le |)(ayude*|sirva); avísame si; (nota|notas|explicación|aclaración):
n'hésitez pas à (me|demander); j'espère que cela; (remarque|remarques|explication):
fammi sapere se; spero che (questo |)(ti |)(aiuti*|sia utile); (nota|note|spiegazione):
(avise-me|me avise) se; espero que (isso |)ajude*; (observação|explicação):
(lassen sie|lass) (es |)mich wissen; ich hoffe das hilft; (anmerkung|hinweis|erklärung):
"""
# At the beginning of what a model thinks before it answers.
_THOUGHTS = """
(thought|thoughts|thinking)($|:); thinking process
the user (wants|is asking|has provided|has asked)
(i|we) need to (transcribe|translate) (the|this)
"""
THOUGHT_TAGS = {
    "<think>": "</think>",
    "<thought>": "</thought>",
    "<thinking>": "</thinking>",
    "<|channel>": "<channel|>",
}
FENCE_NAMES = ("text", "txt", "plaintext", "plain", "markdown", "md", "transcript")
_SAME = {"’": "'", "‘": "'", "´": "'", "：": ":"}


@cache
def _folded(character: str) -> str:
    parts = unicodedata.normalize("NFKD", _SAME.get(character, character).casefold())
    return "".join(c for c in parts if unicodedata.category(c) != "Mn")


def fold(text: str) -> str:
    """``text`` without case, accents and typographic quotes, a character at a time: `É` is `e`."""
    return "".join(map(_folded, text))


class Phrases:
    """The phrases of a table, which may have an opener in front of them.

    They are looked for in folded text in which whatever stands between words is one space, but for
    a colon and `$`, which stands for the end of a line.
    """

    def __init__(self, table: str, openers: str = "") -> None:
        self._whole = frozenset(map(_ended, map(fold, _listed(table))))
        self._begun = _begun(self._whole)
        self._openers = ("", *(fold(opener) + " " for opener in _listed(openers) if opener))

    def __contains__(self, folded: str) -> bool:
        return any(folded[len(o) :] in self._whole for o in self._openers if folded.startswith(o))

    def may_become(self, folded: str) -> bool:
        """Whether more characters can make one of the phrases of ``folded``."""
        return any(
            folded[len(opener) :] in self._begun
            if folded.startswith(opener)
            else opener.startswith(folded)
            for opener in self._openers
        )


@dataclass(frozen=True)
class Labels:
    """The labels of a pair of languages: what each announces, by its folded phrase.

    ``bare`` are those that need no colon where they have a line to themselves, ``anywhere`` those
    that are labels in the middle of a sentence as well, where they are capitalized, and ``codes``
    those that must be capitals: `ES`.
    """

    parts: dict[str, Part]
    begun: frozenset[str]
    bare: frozenset[str]
    anywhere: frozenset[str]
    codes: frozenset[str]


@lru_cache(64)
def labels(source: str, target: str) -> Labels:
    """For transcripts in ``source``, translated into ``target``; raises LanguageError."""
    spoken, written = languages.find(source), languages.find(target)
    parts = dict.fromkeys(_made(_TRANSCRIPT, spoken.names), Part.TRANSCRIPT)
    parts |= dict.fromkeys(_made(_TRANSLATION, written.names), Part.TRANSLATION)
    parts |= {said: Part.TRANSCRIPT for said in _both(spoken.names)}
    parts |= {said: Part.TRANSLATION for said in _both(written.names)}
    codes = {spoken.code: Part.TRANSCRIPT, written.code: Part.TRANSLATION}
    codes = {code: part for code, part in codes.items() if code not in parts}
    english = fold(written.name)
    alone = {english, fold(spoken.name), "translation", "transcription", "transcript"}
    alone |= {f"{english} translation", f"{fold(spoken.name)} transcription"}
    # In English speech the English name of a language may well stand before a colon.
    certain = () if spoken.code == "en" else (english, f"{english} translation")
    parts |= codes
    return Labels(parts, _begun(parts), frozenset(alone), frozenset(certain), frozenset(codes))


def _both(names: Sequence[str]) -> Iterator[str]:
    """A language by two names, of which one is English: `日本語 (Japanese)`."""
    for name in map(fold, names[1:]):
        yield from (f"{name} {fold(names[0])}", f"{fold(names[0])} {name}")


def _begun(phrases: Iterable[str]) -> frozenset[str]:
    return frozenset(phrase[:i] for phrase in phrases for i in range(len(phrase) + 1))


def _ended(phrase: str) -> str:
    """A phrase with what must stand behind it: a space, for anything between words."""
    if phrase.endswith("*"):
        return phrase[:-1]
    return phrase if phrase[-1] in ":$" else phrase + " "


def _made(table: str, names: Iterable[str]) -> set[str]:
    return {fold(form.replace("{}", name)) for form in _listed(table) for name in names}


def _listed(table: str) -> list[str]:
    """The phrases of a table, alternatives written out."""
    lines = table.strip().replace("\n", ";").split(";")
    return [phrase for line in lines for phrase in _spelt(line)]


def _spelt(pattern: str) -> list[str]:
    parts = [part.split("|") for part in re.split(r"[()]", pattern)]
    return [" ".join("".join(chosen).split()) for chosen in product(*parts)]


PREFACES = Phrases(_PREFACES, _OPENERS)
REFUSALS = Phrases(_REFUSALS, _OPENERS)
CHATTER = Phrases(_CHATTER)
THOUGHTS = Phrases(_THOUGHTS, _OPENERS)
