"""Continuous batching: all decodings that need a pass of the model now share one.

The translate stage runs the updates of many sessions by it. A decoding does not call the model. It
is a generator that yields a `Request` and is sent the logits; what it asks next may depend on them,
and it may ask as often as it likes. So its code reads as if it had the model to itself, and
decodings join and leave between any two passes.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

from torch import Tensor

from dragoman.decoder.model import LanguageModel
from dragoman.decoder.packed import Request

Result = TypeVar("Result")
Decoding = Generator[Request, Tensor, Result]  # sent the logits [wanted, V] of each request


def alone(model: LanguageModel, decoding: Decoding[Result]) -> Result:
    """What one decoding returns; raises what it raises."""
    (found,) = together(model, [decoding])
    if isinstance(found, Exception):
        raise found
    return found


def together(
    model: LanguageModel, decodings: Sequence[Decoding[Result]]
) -> list[Result | Exception]:
    """What each decoding returns, or the exception that it raised; one that fails fails alone.

    Those that still have questions share every pass, those that are through leave. The caches of
    all requests must differ.
    """
    found: dict[int, Result | Exception] = {}
    answers: dict[int, Tensor | Exception | None] = dict.fromkeys(range(len(decodings)))
    while answers:
        requests: dict[int, Request] = {}
        for number, answer in answers.items():
            try:
                requests[number] = _resumed(decodings[number], answer)
            except StopIteration as end:
                found[number] = end.value
            except Exception as error:
                found[number] = error
        answers = _answers(model, requests)
    return [found[number] for number in range(len(decodings))]


def _resumed(decoding: Decoding[Result], answer: Tensor | Exception | None) -> Request:
    """The next request of ``decoding``, after the answer to its last one (None: its first)."""
    if isinstance(answer, Exception):
        return decoding.throw(answer)
    return next(decoding) if answer is None else decoding.send(answer)


def _answers(
    model: LanguageModel, requests: dict[int, Request]
) -> dict[int, Tensor | Exception | None]:
    """The answer to each request: one pass for each size of the model and each set of heads."""
    alike: dict[object, list[int]] = {}
    for number, request in requests.items():
        alike.setdefault((request.cache.plan, request.heads), []).append(number)
    answers: dict[int, Tensor | Exception | None] = {}
    for numbers in alike.values():
        asked = [requests[number] for number in numbers]
        answers |= zip(numbers, _pass(model, asked), strict=True)
    return answers


def _pass(model: LanguageModel, requests: list[Request]) -> Sequence[Tensor | Exception]:
    """One pass for all; where that fails, one for each, so that only the bad fail."""
    try:
        if requests[0].heads:
            return model.watch(requests)
        if len(requests) > 1:
            return model.answer_together(requests)
        (only,) = requests
        return [model.answer(only.embeddings, only.ids, only.cache, only.wanted)[0]]
    except Exception as error:
        if len(requests) == 1:
            return [error]
    return [answer for request in requests for answer in _pass(model, [request])]
