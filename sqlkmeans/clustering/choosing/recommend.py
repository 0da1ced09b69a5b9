"""Which k the scores speak for, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, sqrt
from typing import Any, Literal

from sqlkmeans.clustering.choosing.gap import Gap
from sqlkmeans.clustering.choosing.k_scores import KScore, Recommendation

# Tuned on other seeds than those that benchmarks/choose_k.py reports on.
#: So much more than everyone in one segment has to be won over rows without structure, on the
#: log scale of the gap statistic: an inertia 5 % lower.
GAP_RISE = 0.05
#: Borders so empty show structure whatever the gap statistic says, which long tails mislead.
CLEAR_SEPARATION = 0.7
#: But not of fewer rows a feature: some line through many features parts any few rows.
ROWS_A_FEATURE = 20
#: Of fewer rows a segment nothing can be told.
ROWS_A_SEGMENT = 5
#: A k counts whose separation is above such a part of what some k reaches, its error allowed for.
SEPARATION_SHARE = 0.5
#: Two k whose merits differ by no more are about equal.
ABOUT_EQUAL = 0.02
#: Two partitions say the same if their adjusted Rand index is no less.
ALIKE = 0.75
#: Segments leave crowds whole if each has so much of its rows in one of them.
WHOLE = 0.99


@dataclass(frozen=True)
class Beside:
    """What is known of the rows beside the scores of each k.

    Attributes
    ----------
    n_rows : float, default=inf
        Rows.
    rows_a_feature : float, default=inf
        Rows for each feature that is judged.
    few_valued : bool, default=False
        Whether every column has few values, so that the scores but the gap tell nothing.
    left_out : tuple of str, default=()
        Columns of few values, which the scores do not judge by.
    as_own : dict of int to float
        Where some were left out: for each k, how alike the run's own segments and those that were
        judged are (adjusted Rand index).
    n_crowds : int, default=1
        Crowds of any shape, see :func:`sqlkmeans.clustering.choosing.crowds.crowds`.
    as_crowds : dict of int to float
        For each k, how alike its segments and the crowds are (adjusted Rand index).
    whole_crowds : dict of int to float
        For each k, the share of the rows of crowds that are in the crowd that most of their
        segment are in.
    """

    n_rows: float = inf
    rows_a_feature: float = inf
    few_valued: bool = False
    left_out: tuple[str, ...] = ()
    as_own: Mapping[int, float] = field(default_factory=dict)
    n_crowds: int = 1
    as_crowds: Mapping[int, float] = field(default_factory=dict)
    whole_crowds: Mapping[int, float] = field(default_factory=dict)


def recommend(
    scores: Sequence[KScore],
    gap_of_one: Gap | None,
    min_share: float,
    beside: Beside = Beside(),
) -> Recommendation:
    """Ask first whether there is structure, then which k shows it best.

    There is structure if no border of some k cuts through a crowd (its separation is above 0) and
    some partition is tighter than one of rows without structure (the gap statistic rises from
    k = 1), errors allowed for; of enough rows, borders that are nearly empty show it by
    themselves. Of the k that ``min_share`` allows, those count that have five rows a segment and
    whose separation is at least half of the best (all, if every k cuts through a crowd), and the
    best of them has the highest :func:`merit`.

    Where the rows form crowds that no k finds, or makes up of whole segments, and its borders are
    not nearly empty, the structure is not of K-Means' shape and no k is recommended. Where all
    columns have few values, the gap statistic decides alone, by its own rule.

    Parameters
    ----------
    scores : sequence of KScore
        Ascending, at least one.
    gap_of_one : Gap or None
        The gap statistic of k = 1: everyone in one segment.
    min_share : float
        A k with a segment smaller than this share of the rows is refused.
    beside : Beside, optional
    """
    shape = _shape(scores, gap_of_one, beside)
    structure = shape is not None
    allowed = [score for score in scores if score.smallest_share >= min_share]
    if not allowed:
        return Recommendation(structure, None, _all_refused(scores, min_share), None, shape=shape)
    merits = merit(allowed)
    enough = SEPARATION_SHARE * _surest_separation(allowed)
    whole = [
        score
        for score in allowed
        if (score.separation or 0) > max(enough, 0) and _has_rows(score, beside)
    ] or allowed
    if beside.few_valued:
        whole = [_first_by_gap(allowed, gap_of_one) or allowed[0]]
    # Those that do not count come after those that do.
    best, *others = sorted(allowed, key=lambda s: (s not in whole, -merits[s.k], s.k))
    if shape != "compact":
        reason = [
            _connected(beside, best) if shape else _no_structure(scores, best, beside),
            *_left_out(beside),
        ]
        return Recommendation(structure, None, ". ".join(reason), best.k, shape=shape)
    equals = [s.k for s in whole if s is not best and merits[best.k] - merits[s.k] <= ABOUT_EQUAL]
    why = _why_by_gap(best) if beside.few_valued else _why(best, allowed)
    reason = [
        why, *_equals(equals), *_left_out(beside), *_follow(beside, best.k),
        *_refused(scores, min_share),
    ]  # fmt: skip
    return Recommendation(True, best.k, ". ".join(reason), best.k, _first_k(others), shape)


def recommend_untested(scores: Sequence[KScore], min_share: float) -> Recommendation:
    """The k of the highest simplified silhouette, where no row may be looked at.

    Whether there is structure is not known then, and so not said.

    Parameters are those of :func:`recommend`.
    """
    allowed = [score for score in scores if score.smallest_share >= min_share]
    if not allowed:
        return Recommendation(None, None, _all_refused(scores, min_share), None)
    best, *others = sorted(allowed, key=lambda score: (-score.simplified_silhouette, score.k))
    reason = [
        f"{best.k} segments: best by simplified silhouette",
        "No row may be read, so whether there is any cluster structure is not tested",
        *_refused(scores, min_share),
    ]
    return Recommendation(None, best.k, ". ".join(reason), best.k, _first_k(others))


def deciding_scores(structure: bool | None, scores: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The scores that :func:`recommend` decides by; of :func:`recommend_untested` for None.

    ``scores`` are rows of ``k_score``.
    """
    if structure is None:
        return ("simplified_silhouette",)
    if all(row["separation"] is None for row in scores):
        return ("gap",)
    return ("separation", "davies_bouldin", "calinski_harabasz")


