"""How a segment is told from the others: a number, a colour, a shape; never a colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from sqlkmeans.report.facts import Row

#: Colours of the style sheet, ``--c0`` to ``--c7``; a ninth segment starts again.
COLOURS = 8

#: A customer on the scatter, drawn from its place: one path for each shape.
SHAPES = (
    "m-2.4,0a2.4,2.4 0 1 0 4.8,0a2.4,2.4 0 1 0 -4.8,0",  # circle
    "m-2.1,-2.1h4.2v4.2h-4.2z",  # square
    "m0,-2.9l2.7,4.8h-5.4z",  # triangle
    "m0,-3.1l2.7,3.1l-2.7,3.1l-2.7,-3.1z",  # diamond
    "m0,2.9l2.7,-4.8h-5.4z",  # triangle, point down
    "m-.8,-2.8h1.6v2h2v1.6h-2v2h-1.6v-2h-2v-1.6h2z",  # plus
    "m-3,-1.2h6v2.4h-6z",  # bar
    "m-1.2,-3h2.4v6h-2.4z",  # upright bar
)


@dataclass(frozen=True)
class Mark:
    """One segment's mark.

    Attributes
    ----------
    segment_id : int
    name : str
    colour : int
        Of the style sheet.
    shape : str
        One of ``SHAPES``; the first 64 segments differ in colour or shape.
    """

    segment_id: int
    name: str
    colour: int
    shape: str


def marks(segments: list[Row]) -> dict[int, Mark]:
    """The marks of segments by id; an id has the same one on every page."""
    return {row["segment_id"]: _mark(row["segment_id"], row["name"]) for row in segments}


def _mark(segment_id: int, name: str) -> Mark:
    index = segment_id - 1
    shape = SHAPES[(index + index // COLOURS) % len(SHAPES)]
    return Mark(segment_id, name, index % COLOURS, shape)
