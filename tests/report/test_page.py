"""What stands on the page, in every state that a segmentation can be in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.cli.app import run_command
from sqlkmeans.database import tables
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.pipeline import assign, choose_k, rename, rollback, run
from sqlkmeans.report.page import write_report
from support.pages import Page, Write, opened
from support.published import changed


def look_up(connection: duckdb.DuckDBPyConnection, source: str) -> object:
    """The value of ``table.column key …`` by a query on the table."""
    column, *key = source.split(" ")
    table, name = column.split(".")
    keys = tables.TABLES[table].key
    where = " AND ".join(f'"{k}" = ?' for k in keys)
    assert len(key) == len(keys)
    row = connection.execute(
        f'SELECT "{name}" FROM sqlkmeans.{table} WHERE {where}', key
    ).fetchone()
    assert row is not None, source
    return row[0]


def shown(text: str) -> tuple[float, float]:
    """The number that a text shows, and how far off its rounding may be."""
    plain = text.strip().replace(",", "").replace("−", "-").replace("+", "")
    unit = 0.01 if plain.endswith("%") else 1.0
    plain = plain.removesuffix("%").strip()
    decimals = len(plain.split(".")[1]) if "." in plain else 0
    return float(plain) * unit, 0.5000001 * 10.0**-decimals * unit


def assert_every_number_equals_a_query(page: Page, shop: Path, target: str, key: str) -> set[str]:
    """Each cited number, its exact value and what is shown; returns the columns seen."""
    columns = set()
    with duckdb.connect(str(shop)) as connection:
        for number in page.numbers:
            if number.source.startswith("movement "):
                value = count_moved(connection, target, key, number.source)
            else:
                value = look_up(connection, number.source)
            assert number.value == str(value), number
            if number.text:
                read, tolerance = shown(number.text)
                assert abs(read - value) <= tolerance + 1e-9 * abs(value), number
            columns.add(number.source.split(" ")[0])
    return columns


def count_moved(connection: duckdb.DuckDBPyConnection, target: str, key: str, source: str) -> int:
    """Customers of one way, by a join of the labels as of the last two runs."""
    _, start, end = source.split(" ")
    before, after = (
        f"(SELECT {key}, segment_id FROM {target}_history, (SELECT published_at AS moment FROM "
        "sqlkmeans.run WHERE status = 'published' ORDER BY published_at DESC LIMIT 1 "
        f"OFFSET {offset}) WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment))"
        for offset in (1, 0)
    )
    conditions = [
        f"{side}.segment_id {'IS NULL' if given == 'None' else '= ' + given}"
        for side, given in (("a", start), ("b", end))
    ]
    row = connection.execute(
        f"SELECT COUNT(*) FROM {before} AS a FULL JOIN {after} AS b USING ({key}) "
        f"WHERE {' AND '.join(conditions)}"
    ).fetchone()
    return int(row[0])


# Every number


@pytest.mark.parametrize("samples", [True, False])
def test_every_number_of_the_cdnow_page_equals_a_query(
    cdnow: Path, write: Write, samples: bool
) -> None:
    page = write(cdnow, "cdnow", samples=samples)
    columns = assert_every_number_equals_a_query(page, cdnow, "dbo.cdnow_segment", "customer_id")
    assert len(page.numbers) > 150
    assert columns >= {
        "movement", "run.rows", "run.k", "run.moved", "run.arrived", "run.departed",
        "run.silhouette", "run.psi", "run.centroid_shift", "run.mean_distance", "run.changed",
        "run.seconds_total", "segment.size", "segment.share", "segment.rule_precision",
        "segment.rule_coverage", "segment.silhouette", "segment.centroid_shift",
        "segment_feature.mean", "segment_feature.median", "segment_feature.importance",
        "feature_drift.psi", "feature_drift.mean", "feature_drift.previous_mean",
        "k_score.silhouette", "k_score.gap", "k_score.gap_error", "k_score.smallest_share",
    }  # fmt: skip
    assert ("typical_customer.distance" in columns) == samples


def test_the_cdnow_page_says_in_words_what_queries_on_the_source_and_target_give(
    cdnow: Path, write: Write
) -> None:
    page = write(cdnow, "cdnow")
    with duckdb.connect(str(cdnow)) as connection:
        rows = connection.execute(
            "SELECT segment_id, COUNT(*), AVG(recency_days), AVG(monetary), MEDIAN(frequency) "
            "FROM dbo.customer_rfm JOIN dbo.cdnow_segment USING (customer_id) GROUP BY ALL"
        ).fetchall()
    assert len(rows) == 4
    for segment_id, size, recency, monetary, frequency in rows:
        assert f"{size:,} customers {size / sum(r[1] for r in rows):.1%}".replace("%", " %") in (
            page.words
        )
        by_source = {number.source: float(number.value) for number in page.numbers}
        found = [by_source[f"segment_feature.{column} 2 {segment_id} {position}"]
                 for column, position in (("mean", 1), ("mean", 3), ("median", 2))]  # fmt: skip
        assert found == pytest.approx([recency, float(monetary), frequency], rel=1e-9)


def test_the_flow_is_of_every_customer_of_both_runs(cdnow: Path, write: Write) -> None:
    page = write(cdnow, "cdnow")
    with duckdb.connect(str(cdnow)) as connection:
        moved = connection.execute(
            "SELECT arrived + moved + departed FROM sqlkmeans.run WHERE run_id = 2"
        ).fetchone()[0]
    assert f"{moved:,} customers changed segment, arrived or left" in page.words
    listed = sum(int(n.value) for n in page.numbers if n.source.startswith("movement"))
    rest = re.search(r"other ways ([\d,]+)", page.words)
    assert listed + int(rest.group(1).replace(",", "")) == moved


def test_the_sql_on_the_page_runs(cdnow: Path, write: Write) -> None:
    html = write(cdnow, "cdnow").html
    blocks = re.findall(r"<code>(SELECT.*?)</code>", html, re.DOTALL)
    assert len(blocks) == 4
    with duckdb.connect(str(cdnow)) as connection:
        for block in blocks:
            sql = block.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">")
            assert connection.execute(sql).fetchall()


# States


def test_a_segmentation_that_was_never_run_is_a_clear_error(shop: Path, tmp_path: Path) -> None:
    with opened(shop) as database:
        with pytest.raises(DefinitionError, match="segmentation nobody: not in this database"):
            write_report("nobody", database, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_one_whose_runs_all_failed_is_a_clear_error(
    shop: Path, customers: Segmentation, tmp_path: Path
) -> None:
    with duckdb.connect(str(shop)) as connection:
        connection.execute("UPDATE dbo.customer SET income = 1")
    with opened(shop) as database:
        with pytest.raises(DataError):
            run(customers, database)
        with pytest.raises(DataError, match="no published run yet"):
            write_report("customers", database, tmp_path / "page.html")


def test_after_one_run_there_is_no_movement_no_drift_and_no_scores(
    published: Path, write: Write
) -> None:
    page = write(published)
    assert "one published run only" in page.words
    assert {"drift", "k", "flow-title"}.isdisjoint(page.ids)
    assert {"segments", "profiles", "customers", "distributions", "movement", "runs", "sql"} <= set(
        page.ids
    )


def test_outliers_are_counted_and_the_farthest_are_listed(
    shop: Path, customers: Segmentation, write: Write
) -> None:
    with duckdb.connect(str(shop)) as connection:
        connection.execute("UPDATE dbo.customer SET income = 95000 WHERE customer_id = 11")
    watched = changed(customers, outlier=0.02)
    with opened(shop) as database:
        run(customers, database)
        assert "outliers" not in write(shop).ids
        second = run(watched, database)
    page = write(shop)
    assert "outliers" in page.ids
    cited = [number.source for number in page.numbers]
    assert {f"run.outliers {second.run_id}", f"segment.outliers {second.run_id} 1",
            f"centroid.outlier_distance {second.run_id} 1 1"} <= set(cited)  # fmt: skip
    assert "All of them, in the scaled space" in page.words
    assert_every_number_equals_a_query(page, shop, "dbo.customer_segment", "customer_id")
    assert "ORDER BY label.distance DESC" in page.words
    # Keys of single customers are samples.
    without = write(shop, samples=False)
    assert "outliers" not in without.ids
    assert f"segment.outliers {second.run_id} 1" in [number.source for number in without.numbers]


def test_a_refit_in_which_nobody_moved_says_so(
    published: Path, customers: Segmentation, write: Write
) -> None:
    with opened(published) as database:
        run(customers, database)
    page = write(published)
    assert "every customer stayed where they were" in page.words
    assert "flow-title" not in page.ids


def test_after_assign_the_numbers_are_those_of_the_assign(
    published: Path, customers: Segmentation, write: Write
) -> None:
    with duckdb.connect(str(published)) as connection:
        connection.execute("DELETE FROM dbo.customer WHERE customer_id <= 7")
    with opened(published) as database:
        assign(customers, database)
    page = write(published)
    assert "113 customers of dbo.customer in 3 segments" in page.words
    assert "labelled customers with the model of run 1" in page.words
    assert_every_number_equals_a_query(page, published, "dbo.customer_segment", "customer_id")
    assert "movement 1 None" in [number.source for number in page.numbers]


def test_after_a_rollback_the_page_is_of_the_run_that_came_back(
    published: Path, customers: Segmentation, write: Write
) -> None:
    with duckdb.connect(str(published)) as connection:
        connection.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE age < 25")
    with opened(published) as database:
        second = run(customers, database)
        rollback("customers", database)
    assert second.moved
    page = write(published)
    assert "which brought back run 1" in page.words
    assert "segment.size 1 1" in [number.source for number in page.numbers]
    assert_every_number_equals_a_query(page, published, "dbo.customer_segment", "customer_id")


def test_a_history_that_was_purged_gives_a_reason_instead_of_a_wrong_flow(
    published: Path, customers: Segmentation, write: Write
) -> None:
    with duckdb.connect(str(published)) as connection:
        connection.execute("UPDATE dbo.customer SET income = 160000, age = 62 WHERE age < 25")
    with opened(published) as database:
        run(customers, database)
    with duckdb.connect(str(published)) as connection:
        connection.execute("DELETE FROM dbo.customer_segment_history WHERE valid_to IS NOT NULL")
    page = write(published)
    assert re.search(r"The history holds \d+ of the 120 labels of run 1", page.words)
    assert "flow-title" not in page.ids


def test_a_source_that_is_gone_leaves_the_aggregates(published: Path, write: Write) -> None:
    with duckdb.connect(str(published)) as connection:
        connection.execute("DROP TABLE dbo.customer")
    page = write(published)
    assert "The source cannot be read now" in page.words
    assert "scatter" not in page.ids
    assert_every_number_equals_a_query(page, published, "dbo.customer_segment", "customer_id")


def test_missing_values_are_counted_and_not_drawn(
    shop: Path, customers: Segmentation, write: Write
) -> None:
    with duckdb.connect(str(shop)) as connection:
        connection.execute("UPDATE dbo.customer SET income = NULL WHERE customer_id % 10 = 0")
    with opened(shop) as database:
        run(Segmentation.create(**{**customers.model_dump(), "missing": "median"}), database)
    page = write(shop)
    assert "12 missing" in page.words
    places = page.script_data()["axes"][0]["places"]
    assert len(places) == 120
    assert places.count(None) == 12
    drawn = "".join(re.findall(r'class="points c\d" d="([^"]*)"', page.html))
    assert drawn.count("M") == 108


def test_levels_of_a_category_are_shares_and_are_not_looked_for_in_the_source(
    shop: Path, write: Write
) -> None:
    with duckdb.connect(str(shop)) as connection:
        connection.execute("ALTER TABLE dbo.customer ADD COLUMN member boolean")
        connection.execute("UPDATE dbo.customer SET member = customer_id % 3 = 0")
    definition = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3, n_init=3,
        features=["income", "age", "member"], target="dbo.customer_segment",
    )  # fmt: skip
    with opened(shop) as database:
        run(definition, database)
    with duckdb.connect(str(shop)) as connection:
        connection.execute(
            "UPDATE sqlkmeans.model_feature SET feature = 'city = Oslo', source_column = 'city', "
            "type = 'category', level = 'Oslo' WHERE position = 3"
        )
        for table in ("centroid", "segment_feature"):
            connection.execute(
                f"UPDATE sqlkmeans.{table} SET feature = 'city = Oslo' WHERE position = 3"
            )
    page = write(shop)
    assert "A level of a category shows its share of the customers" in page.words
    assert "city = Oslo 33.3 %" in page.words
    assert [axis["name"] for axis in page.script_data()["axes"]] == ["income", "age"]
    assert_every_number_equals_a_query(page, shop, "dbo.customer_segment", "customer_id")


def test_names_are_words_and_never_markup(
    published: Path, customers: Segmentation, write: Write
) -> None:
    plain = write(published)
    with opened(published) as database:
        rename("customers", database, 1, "<script>alert(1)</script>", '"><img src=x onerror=a()>')
        rename("customers", database, 2, "Ærlige Kunder & Söhne 顧客 🎈", None)
    with duckdb.connect(str(published)) as connection:
        for table in ("model_feature", "centroid", "segment_feature"):
            connection.execute(
                f"UPDATE sqlkmeans.{table} SET feature = '</script><b>' WHERE position = 1"
            )
    page = write(published)
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert "img" not in page.tags
    assert "<script>alert(1)</script>" in page.words
    assert '"><img src=x onerror=a()>' in page.words
    assert "Ærlige Kunder & Söhne 顧客 🎈" in page.words
    assert page.script_data()["axes"][0]["name"] == "</script><b>"


def test_a_source_that_is_a_query_stands_on_the_page_escaped(
    shop: Path, customers: Segmentation, write: Write
) -> None:
    query = "SELECT * FROM dbo.customer WHERE income > 0 AND age <> 7 -- all of <them>"
    with opened(shop) as database:
        run(Segmentation.create(**{**customers.model_dump(), "source": query}), database)
    page = write(shop)
    assert "them" not in page.tags
    assert "120 customers of a query in 3 segments" in page.words
    assert query in page.words


def test_fifty_segments_and_thirty_features_make_a_page_of_a_reasonable_size(
    tmp_path: Path, write: Write
) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(50, 30)).repeat(40, axis=0) * 4 + rng.normal(size=(2000, 30))
    names = [f"feature_with_a_long_name_{i}" for i in range(30)]
    given = pa.table({"id": np.arange(2000), **{n: values[:, i] for i, n in enumerate(names)}})
    path = tmp_path / "many.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.register("given", given)
        connection.execute("CREATE TABLE many AS FROM given")
    definition = Segmentation.create(
        name="many", source="many", key="id", features=names, k=50, target="many_segment", n_init=1
    )
    with opened(path) as database:
        run(definition, database)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM many WHERE id = 7")
    with opened(path) as database:
        run(definition, database)
    page = write(path, "many")
    assert page.tags.count("figure") == 1 + 30 + 1
    assert len(page.html) < 3_000_000
    assert len(page.ids) == len(set(page.ids))
    assert_every_number_equals_a_query(page, path, "many_segment", "id")


def customers_with(shop: Path, **columns: str) -> None:
    """More columns of the customers, each by an expression."""
    with duckdb.connect(str(shop)) as connection:
        for name, expression in columns.items():
            connection.execute(f"ALTER TABLE dbo.customer ADD COLUMN {name} integer")
            connection.execute(f"UPDATE dbo.customer SET {name} = {expression}")


def test_a_boolean_has_one_row_and_one_picture(shop: Path, write: Write) -> None:
    customers_with(shop, member="customer_id % 3 = 0", level="customer_id % 2 + 1")
    definition = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3, n_init=3,
        features=["income", *({"column": c, "type": "category"} for c in ("member", "level"))],
        target="dbo.customer_segment",
    )  # fmt: skip
    with opened(shop) as database:
        result = run(definition, database)
    titles = ["income", "member = yes", "level = 1", "level = 2"]
    assert sorted(feature.title for feature in result.features) == sorted(titles)
    page = write(shop)
    assert "member = no" not in page.words
    assert page.tags.count("figure") == len(titles)
    assert_every_number_equals_a_query(page, shop, "dbo.customer_segment", "customer_id")


def test_columns_that_are_only_described_have_a_section_and_stand_with_their_segment(
    shop: Path, write: Write
) -> None:
    customers_with(
        shop, churned="customer_id % 7 = 0 OR income > 60000", region="customer_id % 2",
        visits="customer_id % 5",
    )  # fmt: skip
    with duckdb.connect(str(shop)) as connection:
        connection.execute("ALTER TABLE dbo.customer ALTER region TYPE varchar")
        connection.execute("ALTER TABLE dbo.customer ALTER churned TYPE boolean")
    definition = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3, n_init=3,
        features=["income", "age"], target="dbo.customer_segment",
        profile=["churned", "region", "visits"],
    )  # fmt: skip
    with opened(shop) as database:
        run(definition, database)
    page = write(shop)
    columns = assert_every_number_equals_a_query(page, shop, "dbo.customer_segment", "customer_id")
    assert columns >= {
        f"segment_profile.{name}"
        for name in ("mean", "median", "share", "difference", "difference_low", "difference_high")
    }
    assert "Columns that the clustering has not seen" in page.words
    # In the tables of segments too, because their customers differ from all others.
    assert page.words.count("churned = yes") > 1
    assert page.words.count("visits") == 1


def test_a_number_that_is_0_or_1_is_told_as_a_share(shop: Path, write: Write) -> None:
    customers_with(shop, member="CAST(customer_id % 3 = 0 AS integer)", half="0")
    with duckdb.connect(str(shop)) as connection:
        connection.execute("ALTER TABLE dbo.customer ALTER half TYPE double")
        connection.execute("UPDATE dbo.customer SET half = customer_id % 3 / 2")
    definition = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3, n_init=3,
        features=["income", "member", "half"], target="dbo.customer_segment",
    )  # fmt: skip
    with opened(shop) as database:
        result = run(definition, database)
    assert [feature.is_share for feature in result.features] == [False, True, False]
    page = write(shop)
    assert "member 33.3 %" in page.words
    assert "half 0.500" in page.words
    assert_every_number_equals_a_query(page, shop, "dbo.customer_segment", "customer_id")


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_whole_numbers_have_a_bin_each(shop: Path, write: Write, transform: str) -> None:
    customers_with(shop, visits="CASE WHEN customer_id % 4 = 0 THEN 7 ELSE customer_id % 4 END")
    definition = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3, n_init=3,
        features=["income", {"column": "visits", "transform": transform}],
        target="dbo.customer_segment",
    )  # fmt: skip
    with opened(shop) as database:
        run(definition, database)
    page = write(shop)
    picture = page.html[page.html.index(">visits by segment<") :]
    everyone = re.search(r'class="mark" fill-opacity=".55" d="([^"]*)"', picture).group(1)
    heights = [float(v) for v in re.findall(r"V-?([\d.]+)H", everyone)]
    ends = np.array([30.0, *(float(h) for h in re.findall(r"H([\d.]+)", everyone))])
    # Bins of 1 to 7, all of them as wide to the clustering as what they hold.
    wide = np.diff(np.log1p(np.arange(8) + 0.5) if transform == "log1p" else np.arange(8))
    assert np.diff(ends) / 260 == pytest.approx(wide / wide.sum(), abs=2e-3)
    crowds = np.array([30, 30, 30, 0, 0, 0, 30]) / wide
    assert heights == pytest.approx(crowds / crowds.max() * 21, abs=0.06)
    assert re.findall(r'text-anchor="middle">([\d.]+)</text>', picture)[0] in ("1", "2")


def test_units_of_the_definition_stand_wherever_a_feature_does(
    shop: Path, customers: Segmentation, write: Write
) -> None:
    features = [{"column": "income", "unit": "NOK"}, {"column": "age", "unit": "år <b>"}]
    given = Segmentation.create(**{**customers.model_dump(), "features": features})
    with opened(shop) as database:
        result = run(given, database)
        again = run(given, database)
    assert [feature.title for feature in result.features] == ["income (NOK)", "age (år <b>)"]
    assert re.search(r"income [\d,]+ NOK against [\d,]+", result.segments[0].description)
    assert again.moved == 0
    page = write(shop)
    assert page.tags.count("b") == write(shop).html.count("<b ") + write(shop).html.count("<b>")
    # Cards of three segments, the profiles, a distribution with its title and words, drift.
    assert page.words.count("income (NOK)") >= 3 + 1 + 3 + 1
    assert [axis["name"] for axis in page.script_data()["axes"]] == ["income (NOK)", "age (år <b>)"]


def choice_of_k(shop: Path, customers: Segmentation, **changes: object) -> None:
    with opened(shop) as database:
        choose_k(Segmentation.create(**{**customers.model_dump(), "k_max": 5, **changes}), database)


def test_a_page_with_another_k_than_the_recommended_one_says_why(
    shop: Path, customers: Segmentation, write: Write
) -> None:
    definition = Segmentation.create(**{**customers.model_dump(), "k": 4})
    with opened(shop) as database:
        run(definition, database)
    choice_of_k(shop, definition)
    page = write(shop)
    assert (
        "This page has 4 segments, because its definition says k = 4; those scores speak for 3. "
        'k = 3, or k = "auto", in the definition takes effect with the next run.'
    ) in page.words
    assert re.search(r"on this page", page.words)
    assert len(re.findall(r'class="here"', page.html)) == len(re.findall("for each k<", page.html))


def test_the_choice_of_k_marks_the_runner_up_and_the_scores_that_decide(
    published: Path, customers: Segmentation, write: Write
) -> None:
    choice_of_k(published, customers)
    page = write(published)
    assert "This page has" not in page.words
    decide = re.findall(r"<h3>([^<]*) <small>decides</small>", page.html)
    assert decide == ["Davies–Bouldin", "Calinski–Harabasz", "Separation"]
    with duckdb.connect(str(published)) as connection:
        kept = connection.execute(
            "SELECT recommendation FROM sqlkmeans.run WHERE kind = 'choose_k'"
        ).fetchone()[0]
    runner_up = json.loads(kept)["runner_up_k"]
    rings = re.findall(r'class="dot runner-up"[^>]*><title>k = (\d)', page.html)
    assert set(rings) == {str(runner_up)}
    assert f"k = {runner_up}" in page.words


def test_failed_attempts_are_left_out_unless_wanted(
    published: Path, customers: Segmentation, write: Write
) -> None:
    with opened(published) as database:
        with pytest.raises(DataError):
            run(Segmentation.create(**{**customers.model_dump(), "min_share": 0.4}), database)
    page = write(published)
    assert "1 failed attempt left out" in page.words
    assert "min_share" not in page.words
    assert "min_share" in write(published, failed=True).words
    assert "attempt left out" not in write(published, failed=True).words


# Privacy, and nothing from outside


def test_without_samples_the_page_holds_no_customer(cdnow: Path, write: Write) -> None:
    page = write(cdnow, "cdnow", samples=False)
    assert "KEY-1" in write(cdnow, "cdnow").words
    assert "KEY-" not in page.html
    assert "scatter-data" not in page.ids
    assert "points" not in re.findall(r'class="(\w+)', page.html)
    assert "holds no single customer" in page.words
    assert "a standard deviation to both sides of the mean" in page.words


@pytest.mark.parametrize("samples", [True, False])
def test_the_page_needs_nothing_from_anywhere(published: Path, write: Write, samples: bool) -> None:
    html = write(published, samples=samples).html
    assert re.findall(r"https?://[^\s\"'<]+", html) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"\b(src|srcset|action|data)=", html)
    assert not re.search(r"url\(|@import", html)
    assert set(re.findall(r'href="(.)', html)) == {"#"}
    assert "default-src 'none'" in html


def test_every_picture_has_a_title_and_a_description_of_its_own(cdnow: Path, write: Write) -> None:
    page = write(cdnow, "cdnow")
    pictures = re.findall(r'<svg(?![^>]*aria-hidden)[^>]*aria-labelledby="(\S+) (\S+)"', page.html)
    assert len(pictures) == len(re.findall(r"<svg(?![^>]*aria-hidden)", page.html)) > 8
    named = [name for picture in pictures for name in picture]
    assert len(named) == len(set(named))
    assert set(named) <= set(page.ids)


# The command


def test_the_command_writes_the_page_and_says_where(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"duckdb:///{published.as_posix()}"
    assert run_command(["report", "customers", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": "customers.html",
        "segmentation": "customers",
        "run_id": 1,
    }
    assert Page((tmp_path / "customers.html").read_text(encoding="utf-8")).numbers
    assert run_command(["report", "--url", url, "--output", "b.html", "--no-samples"]) == 0
    assert "Written: b.html" in capsys.readouterr().err
    assert "holds no single customer" in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    url = f"duckdb:///{published.as_posix()}"
    (tmp_path / "folder").mkdir()
    places = {"missing/page.html": "cannot be written: there is no folder", "folder": "is a folder"}
    for file, problem in ((tmp_path / name, problem) for name, problem in places.items()):
        assert run_command(["report", "customers", "--url", url, "--output", str(file)]) == 2
        assert problem in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "shop.duckdb"]
