"""A fitted model as SQL: a function that says why a row is in its segment, and what would move it.

One row a feature, by the arithmetic of :mod:`sqlkmeans.clustering.describing.remedy`: what the
feature contributes to the decision against the runner-up, and the smallest change of its column
that would move the row, scored once more by the function ``assign_<segmentation>`` itself. So the
segment that is named is the one that scoring gives.

The query has two parts. Rows of ``feature``, with what is known of each and its value in the row,
and rows of ``centroid`` are this model's; all that follows is the same text for every model, and
``sql/procedures/explaining_text.sql`` has it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

from sqlkmeans.clustering.describing.remedy import (
    CLEARANCE,
    FARTHEST,
    GRAIN,
    LEAST_APART,
    LEAST_LOGARITHM,
    MOST_LOGARITHM,
    RESOLUTION,
    WHOLE_CLEARANCE,
    Steps,
)
from sqlkmeans.clustering.preparation.preparation import OTHER, PreparedFeature
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.sqlserver.dialect import TSQL, bracket
from sqlkmeans.model import SegmentModel
from sqlkmeans.tsql.expressions import (
    number,
    own_expression,
    scaled_expression,
    transformed_expression,
)
from sqlkmeans.tsql.scoring import (
    function_text,
    how_to_call,
    made_anew,
    parameter_names,
    scoring_query,
)

#: What makes a table of the one row that the values score to.
Score = Callable[[Sequence[str]], str]

#: The columns of ``feature``.
_FEATURE = (
    "position", "feature", "given", "start", "z", "low", "high", "least", "most", "is_log",
    "center", "divisor", "is_whole", "reference_date", "level",
)  # fmt: skip

#: What is the same for every model, between the rows of a model and the score of changed values.
#: A column that an aggregate or the order of a TOP gives is not written out where its name stands
#: (see :mod:`sqlkmeans.tsql.scoring`).
DECIDED = """\
distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    {first} n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM {own} AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id{last}
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    {apply} (
        {first} y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        {apply} (SELECT c.value - p.own_value AS apart) AS h
        {apply} (SELECT CASE
                WHEN ABS(h.apart) > {least_apart} * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        {apply} (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        {apply} (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN {least_logarithm} AND {most_logarithm}
                     THEN {expm1} END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN {least_logarithm} AND {most_logarithm}
                     THEN b.far * EXP(b.t) END AS way) AS x
        {apply} (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN {grain} * x.way + {resolution} * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10({grain} * x.way + {resolution} * ABS(x.border))) END AS power) AS e
        {apply} (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        {apply} (SELECT CASE p.is_whole
                WHEN 1 THEN {whole_clearance} * x.way + {resolution} * ABS(x.border)
                ELSE {clearance} * u.unit / u.parts END AS clear) AS q
        {apply} (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * {farthest} > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC{last}
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        {changed}
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    {new_date} AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    {apply} {moved} AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id"""
#: To the last digits near 0 too: the rounding of EXP cancels out (Kahan).
_EXPM1 = (
    "CASE WHEN EXP(b.t) = 1e0 THEN b.t\n"
    "                          ELSE (EXP(b.t) - 1e0) * (b.t / {log}(EXP(b.t))) END"
)


def explaining_script(name: str, model: SegmentModel, steps: Mapping[int, Steps]) -> str:
    """A script that makes the function ``sqlkmeans.explain_<name>``, beside the one that scores."""
    scorer, function = (f"sqlkmeans.{bracket(what + name)}" for what in ("assign_", "explain_"))
    columns = "f.feature, f.contribution, f.new_value, f.new_date, f.new_level, f.new_segment_id"
    return (
        "-- Why a row is in its segment, and what would move it, a row a feature:\n"
        f"{how_to_call(function, columns, model)}"
        f"{made_anew(function, explaining_function(function, scorer, model, steps))}"
    )


def explaining_function(
    name: str, scorer: str, model: SegmentModel, steps: Mapping[int, Steps]
) -> str:
    """The CREATE FUNCTION statement alone; ``name`` and ``scorer`` are quoted names."""
    names = parameter_names(model.columns)
    query = explaining_query(
        model, names, TSQL, lambda values: f"{scorer}({', '.join(values)})", steps
    )
    return function_text(name, model, query)


def explaining_query(
    model: SegmentModel,
    values: Sequence[str],
    dialect: Dialect,
    score: Score | None = None,
    steps: Mapping[int, Steps] | None = None,
) -> str:
    """The query of one row, and one row a feature.

    Its columns are ``position, feature, segment_id, segment_name, runner_up_id, contribution,
    new_value, new_date, new_level, difference, new_segment_id, new_segment_name``; there is no row
    for what has no segment.

    Parameters
    ----------
    model : SegmentModel
    values : sequence of str
        An expression for each of the model's columns, as ``scoring_query`` takes them.
    dialect : Dialect
    score : callable, optional
        Makes of such values a table with ``segment_id`` and ``segment_name``; by default the
        scoring query.
    steps : dict of int to Steps, optional
        Which new values make sense, by position.
    """

    def scored(of: Sequence[str]) -> str:
        if score is not None:
            return score(of)
        return "(\n" + scoring_query(model, of, dialect) + "\n)"

    fixed = fixed_text(dialect).format(
        own=scored(values),
        changed=",\n        ".join(_changed(model, values, dialect)),
        moved=scored([f"v.v{place}" for place in range(1, len(values) + 1)]),
    )
    return f"WITH feature AS\n(\n{_features(model, values, dialect, steps or {})}\n),\n{fixed}"


def fixed_text(dialect: Dialect) -> str:
    """What follows the rows of a model in one dialect."""
    empty = dialect.first(1, "", "").rstrip("\n")
    first, last = (empty.strip(), "") if "TOP" in empty else ("SELECT", "\n    LIMIT 1")
    # Of a row that is no date, a value may be more than a whole number holds.
    age = "CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END"
    new_date = dialect.earlier("p.reference_date", age)
    words = {
        "first": first, "last": last, "apply": dialect.apply, "new_date": new_date,
        "expm1": _EXPM1.format(log=dialect.logarithm),
        "least_apart": number(LEAST_APART), "farthest": number(FARTHEST), "grain": number(GRAIN),
        "resolution": number(RESOLUTION), "clearance": number(CLEARANCE),
        "whole_clearance": number(WHOLE_CLEARANCE), "least_logarithm": number(LEAST_LOGARITHM),
        "most_logarithm": number(MOST_LOGARITHM),
    }  # fmt: skip
    text = DECIDED
    for word, value in words.items():
        text = text.replace("{" + word + "}", value)
    return text


def _changed(model: SegmentModel, values: Sequence[str], dialect: Dialect) -> list[str]:
    """Each column as it is, or changed where the row is of one of its features."""
    features = model.preparation.features
    found = []
    for place, (column, value) in enumerate(zip(model.columns, values), start=1):
        positions = [str(p) for p, f in enumerate(features, start=1) if f.column == column]
        kind = model.preparation.types[column]
        new = {
            "number": "w.new_value", "category": "p.level",
            "date": dialect.earlier("p.reference_date", "w.new_value"),
        }[kind]  # fmt: skip
        condition = f"p.position IN ({', '.join(positions)})"
        found.append(f"MAX(CASE WHEN {condition} THEN {new} ELSE {value} END) AS v{place}")
    return found


def _features(
    model: SegmentModel, values: Sequence[str], dialect: Dialect, steps: Mapping[int, Steps]
) -> str:
    """The queries ``feature`` and, after it, ``centroid``, without the last bracket."""
    features = model.preparation.features
    given = dict(zip(model.columns, values))
    columns: dict[str, list[str]] = {"x": [], "t": [], "z": []}
    rows = []
    for p, f in enumerate(features, start=1):
        value = given[f.column]
        own = own_expression(f, value, dialect, levels=model.preparation.levels(f.column))
        columns["x"].append(f"{own} AS x{p}")
        columns["t"].append(f"{transformed_expression(f, f'x.x{p}', dialect)} AS t{p}")
        columns["z"].append(f"{scaled_expression(f, f't.t{p}')} AS z{p}")
        rows.append(_feature_row(p, f, value, dialect, steps.get(p, Steps())))
    first, *rest = (f"(SELECT {', '.join(of_step)}) AS {s}" for s, of_step in columns.items())
    # A centroid in a row, as the rows of a table of constants are counted together.
    centroids = ",\n".join(
        f"        ({i}, {', '.join(map(number, centroid))})"
        for i, centroid in zip(model.segment_ids, model.centroids.tolist())
    )
    positions = range(1, len(features) + 1)
    listed = ",\n".join(rows)
    return (
        f"    SELECT {', '.join(f'v.{name}' for name in _FEATURE)}\n"
        f"    FROM {first}\n"
        + "".join(f"    {dialect.apply} {step}\n" for step in rest)
        + f"    {dialect.apply} (VALUES\n{listed}\n    ) AS v ({', '.join(_FEATURE)})\n"
        "),\ncentroid AS\n(\n"
        "    SELECT w.segment_id, v.position, v.value\n"
        f"    FROM (VALUES\n{centroids}\n"
        f"    ) AS w (segment_id, {', '.join(f'c{p}' for p in positions)})\n"
        f"    {dialect.apply} (VALUES {', '.join(f'({p}, w.c{p})' for p in positions)}\n"
        "    ) AS v (position, value)"
    )


def _feature_row(
    position: int, feature: PreparedFeature, value: str, dialect: Dialect, steps: Steps
) -> str:
    """What stands in one row of ``feature``: NULL for what a feature has not."""
    nothing = f"CAST(NULL AS {dialect.float_type})"
    level = f"CAST(NULL AS {dialect.text_type})"
    day = "CAST(NULL AS date)"
    start = value
    if feature.type == "category":
        value = start = f"x.x{position}"
        level = dialect.literal(OTHER if feature.level is None else feature.level)
    elif feature.reference_date is not None:
        day = dialect.date(feature.reference_date)
        value = start = f"CAST({dialect.days(value, day)} AS {dialect.float_type})"
        steps = Steps(
            True,
            float((date.fromisoformat(feature.reference_date) - date.max).days),
            float((date.fromisoformat(feature.reference_date) - date.min).days),
        )
    if feature.type != "category" and feature.fill is not None:
        start = f"COALESCE({start}, {number(feature.fill)})"
    limits = [feature.low, feature.high, steps.least, steps.most]
    cells = [
        str(position), dialect.literal(feature.name), value, start, f"z.z{position}",
        *(nothing if limit is None else number(limit) for limit in limits),
        str(int(feature.transform == "log1p")), number(feature.center), number(feature.divisor),
        str(int(steps.whole)), day, level,
    ]  # fmt: skip
    return f"        ({', '.join(cells)})"
