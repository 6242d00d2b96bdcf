"""Mixes the channels of a recording into one, so that nothing that is said gets lost.

Place: in :mod:`pipeline.media` and :mod:`pipeline.microphone`, before the change of rate. A plain
mean loses speech: channels of opposite phase cancel out, and dead ones beside the one that speaks
make it quiet. So only channels that have sound count, and one that runs against the loudest is
turned over.

What is unusual: it is a stream. Sound is taken in blocks of 20 ms, what is known of a channel is
what was heard until the end of the block, and weights move along a line from block to block, so
that no change clicks. The same sound gives the same samples, in whatever pieces it comes.
"""

from dataclasses import dataclass, field

import numpy as np

from dragoman.errors import InputError

BLOCK_S = 0.02
MEMORY_S = 2.0  # of how channels go together
LIVE_DB = -50.0  # a channel counts above this, relative to the loudest
ATTACK_S, LASTING_S = 0.3, 20.0  # in which a loudness is believed, and forgotten
OPPOSITE, ALIKE = -0.5, 0.0  # correlations at which a channel is turned over, and back again


@dataclass
class _Known:
    """What is known of C channels; ``weights`` [C] are those at the end of the last block."""

    weights: np.ndarray
    together: np.ndarray  # [C, C], mean products
    power: np.ndarray  # [C], of the last moments
    loudest: np.ndarray  # [C], the most of it, slowly forgotten
    signs: np.ndarray  # [C], 1 or -1
    held: np.ndarray  # [C, S], samples of an unfinished block

    @classmethod
    def of(cls, C: int) -> "_Known":
        zeros = np.zeros((3, C))
        return cls(zeros[0], np.zeros((C, C)), zeros[1], zeros[2], np.ones(C), np.zeros((C, 0)))


@dataclass
class Downmix:
    """Channels float [C, S] at ``rate_hz`` to one, float32 [S].

    ``only`` is the number of the one channel that is heard, from 1; None: all of them.
    """

    rate_hz: int
    only: int | None = None
    _known: _Known | None = field(default=None, repr=False)

    def step(self, samples: np.ndarray) -> np.ndarray:
        """What is known once ``samples`` [C, S] are there: all but the last unfinished block.

        Raises InputError where there is no channel ``only``.
        """
        if self.only is not None:
            if not 1 <= self.only <= len(samples):
                raise InputError(f"no channel {self.only}: there are {len(samples)}")
            samples = samples[self.only - 1 : self.only]
        if len(samples) == 1:
            return np.concatenate([self.flush(), samples[0]]).astype(np.float32)
        before = np.zeros(0)
        if self._known is None or len(self._known.weights) != len(samples):
            before, self._known = self.flush(), _Known.of(len(samples))
        known, size = self._known, max(1, round(BLOCK_S * self.rate_hz))
        heard = np.concatenate([known.held, samples], axis=1)
        whole = heard.shape[1] // size * size
        mixed = [self._mix(known, heard[:, at : at + size]) for at in range(0, whole, size)]
        known.held = heard[:, whole:]
        return np.concatenate([before, *mixed]).astype(np.float32)

    def flush(self) -> np.ndarray:
        """The unfinished block; what comes next begins a new one."""
        known = self._known
        if known is None or not known.held.shape[1]:
            return np.zeros(0, np.float32)
        mixed = self._mix(known, known.held)
        known.held = known.held[:, :0]
        return mixed.astype(np.float32)

    def _mix(self, known: _Known, block: np.ndarray) -> np.ndarray:
        first = not known.loudest.any()
        self._learn(known, block)
        live = known.loudest > known.loudest.max() * 10 ** (LIVE_DB / 10)
        live = live if live.any() else ~live  # where none has sound, their mean
        weights = known.signs * live / live.sum()
        start = weights if first else known.weights
        known.weights = weights
        if np.array_equal(start, weights):
            return weights @ block
        ramp = np.linspace(0, 1, block.shape[1], endpoint=False)
        return ((start[:, None] + np.outer(weights - start, ramp)) * block).sum(0)

    def _learn(self, known: _Known, block: np.ndarray) -> None:
        """Takes a block [C, S] into what is known."""
        seconds = block.shape[1] / self.rate_hz
        sound = block - block.mean(axis=1, keepdims=True)  # a constant offset is none
        products = sound @ sound.T / block.shape[1]
        known.together *= np.exp(-seconds / MEMORY_S)
        known.together += products * seconds
        fresh = 1 - np.exp(-seconds / ATTACK_S)
        known.power = known.power + fresh * (np.diag(products) - known.power)
        known.loudest = np.maximum(known.loudest * np.exp(-seconds / LASTING_S), known.power)
        main = int(known.loudest.argmax())
        scale = np.sqrt(np.diag(known.together) * known.together[main, main])
        alike = known.together[main] / np.maximum(scale, 1e-12) * known.signs[main]
        known.signs = np.where(alike < OPPOSITE, -1.0, np.where(alike > ALIKE, 1.0, known.signs))
