"""Which k the scores speak for, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from sqlkmeans.clustering.choosing.gap import Gap
from sqlkmeans.clustering.choosing.k_scores import KScore, Recommendation

# Tuned on other seeds than those that benchmarks/choose_k.py reports on.
#: So much more than everyone in one segment has to be won over rows without structure, on the
#: log scale of the gap statistic: an inertia 5 % lower.
GAP_RISE = 0.05
#: Borders so empty show structure whatever the gap statistic says, which long tails mislead.
CLEAR_SEPARATION = 0.7
#: A k counts whose separation is above such a part of what some k reaches, its error allowed for.
SEPARATION_SHARE = 0.5
#: Two k whose merits differ by no more are about equal.
ABOUT_EQUAL = 0.02


def recommend(scores: Sequence[KScore], gap_of_one: Gap | None, min_share: float) -> Recommendation:
    """Ask first whether there is structure, then which k shows it best.

    There is structure if no border of some k cuts through a crowd (its separation is above 0) and
    some partition is tighter than one of rows without structure (the gap statistic rises from
    k = 1), errors allowed for; borders that are nearly empty show it by themselves. Of the k that
    ``min_share`` allows, those count whose separation is at least half of the best (all, if every
    k cuts through a crowd), and the best of them has the highest :func:`merit`.

    Parameters
    ----------
    scores : sequence of KScore
        Ascending, at least one.
    gap_of_one : Gap or None
        The gap statistic of k = 1: everyone in one segment.
    min_share : float
        A k with a segment smaller than this share of the rows is refused.
    """
    structure = _has_structure(scores, gap_of_one)
    allowed = [score for score in scores if score.smallest_share >= min_share]
    if not allowed:
        return Recommendation(structure, None, _all_refused(scores, min_share), None)
    merits = merit(allowed)
    enough = SEPARATION_SHARE * _surest_separation(allowed)
    whole = [score for score in allowed if (score.separation or 0) > max(enough, 0)] or allowed
    # Those that do not count come after those that do.
    best, *others = sorted(allowed, key=lambda s: (s not in whole, -merits[s.k], s.k))
    if not structure:
        return Recommendation(False, None, _no_structure(_span(scores), best), best.k)
    equals = [s.k for s in whole if s is not best and merits[best.k] - merits[s.k] <= ABOUT_EQUAL]
    reason = [_why(best, allowed), *_equals(equals), *_refused(scores, min_share)]
    return Recommendation(True, best.k, ". ".join(reason), best.k, _first_k(others))


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


def deciding_scores(structure: bool | None) -> tuple[str, ...]:
    """The scores that :func:`recommend` decides by; of :func:`recommend_untested` for None."""
    if structure is None:
        return ("simplified_silhouette",)
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


def knee(scores: Sequence[KScore]) -> list[int]:
    """The k at which the inertia is farthest below the line from its first to its last value
    (Satopää, Albrecht, Irwin & Raghavan, 2011, "Finding a 'Kneedle' in a haystack").

    Empty where fewer than three k were scored, or the inertia does not fall.
    """
    first, last = scores[0], scores[-1]
    if len(scores) < 3 or last.inertia >= first.inertia:
        return []
    fallen = [
        (first.inertia - s.inertia) / (first.inertia - last.inertia)
        - (s.k - first.k) / (last.k - first.k)
        for s in scores
    ]
    return [scores[fallen.index(max(fallen))].k]


def _has_structure(scores: Sequence[KScore], gap_of_one: Gap | None) -> bool:
    separation = _surest_separation(scores)
    gaps = [s.gap - s.gap_error for s in scores if s.gap is not None and s.gap_error is not None]
    rises = bool(gaps) and gap_of_one is not None and max(gaps) - gap_of_one.value > GAP_RISE
    return separation > CLEAR_SEPARATION or (rises and separation > 0)


def _surest_separation(scores: Sequence[KScore]) -> float:
    return max((score.separation or 0) - (score.separation_error or 0) for score in scores)


def _span(scores: Sequence[KScore]) -> str:
    first, last = scores[0].k, scores[-1].k
    return f"k = {first}" if first == last else f"k from {first} to {last}"


def _all_refused(scores: Sequence[KScore], min_share: float) -> str:
    return f"Every {_span(scores)} leaves a segment smaller than min_share = {min_share:g}"


def _no_structure(span: str, best: KScore) -> str:
    return (
        f"No cluster structure for {span}: the customers are no tighter than ones spread evenly, "
        f"or every partition cuts through a crowd. Segments would cut a continuum; {best.k} cut "
        "it best"
    )


def _why(best: KScore, allowed: Sequence[KScore]) -> str:
    """What speaks for the best k."""
    votes: dict[str, list[int]] = {
        "Davies-Bouldin": _best_of(allowed, "davies_bouldin", lowest=True),
        "Calinski-Harabasz": _best_of(allowed, "calinski_harabasz"),
        "silhouette": _best_of(allowed, "silhouette"),
        "simplified silhouette": _best_of(allowed, "simplified_silhouette"),
        "stability": _best_of(allowed, "stability"),
        "the knee of the inertia": knee(allowed),
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