def _first_k(scores: Sequence[KScore]) -> int | None:
    return scores[0].k if scores else None


def merit(scores: Sequence[KScore]) -> dict[int, float]:
    """How good each k is beside the others, 0 to 1.

    The mean of two indices, each as a share of its best over all k: Davies-Bouldin, which looks
    at each segment and the neighbour that it is least apart from, and Calinski-Harabasz, which
    looks at all rows at once; by its root, because it compares squares of distances.
    """
    lowest = min((s.davies_bouldin for s in scores if s.davies_bouldin is not None), default=0.0)
    highest = max((s.calinski_harabasz or 0.0 for s in scores), default=0.0)
    return {
        score.k: 0.5 * (lowest / score.davies_bouldin if score.davies_bouldin else 0.0)
        + 0.5 * (sqrt((score.calinski_harabasz or 0.0) / highest) if highest else 0.0)
        for score in scores
    }


def _shape(
    scores: Sequence[KScore], gap_of_one: Gap | None, beside: Beside
) -> Literal["compact", "connected"] | None:
    """None where there is no structure."""
    found = any(_finds_crowds(score, beside) for score in scores)
    if not found and _surest_separation(scores) <= CLEAR_SEPARATION:
        return "connected"
    return "compact" if _has_structure(scores, gap_of_one, beside) else None


def _finds_crowds(score: KScore, beside: Beside) -> bool:
    """Whether the segments are the crowds, or parts of them that are crowds to K-Means."""
    alike = beside.as_crowds.get(score.k, 1.0) >= ALIKE
    return alike or (_sure(score) > 0 and beside.whole_crowds.get(score.k, 1.0) >= WHOLE)


def _has_rows(score: KScore, beside: Beside) -> bool:
    return beside.n_rows >= ROWS_A_SEGMENT * score.k


def _has_structure(scores: Sequence[KScore], gap_of_one: Gap | None, beside: Beside) -> bool:
    gaps = [
        score.gap - score.gap_error
        for score in scores
        if score.gap is not None and score.gap_error is not None and _has_rows(score, beside)
    ]
    rises = bool(gaps) and gap_of_one is not None and max(gaps) - gap_of_one.value > GAP_RISE
    if beside.few_valued:
        return rises and _first_by_gap(scores, gap_of_one) is not None
    separation = _surest_separation(scores)
    clear = separation > CLEAR_SEPARATION and beside.rows_a_feature >= ROWS_A_FEATURE
    return clear or (rises and separation > 0)


