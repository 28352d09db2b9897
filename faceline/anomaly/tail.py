"""How surprising a peak is, judged by the person's own footage: an extreme-value null distribution of the score.

The score series is cut into blocks of time; the largest score of each block is one draw from what this person's usual
footage does at its most unusual. Maxima of blocks longer than the series' memory are nearly independent and nearly
Gumbel distributed (Gumbel 1958; Coles 2001, ch. 3), whatever the autocorrelation inside them.

Three things keep this honest on real footage:

- *Anomalies must not set the standard they are judged by.* Only the lower part of the block maxima is fitted (the rest
  counts as censored, type II), and blocks found significant are removed before the next look (step-down, in the manner
  of Rosner 1983 and Romano & Wolf 2005), the highest first and never more than half of the censored ones.
- *A fit to few blocks is uncertain.* Since location and scale are linear in the ordered maxima, the distribution of the
  standardised largest maximum is free of parameters and depends on the numbers of blocks alone; it is simulated with
  the same estimator, so that short footage asks for larger departures by itself.
- *Quiet blocks can promise too much.* The scale of a person's maxima is not taken to be smaller than that of persons in
  general (regional frequency analysis pools what a single site cannot tell; Hosking & Wallis 1997). Scores are robust
  z values, so that one figure serves everybody.

A score is judged in two ways. Its *expected number* is how many moments of this person's usual footage, of this length,
reach it: what is reported down to an expected number of 0.5 holds half a false event on average. Its *p-value* is the
probability of at least one. Neither needs a further correction for the number of events. Where the least scale is the
larger one, both are upper bounds: a calm person's footage holds fewer. Both rest on Gumbel maxima: of usual moments
that are rare yet come back, and of scores with tails as heavy as those of an exponential distribution, more are
reported than accepted (docs/adr/0006-anomalies.md has figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MIN_BLOCKS = 8
"""Below so many blocks nothing can be said about how surprising a peak is."""

STEP_DOWN = 0.1
"""A block is removed as anomalous when usual footage would hold fewer than so many like it. Where more false events are
accepted than that, the usual blocks among them must stay: with 3 accepted in 20 blocks, removing them all gave 5.
"""

DRAWS = 2000
MAX_DRAWN = 4_000_000
SEED = 20_230_124


@dataclass(frozen=True)
class Tail:
    """Null distribution of the largest score of the footage.

    Attributes:
        location: of the block maxima, in units of the score.
        scale: of the block maxima, in units of the score, positive.
        blocks: number of blocks.
        kept: number of lowest block maxima that the fit rests on.
        pivots: float64 [draws, 3], location, scale and the largest kept maximum of simulated standard Gumbel samples
            of the same size.
    """

    location: float
    scale: float
    blocks: int
    kept: int
    pivots: np.ndarray

    def p_value(self, score: np.ndarray | float) -> np.ndarray:
        """Probability that usual footage of this length peaks at or above each score; falls with the score."""
        beyond = self._beyond_kept(score)
        return np.asarray(np.mean(-np.expm1((self.blocks - self.kept) * np.log1p(-beyond)), axis=1))

    def expected(self, score: np.ndarray | float) -> np.ndarray:
        """Expected number of moments of usual footage of this length at or above each score; falls with the score."""
        return np.asarray((self.blocks - self.kept) * np.mean(self._beyond_kept(score), axis=1))

    def level(self, number: float) -> float:
        """The score whose expected number is `number` (bisection to 1e-6 of the scale)."""
        low, high = self.location - 5.0 * self.scale, self.location + 10.0 * self.scale
        while self.expected(high)[0] > number:
            high = low + 2.0 * (high - low)
            if high - low > 1e6 * self.scale:
                return high
        while high - low > 1e-6 * self.scale:
            middle = (low + high) / 2
            low, high = (middle, high) if self.expected(middle)[0] > number else (low, middle)
        return high

    def _beyond_kept(self, score: np.ndarray | float) -> np.ndarray:
        """Probability that a censored maximum reaches each score, given the kept ones; [scores, draws], below 1."""
        t = (np.atleast_1d(np.asarray(score, dtype=np.float64)) - self.location) / self.scale
        level = self.pivots[:, 0] + self.pivots[:, 1] * t[:, None]
        return np.asarray(np.minimum(_beyond(level) / _beyond(self.pivots[:, 2]), 1.0 - 1e-15))


def fit_tail(maxima: np.ndarray, *, keep: float, number: float, least_scale: float = 0.0) -> Tail | None:
    """Fit the null distribution to block maxima float64 [m]; `None` with fewer than `MIN_BLOCKS` of them.

    Args:
        maxima: largest score of each block; anomalies among them are expected.
        keep: share of the (lowest) maxima that the fit rests on; more anomalous blocks than 1 − keep would spoil it.
        number: blocks whose maximum has a smaller expected number (and below `STEP_DOWN`) are removed, and the rest is
            fitted again.
        least_scale: the scale is taken to be no smaller, in units of the score.
    """
    maxima = np.sort(maxima[np.isfinite(maxima)])
    if len(maxima) < MIN_BLOCKS:
        return None
    # The same lowest maxima carry every look: only how many lie above them changes as anomalies are taken away.
    kept = max(int(np.ceil(keep * len(maxima))), 4)
    fewest = kept + max(1, (len(maxima) - kept) // 2)
    while True:
        location, scale = _fit(maxima[None, :kept], len(maxima))[0]
        spread = max(float(scale), least_scale, 1e-9 * max(1.0, abs(float(location))))
        tail = Tail(float(location), spread, len(maxima), kept, _pivots(len(maxima), kept))
        usual = int(np.searchsorted(maxima, tail.level(min(number, STEP_DOWN))))
        if max(usual, fewest) >= len(maxima):
            return tail
        maxima = maxima[: max(usual, fewest)]


def block_maxima(score: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, block_s: float) -> np.ndarray:
    """Largest finite score of each block of `block_s` seconds; float64 [m].

    Blocks start with each stretch and end with it; a block with less than half the typical (median) number of scored
    rows is left out, since its maximum is one of fewer draws.
    """
    known = np.isfinite(score)
    if not known.any():
        return np.zeros(0)
    score, time_s, stretch = score[known], time_s[known], stretch[known]
    starts = time_s[np.searchsorted(stretch, stretch, side="left")]
    number = np.floor((time_s - starts) / block_s + 1e-9).astype(np.int64)
    change = np.flatnonzero((np.diff(number) != 0) | (np.diff(stretch) != 0)) + 1
    first = np.concatenate([[0], change])
    rows = np.diff(np.concatenate([first, [len(score)]]))
    return np.asarray(np.maximum.reduceat(score, first)[rows >= 0.5 * np.median(rows)])


def memory_s(score: np.ndarray, time_s: np.ndarray, interval_s: float, longest_s: float = 30.0) -> float:
    """Time after which the score has forgotten: the first lag at which its ranks correlate below 0.2.

    Pairs are matched by time (to half a sampling interval), so that gaps do not count as time passing; seconds.
    """
    known = np.isfinite(score)
    score, time_s = score[known], time_s[known]
    if len(score) < 8:
        return interval_s
    rank = np.argsort(np.argsort(score, kind="stable"), kind="stable").astype(np.float64)
    rank = (rank - rank.mean()) / rank.std()
    lag_s = interval_s
    while lag_s < min(longest_s, (time_s[-1] - time_s[0]) / 4):
        later = np.searchsorted(time_s, time_s + lag_s - interval_s / 2)
        inside = np.minimum(later, len(time_s) - 1)
        matched = (later < len(time_s)) & (np.abs(time_s[inside] - time_s - lag_s) <= interval_s / 2 + 1e-6)
        if matched.sum() < 8 or np.mean(rank[matched] * rank[inside[matched]]) < 0.2:
            return float(lag_s)
        lag_s = max(lag_s + interval_s, lag_s * 1.1)
    return float(lag_s)


def _beyond(level: np.ndarray) -> np.ndarray:
    """1 − F of the standard Gumbel distribution, exact far out."""
    return np.asarray(-np.expm1(-np.exp(-np.maximum(level, -30.0))))


def _fit(kept: np.ndarray, blocks: int) -> np.ndarray:
    """Location and scale float64 [s, 2] of ascending lowest maxima [s, kept] among `blocks` (least squares on the
    Gumbel probability plot, Gringorten's plotting positions)."""
    position = (np.arange(1, kept.shape[1] + 1) - 0.44) / (blocks + 0.12)
    reduced = -np.log(-np.log(position))
    centred = reduced - reduced.mean()
    scale = kept @ centred / (centred @ centred)
    return np.stack([kept.mean(axis=1) - scale * reduced.mean(), scale], axis=1)


@lru_cache(maxsize=64)
def _pivots(blocks: int, kept: int) -> np.ndarray:
    """Fits of simulated samples; they depend on the two numbers alone, so they are made once."""
    draws = int(np.clip(MAX_DRAWN // blocks, 200, DRAWS))
    uniform = np.sort(np.random.default_rng(SEED).random((draws, blocks)), axis=1)[:, :kept]
    sample = -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))
    return np.concatenate([_fit(sample, blocks), sample[:, -1:]], axis=1)
