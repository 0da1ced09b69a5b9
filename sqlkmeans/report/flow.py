"""Where customers went between two runs, as a flow picture."""

from __future__ import annotations

from dataclasses import dataclass

from sqlkmeans.report.facts import Flow

#: The picture's width in its own units, and where its two columns stand.
WIDTH, LEFT, RIGHT, COLUMN = 720.0, 210.0, 496.0, 14.0
_CUSTOMERS_HEIGHT, _NARROWEST, _GAP, _TOP = 260.0, 15.0, 7.0, 30.0
#: Ways of customers that moved which are drawn, and named in the table below.
DRAWN, LISTED = 80, 12


@dataclass(frozen=True)
class Node:
    """A segment in one of the runs; ``segment_id`` None: not a customer then."""

    segment_id: int | None
    customers: int
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class Ribbon:
    """Customers on the same way."""

    from_segment_id: int | None
    to_segment_id: int | None
    customers: int
    path: str

    @property
    def stayed(self) -> bool:
        return self.from_segment_id == self.to_segment_id


@dataclass(frozen=True)
class FlowPicture:
    """The picture, and the table below it.

    Attributes
    ----------
    before, after : list of Node
    ribbons : list of Ribbon
        Those who stayed first, so that those who moved lie above them.
    height : float
    moved : list of Flow
        The ways that most customers took out of a segment, into one or to another.
    moved_ways, moved_customers : int
        All of them, also those that are not in ``moved``.
    """

    before: list[Node]
    after: list[Node]
    ribbons: list[Ribbon]
    height: float
    moved: list[Flow]
    moved_ways: int
    moved_customers: int

    @property
    def listed_customers(self) -> int:
        return sum(customers for _, _, customers in self.moved)


def flow_picture(flows: list[Flow]) -> FlowPicture:
    """Lay out two columns of segments and the ribbons between them.

    Parameters
    ----------
    flows : list of Flow
        All of them, from :meth:`Database.movement`.
    """
    scale = _CUSTOMERS_HEIGHT / max(1, sum(customers for _, _, customers in flows))
    before = _column([(a, n) for a, _, n in flows], scale)
    after = _column([(b, n) for _, b, n in flows], scale)
    moved = sorted((f for f in flows if f[0] != f[1]), key=lambda f: (-f[2], f[0] or 0, f[1] or 0))
    drawn = {*moved[:DRAWN], *(f for f in flows if f[0] == f[1])}
    bottom = max(node.y + max(node.height, _NARROWEST) for node in (*before, *after))
    return FlowPicture(
        before=before,
        after=after,
        ribbons=_ribbons([f for f in _ordered(flows) if f in drawn], before, after, scale),
        height=bottom + 10,
        moved=moved[:LISTED],
        moved_ways=len(moved),
        moved_customers=sum(customers for _, _, customers in moved),
    )


def _last_if_none(segment_id: int | None) -> float:
    return float("inf") if segment_id is None else segment_id


def _ordered(flows: list[Flow]) -> list[Flow]:
    return sorted(flows, key=lambda flow: (_last_if_none(flow[0]), _last_if_none(flow[1])))


def _column(parts: list[tuple[int | None, int]], scale: float) -> list[Node]:
    sizes: dict[int | None, int] = {}
    for segment_id, customers in parts:
        sizes[segment_id] = sizes.get(segment_id, 0) + customers
    nodes, y = [], _TOP
    for segment_id in sorted(sizes, key=_last_if_none):
        height = max(sizes[segment_id] * scale, 1.0)
        slot = max(height, _NARROWEST)
        nodes.append(Node(segment_id, sizes[segment_id], y + (slot - height) / 2, height))
        y += slot + _GAP
    return nodes


def _ribbons(
    flows: list[Flow], before: list[Node], after: list[Node], scale: float
) -> list[Ribbon]:
    """Ribbons leave a segment from top to bottom in the order in which they arrive."""
    leaves = {node.segment_id: node.y for node in before}
    arrives = {node.segment_id: node.y for node in after}
    ribbons = []
    for start, end, customers in flows:
        thick = customers * scale
        ribbons.append(Ribbon(start, end, customers, _band(leaves[start], arrives[end], thick)))
        leaves[start] += thick
        arrives[end] += thick
    return sorted(ribbons, key=lambda ribbon: not ribbon.stayed)


def _band(y: float, to_y: float, thick: float) -> str:
    x, to_x = LEFT + COLUMN, RIGHT
    middle = (x + to_x) / 2
    # Thinner than this would not be seen.
    thick = max(thick, 0.7)
    return (
        f"M{x:g},{y:.1f}C{middle:g},{y:.1f} {middle:g},{to_y:.1f} {to_x:g},{to_y:.1f}"
        f"v{thick:.1f}C{middle:g},{to_y + thick:.1f} {middle:g},{y + thick:.1f} "
        f"{x:g},{y + thick:.1f}z"
    )
