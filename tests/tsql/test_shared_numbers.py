"""Numbers that Python and the procedures have to agree on: their list, compared with Python's."""

from __future__ import annotations

import json
import re

from sqlkmeans import outcome
from sqlkmeans.clustering.describing import bins, naming, outliers, profile_columns
from sqlkmeans.clustering.kmeans import kmeans
from sqlkmeans.clustering.preparation import problems
from sqlkmeans.definition.segmentation import FeatureDefinition, Guard, SparkSettings
from support.tsql_files import PROCEDURES, read

GUARD = Guard()
CATEGORY = FeatureDefinition(column="city", type="category")
PYTHON = {
    "guard.rows": GUARD.rows,
    "guard.moved": GUARD.moved,
    "guard.psi": GUARD.psi,
    "guard.centroid_shift": GUARD.centroid_shift,
    "guard.distance": GUARD.distance,
    "guard.outliers": GUARD.outliers,
    "outlier_slack": outliers.SLACK,
    "min_frequency": CATEGORY.min_frequency,
    "max_categories": CATEGORY.max_categories,
    "almost_missing": problems.ALMOST_MISSING,
    "almost_missing_rows": problems.ALMOST_MISSING_ROWS,
    "max_iter": kmeans.MAX_ITER,
    "tolerance": kmeans.TOLERANCE,
    "distance_tolerance": outcome.DISTANCE_TOLERANCE,
    "bin_rows": bins.SAMPLE_ROWS,
    "least_share": bins.LEAST_SHARE,
    "normal_quantile": profile_columns.Z,
    "notable": naming.NOTABLE,
    "strong": naming.STRONG,
}


def test_a_definition_made_in_sql_has_sparks_settings_as_python_writes_them() -> None:
    [written] = re.findall(r'"spark":(\{[^}]*\})', read("procedures/define_segmentation.sql"))
    assert json.loads(written) == SparkSettings().model_dump()


def test_the_procedures_have_pythons_numbers() -> None:
    listed = re.findall(r"WHEN N'([\w.]+)' THEN (\S+)", read("functions/shared_number.sql"))
    assert {name: float(value) for name, value in listed} == PYTHON


def test_every_number_of_the_list_is_used_and_no_other_is_asked_for() -> None:
    used = {
        name
        for procedure in PROCEDURES
        for name in re.findall(r"sqlkmeans\.shared_number\(N'([\w.]+)'\)", read(procedure))
    }
    assert used == set(PYTHON)