def _first_by_gap(scores: Sequence[KScore], gap_of_one: Gap | None) -> KScore | None:
    """The first k that the next does not better by more than chance, as the gap's paper has it;
    None for k = 1."""
    known = [
        (s, s.gap, s.gap_error) for s in scores if s.gap is not None and s.gap_error is not None
    ]
    values = [(None, gap_of_one.value, 0.0)] if gap_of_one else []
    return next(
        (
            one[0]
            for one, following in pairwise([*values, *known])
            if one[1] >= following[1] - following[2]
        ),
        known[-1][0] if known else None,
    )


def _surest_separation(scores: Sequence[KScore]) -> float:
    return max(_sure(score) for score in scores)


def _sure(score: KScore) -> float:
    return (score.separation or 0) - (score.separation_error or 0)


def _span(scores: Sequence[KScore]) -> str:
    first, last = scores[0].k, scores[-1].k
    return f"k = {first}" if first == last else f"k from {first} to {last}"


def _all_refused(scores: Sequence[KScore], min_share: float) -> str:
    return f"Every {_span(scores)} leaves a segment smaller than min_share = {min_share:g}"


def _no_structure(scores: Sequence[KScore], best: KScore, beside: Beside) -> str:
    why = (
        "their columns of few values do not go together"
        if beside.few_valued
        else "the customers are no tighter than ones spread evenly, or every partition cuts "
        "through a crowd"
    )
    return (
        f"No cluster structure for {_span(scores)}: {why}. Segments would cut a continuum; "
        f"{best.k} cut it best"
    )


def _connected(beside: Beside, best: KScore) -> str:
    return (
        f"Structure, but not of K-Means' shape: {beside.n_crowds} crowds are drawn out or bent "
        "around each other, as lines, rings and moons are, and every partition cuts across them. "
        f"Segments would say which middle a customer is near, not which crowd is theirs; {best.k} "
        "cut best"
    )


def _left_out(beside: Beside) -> list[str]:
    if not beside.left_out:
        return []
    own = "its few values part" if len(beside.left_out) == 1 else "their few values part"
    return [f"Judged without {_listed(beside.left_out)}: {own} any customers"]


def _follow(beside: Beside, k: int) -> list[str]:
    """That a run would cut along the columns of few values instead."""
    if beside.as_own.get(k, 1.0) >= ALIKE:
        return []
    return [
        f"With {_listed(beside.left_out)} among the features, though, {k} segments follow other "
        "lines than these groups: a smaller weight, or profile instead of features, lets them be "
        "found"
    ]


def _why_by_gap(best: KScore) -> str:
    return (
        f"{best.k} segments: best by the gap statistic against the same columns shuffled. All "
        "columns have few values; some go together"
    )


def _why(best: KScore, allowed: Sequence[KScore]) -> str:
    """What speaks for the best k."""
    votes: dict[str, list[int]] = {
        "Davies-Bouldin": _best_of(allowed, "davies_bouldin", lowest=True),
        "Calinski-Harabasz": _best_of(allowed, "calinski_harabasz"),
        "silhouette": _best_of(allowed, "silhouette"),
        "simplified silhouette": _best_of(allowed, "simplified_silhouette"),
        "stability": _best_of(allowed, "stability"),
    }
    agreeing = [name for name, ks in votes.items() if best.k in ks]
    others: dict[int, list[str]] = {}
    for name, ks in votes.items():
        if ks and best.k not in ks:
            others.setdefault(ks[0], []).append(name)
    text = f"{best.k} segments: "
    text += f"best by {_listed(agreeing)}" if agreeing else "the best compromise"
    text += "".join(f"; {_listed(names)} would take {k}" for k, names in sorted(others.items()))
    if best.separation is not None and best.separation > 0:
        text += f". The fullest border is {best.separation:.0%} emptier than what lies beside it"
    else:
        text += ". Some border runs through a crowd"
    return text


def _best_of(scores: Sequence[KScore], name: str, *, lowest: bool = False) -> list[int]:
    """The k with the best value of a score; several where they are equal to two decimals."""
    values = {s.k: round(getattr(s, name), 2) for s in scores if getattr(s, name) is not None}
    best = (min if lowest else max)(values.values(), default=None)
    return [k for k, value in values.items() if value == best]


def _equals(ks: Sequence[int]) -> list[str]:
    return [f"{_listed([str(k) for k in ks])} would do about as well"] if ks else []


def _refused(scores: Sequence[KScore], min_share: float) -> list[str]:
    refused = [str(s.k) for s in scores if s.smallest_share < min_share]
    if not refused:
        return []
    return [f"min_share = {min_share:g} refuses {_listed(refused)}"]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
