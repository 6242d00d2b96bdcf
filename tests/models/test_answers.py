"""Answers as models write them, read whole and read while they grow."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.errors import LanguageError
from dragoman.models.answers import Flag, read
from dragoman.models.phrases import Part

# Languages, what the model writes, and the transcript and translation in it.
FORMS = [
    # As asked for: the transcript, one newline, the label, the translation.
    ("es-en", "Hola a todos.\nEnglish: Hello everyone.", "Hola a todos.", "Hello everyone."),
    ("fr-en", "Bonjour à tous.\nEnglish: Hello everyone.", "Bonjour à tous.", "Hello everyone."),
    ("it-en", "Ciao a tutti.\nEnglish: Hi all.", "Ciao a tutti.", "Hi all."),
    ("pt-en", "Olá a todos.\nEnglish: Hello all.", "Olá a todos.", "Hello all."),
    ("de-en", "Hallo zusammen.\nEnglish: Hello.", "Hallo zusammen.", "Hello."),
    ("en-es", "Hello everyone.\nSpanish: Hola a todos.", "Hello everyone.", "Hola a todos."),
    ("ja-en", "みなさん、こんにちは。\nEnglish: Hello.", "みなさん、こんにちは。", "Hello."),
    # Newlines inside a text. The first is the published answer of E4B-it to the test of
    # transformers, as far as it was published.
    (
        "en-es",
        "Chapter 1. Mrs. Rachel Lind is surprised.\n\nMrs. Rachel Lind",
        "Chapter 1. Mrs. Rachel Lind is surprised. Mrs. Rachel Lind",
        "",
    ),
    (
        "es-en",
        "- ¿Qué tal?\n- Muy bien, gracias.\nEnglish: - How are you?\n- Fine, thanks.",
        "- ¿Qué tal? - Muy bien, gracias.",
        "- How are you? - Fine, thanks.",
    ),
    ("es-en", "\n\nHola.\nEnglish: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\n\n\nEnglish:\nHello.\n\nGood day.", "Hola.", "Hello. Good day."),
    ("ja-en", "こんにちは。\nお元気ですか。\nEnglish: Hi.", "こんにちは。お元気ですか。", "Hi."),
    ("en-zh", "Hello.\nHi.\nChinese: 你好。\n嗨。", "Hello. Hi.", "你好。嗨。"),
    # Headings and labels, in any markup.
    ("es-en", "### Spanish\n\nHola.\n\n### English\n\nHello.", "Hola.", "Hello."),
    ("es-en", "## Transcription\nHola.\n## Translation\nHello.", "Hola.", "Hello."),
    ("es-en", "**Transcription:**\n\nHola.\n\n**Translation:**\n\nHello.", "Hola.", "Hello."),
    ("es-en", "**Spanish:** Hola.\n**English:** Hello.", "Hola.", "Hello."),
    ("es-en", "**Spanish**: Hola.\n**English**: Hello.", "Hola.", "Hello."),
    ("es-en", "**Spanish**\nHola.\n\n**English**\nHello.", "Hola.", "Hello."),
    ("es-en", "Spanish: Hola.\nEnglish: Hello.", "Hola.", "Hello."),
    ("en-fr", "Transcribe: Hello.\nFrench: Bonjour.", "Hello.", "Bonjour."),
    ("es-en", "Transcript: Hola.\nTranslation: Hello.", "Hola.", "Hello."),
    ("es-en", "Transcription (Spanish): Hola.\nTranslation (English): Hi.", "Hola.", "Hi."),
    ("es-en", "[Spanish] Hola.\n[English] Hello.", "Hola.", "Hello."),
    ("es-en", "1. **Spanish:** Hola.\n2. **English:** Hello.", "Hola.", "Hello."),
    ("es-en", "* Spanish: Hola.\n* English: Hello.", "Hola.", "Hello."),
    ("es-en", "- **Spanish:** Hola.\n- **English:** Hello.", "Hola.", "Hello."),
    ("es-en", "ES: Hola.\nEN: Hello.", "Hola.", "Hello."),
    ("es-en", "_Spanish:_ Hola.\n_English:_ Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\nEnglish - Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\nENGLISH: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\n> English: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\n---\nEnglish: Hello.", "Hola.", "Hello."),
    # Labels of either language's name for the other.
    ("es-en", "Español: Hola.\nInglés: Hello.", "Hola.", "Hello."),
    ("es-en", "Transcripción: Hola.\nTraducción al inglés: Hello.", "Hola.", "Hello."),
    ("es-en", "**Transcripción:**\nHola.\n**Traducción:**\nHello.", "Hola.", "Hello."),
    ("en-es", "Hello.\nEspañol: Hola.", "Hello.", "Hola."),
    ("fr-en", "Français : Bonjour.\nAnglais : Hello.", "Bonjour.", "Hello."),
    ("fr-en", "Transcription : Bonjour.\nTraduction en anglais : Hello.", "Bonjour.", "Hello."),
    ("it-en", "Trascrizione: Ciao.\nTraduzione in inglese: Hi.", "Ciao.", "Hi."),
    ("it-fr", "Ciao.\nFrancese: Salut.", "Ciao.", "Salut."),
    ("pt-en", "Transcrição: Olá.\nTradução para o inglês: Hello.", "Olá.", "Hello."),
    ("de-en", "Transkription: Hallo.\nÜbersetzung ins Englische: Hi.", "Hallo.", "Hi."),
    ("de-en", "Deutsch: Hallo.\nEnglische Übersetzung: Hello.", "Hallo.", "Hello."),
    ("en-ja", "Hello.\n日本語：こんにちは。", "Hello.", "こんにちは。"),
    ("zh-en", "中文：你好。\n英语：Hello.", "你好。", "Hello."),
    ("ko-en", "안녕하세요.\n영어: Hello.", "안녕하세요.", "Hello."),
    ("ru-en", "Привет.\nАнглийский: Hi.\nПеревод: there", "Привет.", "Hi. there"),
    ("de-en", "Deutsche Transkription: Hallo.\nEnglische Übersetzung: Hi.", "Hallo.", "Hi."),
    ("es-en", "Source (Spanish): Hola.\nTarget (English): Hello.", "Hola.", "Hello."),
    ("es-en", "Transcribed Text (Spanish): Hola.\nTranslated Text (English): Ja", "Hola.", "Ja"),
    ("es-en", "La transcripción es: Hola.\nLa traducción es: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola.\n**English Translation**\nHello.", "Hola.", "Hello."),
    ("es-en", "## Transcripción\nHola.\n\n## Traducción al inglés\nHello.", "Hola.", "Hello."),
    ("en-pt", "Hello.\nBrazilian Portuguese: Olá.", "Hello.", "Olá."),
    ("en-pt", "Hello.\n**Portuguese (Brazil):** Olá.", "Hello.", "Olá."),
    ("en-zh", "Hello.\nChinese (Simplified): 你好。", "Hello.", "你好。"),
    ("en-nl", "Hello.\n**Vertaling:** Hallo.", "Hello.", "Hallo."),
    ("zh-en", "中文转录：你好。\n英文翻译：Hello.", "你好。", "Hello."),
    ("zh-en", "轉錄：你好。\n翻譯：Hello.", "你好。", "Hello."),
    ("zh-en", "以下是音频的转录：\n你好。\n\n以下是英文翻译：\nHello.", "你好。", "Hello."),
    ("ja-en", "**文字起こし（日本語）：**\nどうも。\n\n**翻訳（英語）：**\nHi.", "どうも。", "Hi."),
    ("ja-en", "【日本語】どうも。\n【英語】Hi.", "どうも。", "Hi."),
    ("ja-en", "以下は音声の文字起こしです：\n\nどうも。\n\n英語の翻訳：Hi.", "どうも。", "Hi."),
    ("ja-fr", "どうも。\nフランス語：Salut.", "どうも。", "Salut."),
    ("ko-en", "**한국어:** 안녕하세요.\n**영어 번역:** Hello.", "안녕하세요.", "Hello."),
    ("ru-en", "Транскрипция: Привет.\n**Перевод на английский:** Hi.", "Привет.", "Hi."),
    ("ar-en", "**العربية:**\nمرحبا.\n\n**الإنجليزية:**\nHello.", "مرحبا.", "Hello."),
    ("ar-en", "النص بالعربية: مرحبا.\nالترجمة إلى الإنجليزية: Hello.", "مرحبا.", "Hello."),
    ("en-ar", "Hello.\n**الترجمة العربية:** مرحبا.", "Hello.", "مرحبا."),
    ("hi-en", "**हिन्दी:** नमस्ते।\n**अंग्रेज़ी:** Hello.", "नमस्ते।", "Hello."),
    ("hi-en", "प्रतिलेख: नमस्ते।\nअंग्रेजी अनुवाद: Hello.", "नमस्ते।", "Hello."),
    ("es-en", "🎤 Hola.\n🇬🇧 English: Hello.", "🎤 Hola.", "Hello."),
    ("es-en", "✅ **Spanish:** Hola.\n✔️ **English:** Hello.", "Hola.", "Hello."),
    ("es-en", "The Spanish transcription is: Sí.\nThe English translation is: Yes", "Sí.", "Yes"),
    ("es-en", "Español (Spanish): Hola.\nInglés (English): Hello.", "Hola.", "Hello."),
    ("fr-en", "Texte original : Salut.\nTexte traduit : Hello.", "Salut.", "Hello."),
    ("ja-en", "日本語（Japanese）：どうも。\n英語（English）：Hi.", "どうも。", "Hi."),
    ("ja-en", "トランスクリプト：どうも。\n英訳：Hi.", "どうも。", "Hi."),
    ("zh-en", "中文（转录）：你好。\n英文（翻译）：Hello.", "你好。", "Hello."),
    ("ar-en", "اللغة العربية: مرحبا.\nباللغة الإنجليزية: Hello.", "مرحبا.", "Hello."),
    ("hi-en", "हिंदी में: नमस्ते।\nअंग्रेजी में: Hello.", "नमस्ते।", "Hello."),
    # Both in one line.
    ("es-en", "Hola. | English: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola — English: Hello.", "Hola", "Hello."),
    ("es-en", "Hola. English: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola. **English:** Hello.", "Hola.", "Hello."),
    ("es-en", "Hola. English translation: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola. (English: Hello.)", "Hola.", "Hello."),
    ("es-en", "El perro duerme English: The dog sleeps", "El perro duerme", "The dog sleeps"),
    ("es-en", "Hola. Traducción: Hello.", "Hola.", "Hello."),
    ("es-en", "Hola. → Hello.", "Hola.", "Hello."),
    ("de-en", "Hallo. -> Hello.", "Hallo.", "Hello."),
    ("ja-en", "こんにちは。英語：Hello.", "こんにちは。", "Hello."),
    # Quotes, fences, and a preface.
    ("es-en", '"Hola."\nEnglish: "Hello."', "Hola.", "Hello."),
    ("fr-en", "« Bonjour. »\nEnglish: “Hello.”", "Bonjour.", "Hello."),
    ("es-en", "```\nHola.\n```\nEnglish: Hello.", "Hola.", "Hello."),
    ("es-en", "```text\nHola.\n\nEnglish: Hello.\n```", "Hola.", "Hello."),
    ("es-en", "**Hola.**\nEnglish: *Hello.*", "Hola.", "Hello."),
    (
        "es-en",
        'Sure! Here is the transcription of the audio in Spanish:\n\n"Hola."\n\n'
        'Here is the translation in English:\n\n"Hello."',
        "Hola.",
        "Hello.",
    ),
    ("es-en", "Aquí está la transcripción:\nHola.\nEnglish: Hi.", "Hola.", "Hi."),
    ("fr-en", "Voici la transcription :\n\nBonjour.\n\nAnglais : Hello.", "Bonjour.", "Hello."),
    ("de-en", "Hier ist die Transkription:\n\nHallo.\nEnglish: Hello.", "Hallo.", "Hello."),
    # Sentence by sentence.
    (
        "es-en",
        "Spanish: Hola.\nEnglish: Hello.\n\nSpanish: Adiós.\nEnglish: Bye.",
        "Hola. Adiós.",
        "Hello. Bye.",
    ),
    # Speech that looks like something else.
    ("es-en", "Sé inglés: es fácil.\nEnglish: Easy.", "Sé inglés: es fácil.", "Easy."),
    ("es-en", "El English perro.\nEnglish: The dog.", "El English perro.", "The dog."),
    ("en-es", "I know Spanish: yes.\nSpanish: Sí.", "I know Spanish: yes.", "Sí."),
    ("de-en", "Ich kann Englisch: ja.\nEnglish: Yes.", "Ich kann Englisch: ja.", "Yes."),
    ("en-es", "Sorry, but I can't come.\nSpanish: No.", "Sorry, but I can't come.", "No."),
    ("en-es", "As an air hostess I fly.\nSpanish: Vuelo.", "As an air hostess I fly.", "Vuelo."),
    ("en-es", "The thought of it.\nSpanish: La idea.", "The thought of it.", "La idea."),
    ("es-en", "(risas) Hola.\nEnglish: (laughs) Hello.", "(risas) Hola.", "(laughs) Hello."),
    ("es-en", "12 personas.\nEnglish: 12 people.", "12 personas.", "12 people."),
    ("es-en", "2 * 3 son 6.\nEnglish: 2 * 3 is 6.", "2 * 3 son 6.", "2 * 3 is 6."),
    ("es-en", "«Hola», dijo.\nEnglish: He said: hello.", "Hola, dijo.", "He said: hello."),
    ("es-en", "Español.", "Español.", ""),
    ("es-en", "— ¿Qué? — No | sí.\nEnglish: — What?", "— ¿Qué? — No | sí.", "— What?"),
    ("en-es", "Translated texts: hard.\nSpanish: Sí.", "Translated texts: hard.", "Sí."),
    ("zh-en", "请提供更多信息。\nEnglish: Give me more.", "请提供更多信息。", "Give me more."),
    ("ja-en", "すみませんが、行けません。\nEnglish: No.", "すみませんが、行けません。", "No."),
    ("hi-en", "मैं यह नहीं कर सकता।\nEnglish: No.", "मैं यह नहीं कर सकता।", "No."),
]  # fmt: skip

REFUSED = [
    "I can't process that request. Please provide the audio.",
    "I am unable to process the audio.",
    "I'm sorry, but I cannot transcribe this audio.",
    "Sure, please provide the audio file.",
    "Please provide me with the audio you would like me to transcribe.",
    "As an AI, I cannot listen to audio.",
    "**I’m unable to transcribe audio.**",
    "Spanish: No audio was provided.",
    "No puedo procesar esta solicitud.",
    "Lo siento, pero no puedo transcribir el audio.",
    "Por favor, proporciona el audio.",
    "Je ne peux pas traiter cette demande.",
    "Désolé, mais je ne peux pas transcrire l’audio.",
    "Veuillez fournir l'audio.",
    "Mi dispiace, ma non posso elaborare questa richiesta.",
    "Per favore, fornisci l'audio.",
    "Não posso processar esta solicitação.",
    "Desculpe, mas não consigo transcrever o áudio.",
    "Es tut mir leid, aber ich kann diese Anfrage nicht bearbeiten.",
    "Bitte stellen Sie die Audiodatei bereit.",
    "I'm ready. Please provide the Spanish speech segment.",
    "Okay, I'm ready to transcribe and translate. Please provide the audio.",
    "I understand. I will transcribe the speech and translate it.",
    "There is no speech in the audio.",
    "Je suis prêt. Veuillez fournir l'enregistrement.",
    "Não é possível transcrever o áudio.",
    "К сожалению, я не могу расшифровать это аудио.",
    "申し訳ありませんが、音声を文字起こしすることができません。",
    "音声を提供してください。",
    "抱歉，我无法处理该请求。",
    "请提供音频。",
    "죄송하지만, 오디오를 전사할 수 없습니다.",
    "عذراً، لا أستطيع نسخ الصوت.",
    "يرجى تقديم الملف الصوتي.",
    "क्षमा करें, मैं ऑडियो को ट्रांसक्राइब नहीं कर सकता।",
]
THOUGHT = [
    "thought\nThe speaker says hello.\n\nSpanish: Hola.\nEnglish: Hello.",
    "<think>The audio is Spanish: Hola.</think>\nHola.\nEnglish: Hello.",
    "<|channel>thought\nEasy.<channel|>Hola.\nEnglish: Hello.",
    "Thinking Process:\n\n1. Listen.\n\n**Spanish:** Hola.\n**English:** Hello.",
]
CHATTER = [
    "Hola.\nEnglish: Hello.\n\nLet me know if you need anything else!",
    "Hola.\nEnglish: Hello.\n\n**Note:** the speaker is informal.",
    "Hola.\nEnglish: Hello.\n(Note: informal.)",
    "Hola.\nEnglish: Hello.\n\nI hope this helps.",
    "Hola.\nEnglish: Hello.\n\nLet me know if you'd like more.",
    "Hola.\nEnglish: Hello.\n\nNota: es informal.",
    "Hola.\nEnglish: Hello.\n\nN'hésitez pas à me demander.",
    "Hola.\nEnglish: Hello.\n\nAnmerkung: informell.",
]
WRITTEN = [
    *[(pair, text) for pair, text, *_ in FORMS],
    *[("es-en", text) for text in (*REFUSED, *THOUGHT, *CHATTER)],
]


@pytest.mark.parametrize(("pair", "text", "transcript", "translation"), FORMS)
def test_an_answer_is_read(pair, text, transcript, translation):
    found = read(text, *pair.split("-"), done=True)
    assert (found.transcript, found.translation) == (transcript, translation)
    assert found.flags == (set() if translation else {Flag.NO_TRANSLATION})
    assert found.ended and not found.over


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_marked_and_never_speech(text):
    found = read(text + "\nEnglish: Sorry.", "es", "en", done=True)
    assert (found.transcript, found.translation, found.flags) == ("", "", {Flag.REFUSAL})
    assert found.over


def test_a_refusal_in_the_place_of_the_translation_leaves_the_transcript():
    found = read("Hola.\nEnglish: I'm unable to translate this audio.", "es", "en", done=True)
    assert (found.transcript, found.translation) == ("Hola.", "")
    assert found.flags == {Flag.REFUSAL, Flag.NO_TRANSLATION}


@pytest.mark.parametrize("text", THOUGHT)
def test_thoughts_are_marked_and_passed_over(text):
    found = read(text, "es", "en", done=True)
    assert (found.transcript, found.translation) == ("Hola.", "Hello.")
    assert found.flags == {Flag.THOUGHT}


@pytest.mark.parametrize("text", ["thought\nThe user wants it.", "<think>So, the audio"])
def test_a_thought_without_an_end_is_no_speech(text):
    found = read(text, "es", "en", done=True)
    assert (found.transcript, found.translation, found.flags) == ("", "", {Flag.THOUGHT})


@pytest.mark.parametrize("text", CHATTER)
def test_what_follows_the_translation_is_marked_and_left_out(text):
    found = read(text, "es", "en", done=True)
    assert (found.transcript, found.translation) == ("Hola.", "Hello.")
    assert found.flags == {Flag.CHATTER} and found.over


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        (" Hello.", "Hello."),
        ("\n\nHello.\n\nGood day.", "Hello. Good day."),
        ("** Hello.", "Hello."),
        (" English: Hello.", "Hello."),
        (' "Hello," he said.', "Hello, he said."),
    ],
)
def test_a_translation_whose_label_stood_in_the_prompt(text, translation):
    found = read(text, "es", "en", done=True, part=Part.TRANSLATION)
    assert (found.transcript, found.translation, found.flags) == ("", translation, set())


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("Hola. **English:** Hello.", "Hola."),
        ("Hola.\n\nEnglish:", "Hola."),
        ('"Hola."\nEnglish:', '"Hola."'),
        ("```\nHola.\n```\nEnglish:", "```\nHola."),
        ("Hola.\n\n", "Hola."),
        ("English: Hello", ""),
    ],
)
def test_the_end_of_a_transcript_is_in_front_of_the_label(text, before):
    assert text[: read(text, "es", "en").end] == before


def test_what_may_become_a_label_is_held_back():
    for text, sure in (
        ("Hola. Eng", "Hola."),
        ("Hola.\nEnglish", "Hola."),
        ("Hola.\n**", "Hola."),
        ("Hola. En", "Hola."),
        ("Hola. Entonces", "Hola. Entonces"),
        ("Span", ""),
        ("I can't process", ""),
        ("Here is the transcript", ""),
        ("Hola ", "Hola"),
    ):
        found = read(text, "es", "en")
        assert (found.transcript, found.translation, found.ended) == (sure, "", False)
    assert read("Hola. Eng", "es", "en", done=True).transcript == "Hola. Eng"
    assert read("Hola.\nEnglish:", "es", "en").ended


def check_grows(text: str, source: str, target: str, part: Part = Part.TRANSCRIPT) -> None:
    """What is read of each beginning of an answer begins what is read of all of it, and once its
    transcript has ended, it has ended there.
    """
    whole = read(text, source, target, done=True, part=part)
    for cut in range(len(text), -1, -1):
        found = read(text[:cut], source, target, part=part)
        assert whole.transcript.startswith(found.transcript)
        assert whole.translation.startswith(found.translation)
        assert not found.over or whole.over
        assert found.flags <= whole.flags
        if found.ended and not found.over:
            assert (found.ended, found.end) == (True, whole.end)
        whole = found


@pytest.mark.parametrize(("pair", "text"), WRITTEN)
def test_an_answer_cut_anywhere_only_grows(pair, text):
    check_grows(text, *pair.split("-"))


PIECES = st.sampled_from([
    *"\n *#_`-\"«»()[]:.>1<", "\n\n", " ", "**", "```", "---", "English", "english", "Spanish",
    "inglés", "Translation", "translation", "Transcription", "EN", "ES", "En", "Hola", "perro.",
    "I can't", "process", "the", "audio", "thought", "<think>", "</think>", "Here is", "Note",
    "Please provide", "->", "→", "é", "日本語", "。",
    "【", "】", "（", "）", "：", "英語", "翻訳", "अनुवाद", "抱歉，", "无法处理", "Traducción",
    "✅", "|", "—",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(Part))
@example("Hola *", Part.TRANSCRIPT)
def test_anything_cut_anywhere_only_grows(text, part):
    check_grows(text, "es", "en", part)


WORDS = st.lists(
    st.sampled_from(["el", "perro", "Inglaterra", "dos", "Spain", "trans", "así,", "no.", "¿Qué"]),
    min_size=1,
    max_size=12,
)


@given(WORDS, st.lists(st.sampled_from([" ", "\n", "\n\n"]), min_size=12, max_size=12), WORDS)
def test_no_word_of_speech_is_lost(words, gaps, meant):
    spoken = "".join(gap + word for gap, word in zip(gaps, words, strict=False))
    found = read(f"{spoken}\nEnglish:{gaps[0]}{' '.join(meant)}", "es", "en", done=True)
    assert found.transcript == " ".join(words)
    assert found.translation == " ".join(meant)


def test_an_unknown_language_is_refused():
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        read("Hola", "xx", "en")
