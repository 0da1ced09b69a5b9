"""Definitions: every key, every problem with its path, the same from TOML, JSON and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlkmeans.definition import (
    PUBLISHED_COLUMNS,
    RESERVED,
    FeatureDefinition,
    Segmentation,
    load_definition,
    parse_definition,
)
from sqlkmeans.errors import DefinitionError

FULL = """
[database]
url = "duckdb:///shop.duckdb"

[segmentation.customers]
source   = "dbo.customer"
key      = "customer_id"
features = ["income", { column = "orders", transform = "log1p", weight = 2.0 }]
k        = 5
target   = "dbo.customer_segment"
scaling  = "robust"
missing  = "median"
n_init   = 7
seed     = 42
engine   = "local"

[segmentation.shops]
source   = "SELECT shop, number, turnover FROM dbo.shop"
key      = ["shop", "number"]
features = ["turnover"]
k        = 2
target   = "dbo.shop_segment"
"""

MINIMAL: dict[str, Any] = {
    "name": "customers",
    "source": "dbo.customer",
    "key": "customer_id",
    "features": ["income"],
    "k": 3,
    "target": "dbo.customer_segment",
}


def write(folder: Path, text: str, name: str = "sqlkmeans.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(**values: Any) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        Segmentation.create(**{**MINIMAL, **values})
    assert raised.value.exit_code == 2
    return raised.value.problems


def test_every_key_is_read(tmp_path: Path) -> None:
    definition = load_definition(write(tmp_path, FULL))
    assert definition.url == f"duckdb:///{(tmp_path / 'shop.duckdb').as_posix()}"
    assert list(definition.segmentations) == ["customers", "shops"]
    customers = definition.segmentations["customers"]
    assert customers == Segmentation(
        name="customers",
        source="dbo.customer",
        key=("customer_id",),
        features=(
            FeatureDefinition(column="income", transform="none", weight=1.0),
            FeatureDefinition(column="orders", transform="log1p", weight=2.0),
        ),
        k=5,
        target="dbo.customer_segment",
        scaling="robust",
        missing="median",
        n_init=7,
        seed=42,
        engine="local",
    )
    assert customers.columns == ["income", "orders"]
    assert definition.segmentations["shops"].key == ("shop", "number")


def test_the_defaults_are_those_of_the_design() -> None:
    made = Segmentation.create(**MINIMAL)
    assert (made.scaling, made.missing, made.n_init, made.seed, made.engine, made.language) == (
        "standard", "error", 10, 0, "local", "Python",
    )  # fmt: skip
    assert made.features == (FeatureDefinition(column="income", transform="none", weight=1.0),)


def test_toml_json_and_python_give_the_same_segmentation(tmp_path: Path) -> None:
    from_toml = load_definition(write(tmp_path, FULL))
    values = {
        "database": {"url": "duckdb:///shop.duckdb"},
        "segmentation": {
            "customers": {
                "source": "dbo.customer", "key": "customer_id",
                "features": ["income", {"column": "orders", "transform": "log1p", "weight": 2}],
                "k": 5, "target": "dbo.customer_segment", "scaling": "robust", "missing": "median",
                "n_init": 7, "seed": 42, "engine": "local",
            },
            "shops": {
                "source": "SELECT shop, number, turnover FROM dbo.shop", "key": ["shop", "number"],
                "features": "turnover", "k": 2, "target": "dbo.shop_segment",
            },
        },
    }  # fmt: skip
    from_json = load_definition(write(tmp_path, json.dumps(values), "sqlkmeans.json"))
    assert from_json == from_toml
    assert from_json.segmentations == parse_definition(values).segmentations
    as_object = Segmentation.create(name="customers", **values["segmentation"]["customers"])  # type: ignore[index]
    assert as_object == from_toml.segmentations["customers"]
    assert Segmentation.from_json(as_object.to_json()) == as_object


def test_a_file_with_six_mistakes_gives_six_problems_each_with_its_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
[segmentation.customers]
source = "dbo.customer; DROP TABLE x"
key = "customer_id"
features = ["income", { column = "age", wieght = 2 }]
k = 1
target = "my segments"
scalling = "standard"
missing = "skipp"
""",
    )
    with pytest.raises(DefinitionError) as raised:
        load_definition(path)
    problems = raised.value.problems
    assert len(problems) == 6
    assert all(problem.startswith(f"{path}: segmentation.customers.") for problem in problems)
    by_key = {problem.split("customers.")[1].split(":")[0]: problem for problem in problems}
    assert set(by_key) == {"source", "features[1].wieght", "k", "target", "scalling", "missing"}
    assert "did you mean weight?" in by_key["features[1].wieght"]
    assert "did you mean scaling?" in by_key["scalling"]
    assert "did you mean skip?" in by_key["missing"]
    assert "1 given" in by_key["k"]
    assert "2" in by_key["k"].split("given")[1]
    assert str(raised.value).count("\n") == 5


def test_problems_of_all_segmentations_come_together(tmp_path: Path) -> None:
    text = FULL.replace("k        = 5", "k = 0").replace("k        = 2", 'k = "two"')
    with pytest.raises(DefinitionError) as raised:
        load_definition(write(tmp_path, text))
    found = [problem.split(": ")[1] for problem in raised.value.problems]
    assert found == ["segmentation.customers.k", "segmentation.shops.k"]


@pytest.mark.parametrize("missing", ["source", "key", "features", "k", "target"])
def test_a_key_without_a_default_has_to_be_there(missing: str) -> None:
    values = {key: value for key, value in MINIMAL.items() if key != missing}
    with pytest.raises(DefinitionError) as raised:
        Segmentation.create(**values)
    assert raised.value.problems == [
        f"segmentation.customers.{missing}: missing, and there is no default (docs/definition.md)"
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"k": 1}, "segmentation.customers.k: 1 given"),
        ({"k": 1001}, "segmentation.customers.k: 1001 given"),
        ({"k": 2.5}, "segmentation.customers.k: 2.5 given"),
        ({"k": "5"}, 'segmentation.customers.k: "5" given'),
        ({"k": True}, "segmentation.customers.k: true given"),
        ({"k": None}, "segmentation.customers.k: null given"),
        ({"n_init": 0}, "segmentation.customers.n_init: 0 given"),
        ({"n_init": "auto"}, 'segmentation.customers.n_init: "auto" given'),
        ({"seed": -1}, "segmentation.customers.seed: -1 given"),
        ({"seed": 2**32}, "segmentation.customers.seed: 4294967296 given"),
        ({"seed": 1.5}, "segmentation.customers.seed: 1.5 given; allowed: a whole number"),
        (
            {"scaling": "standart"},
            'segmentation.customers.scaling: "standart" given, did you mean standard?; '
            'allowed: "standard", "robust", "minmax" or "none"',
        ),
        (
            {"missing": "Error"},
            'segmentation.customers.missing: "Error" given, did you mean error?; '
            'allowed: "error", "skip", "mean" or "median"',
        ),
        ({"engine": "lokal"}, 'segmentation.customers.engine: "lokal" given, did you mean local?'),
        ({"language": ""}, 'segmentation.customers.language: "" given; allowed: the name of an'),
        ({"language": " "}, 'segmentation.customers.language: " " given; allowed: the name of an'),
        ({"language": "my\tPython"}, 'customers.language: "my\\tPython" given'),
        ({"language": "x" * 129}, "1 to 128 characters"),
        ({"language": 3}, "segmentation.customers.language: 3 given"),
        ({"scaling": 1}, "segmentation.customers.scaling: 1 given"),
        ({"source": ""}, 'segmentation.customers.source: "" given'),
        ({"source": 5}, "segmentation.customers.source: 5 given; allowed: a text"),
        ({"source": "SELECT 1 DROP TABLE x"}, "segmentation.customers.source: DROP given"),
        ({"source": "WITH a AS (SELECT 1) SELECT 1"}, "segmentation.customers.source: WITH"),
        ({"target": "a b"}, "segmentation.customers.target: 'a b' given; allowed: table,"),
        ({"target": "SELECT 1"}, "segmentation.customers.target: 'SELECT 1' given"),
        ({"key": []}, "segmentation.customers.key: [] given; allowed: one or more"),
        ({"source": "my table"}, "or one SELECT"),
        ({"guard": 5}, "segmentation.customers.guard: 5 given; allowed: a table of keys"),
        ({"key": ""}, 'segmentation.customers.key[0]: "" given'),
        ({"key": ["a", ""]}, 'segmentation.customers.key[1]: "" given'),
        ({"key": ["a", "b", "a"]}, "segmentation.customers.key: named twice: a"),
        ({"key": 5}, "segmentation.customers.key: 5 given; allowed: a list"),
        ({"key": "x" * 129}, "segmentation.customers.key[0]:"),
        ({"features": []}, "segmentation.customers.features: [] given; allowed: one or more"),
        ({"features": ["a", "b", "a", "b"]}, "segmentation.customers.features: named twice: a, b"),
        ({"features": [5]}, "segmentation.customers.features[0]: 5 given"),
        ({"features": [{}]}, "segmentation.customers.features[0].column: missing"),
        (
            {"features": ["a", {"column": "b", "weight": 0}]},
            "segmentation.customers.features[1].weight: 0 given",
        ),
        ({"features": [{"column": "b", "weight": -2}]}, "features[0].weight: -2 given"),
        ({"features": [{"column": "b", "weight": float("inf")}]}, "features[0].weight: Infinity"),
        ({"features": [{"column": "b", "weight": float("nan")}]}, "features[0].weight: NaN given"),
        ({"features": [{"column": "b", "weight": "much"}]}, 'features[0].weight: "much" given'),
        (
            {"features": [{"column": "b", "transform": "log"}]},
            'features[0].transform: "log" given, did you mean log1p?; allowed: "none" or "log1p"',
        ),
        ({"features": [{"colum": "b"}]}, "features[0].colum: unknown key, did you mean column?"),
        ({"name": "my customers"}, '"my customers" given; allowed: letters, digits and _'),
        ({"name": "1st"}, '"1st" given; allowed: letters, digits and _'),
        ({"name": ""}, '"" given'),
        ({"name": "x" * 101}, "given"),
        ({"tarrget": "x"}, "customers.tarrget: unknown key, did you mean target?"),
        ({"zzz": 1}, "customers.zzz: unknown key (docs/definition.md)"),
        ({"key": "income"}, "income is both key and feature"),
        ({"target": "[dbo].customer"}, "source and target are the same table"),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_what_is_allowed(
    values: dict[str, Any], says: str
) -> None:
    found = problems_of(**values)
    assert any(says in problem for problem in found), found


@pytest.mark.parametrize("name", [*sorted(PUBLISHED_COLUMNS), "Segment_ID"])
def test_a_key_cannot_be_called_like_a_column_of_the_segment_table(name: str) -> None:
    [problem] = problems_of(key=["shop", name])
    assert f"{name} is a column of the segment table itself" in problem


@pytest.mark.parametrize("name", ["sqlkmeans change", "SQLKMeans row", "sqlkmeans "])
def test_a_key_cannot_begin_as_columns_of_ours_do(name: str) -> None:
    [problem] = problems_of(key=["shop", name])
    assert f"{name} begins as columns of sqlkmeans itself do" in problem


@pytest.mark.parametrize("name", ["sqlkmeans", "sqlkmeans_id", "row_number", "weight", "f1"])
def test_a_key_may_have_any_other_name(name: str) -> None:
    assert Segmentation.create(**{**MINIMAL, "key": ["shop", name]}).key == ("shop", name)


def test_a_long_value_is_shortened_in_the_message() -> None:
    [problem] = problems_of(scaling="x" * 500)
    assert len(problem) < 250
    assert "…" in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "segmentation: missing"),
        ("[segmentation]\n", "segmentation: missing"),
        ("segmentation = 5\n", "segmentation: missing"),
        ("[segmentation]\ncustomers = 5\n", "segmentation.customers: 5 given"),
        ("[segmentation.customers\n", "line 1"),
        ("a = 1\na = 2\n", "a"),
        (FULL + "[segmentatoin.x]\nk = 1\n", "segmentatoin: unknown, did you mean segmentation?"),
        (FULL.replace("url =", "uri ="), "database.uri: unknown, did you mean url?"),
        (FULL.replace('"duckdb:///shop.duckdb"', "5"), "database.url: allowed"),
        (FULL.replace('[database]\nurl = "duckdb:///shop.duckdb"', "database = 5"), "database: "),
        (
            FULL.replace('source   = "dbo.customer"', 'source = "dbo.customer"\nname = "other"'),
            "segmentation.customers.name: given by the table's own name",
        ),
        (
            FULL.replace('"dbo.shop_segment"', '"[dbo].[customer_segment]"'),
            "segmentation.shops.target: [dbo].[customer_segment] is also the target of "
            "segmentation.customers",
        ),
    ],
)
def test_a_wrong_file_says_what_is_wrong_with_it(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DefinitionError) as raised:
        load_definition(path)
    assert says in str(raised.value)
    assert all(problem.startswith(str(path)) for problem in raised.value.problems)


def test_a_file_that_is_not_there_or_not_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="there is no such file"):
        load_definition(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'x = "\xe9"')
    with pytest.raises(DefinitionError, match="cannot be read as UTF-8"):
        load_definition(tmp_path / "latin.toml")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_definition(tmp_path)


def test_a_byte_order_mark_as_windows_writes_it_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "sqlkmeans.toml"
    path.write_text(FULL, encoding="utf-8-sig")
    assert "customers" in load_definition(path).segmentations


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"outlier": 0}, "outlier"),
        ({"outlier": 0.5}, "outlier"),
        ({"trim": 0.5}, "trim"),
        ({"trim": -0.1}, "trim"),
        ({"trim": 0.01, "engine": "pushdown"}, 'trim = 0.01 needs to look at rows, and engine = '
         '"pushdown" sees sums; use "local" or "in_database"'),
        ({"trim": 0.01, "engine": "tsql"}, 'engine = "tsql" sees sums'),
        ({"guard": {"outliers": 0}}, "guard.outliers"),
    ],
)  # fmt: skip
def test_a_limit_and_a_trim_are_shares_below_a_half(values: dict[str, Any], problem: str) -> None:
    base = {"name": "c", "source": "t", "key": "id", "features": ["x"], "k": 2, "target": "s"}
    with pytest.raises(DefinitionError) as error:
        Segmentation.create(**base, **values)
    assert problem in str(error.value)
    fits = Segmentation.create(**base, outlier=0.01, trim=0.01, guard={"outliers": 0.2})
    assert (fits.outlier, fits.trim, fits.guard.outliers) == (0.01, 0.01, 0.2)
    assert Segmentation.from_json(fits.to_json()) == fits


@pytest.mark.parametrize("values", [None, 5, [], "text"])
def test_what_is_not_a_table_is_not_a_definition(values: Any) -> None:
    with pytest.raises(DefinitionError, match=r"\[segmentation.<name>\]"):
        parse_definition(values)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null"])
def test_json_that_is_not_a_definition_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"not (JSON|a JSON object)"):
        Segmentation.from_json(text)


def test_json_of_a_later_version_names_the_key_that_is_not_known() -> None:
    later = {**json.loads(Segmentation.create(**MINIMAL).to_json()), "colour": "red"}
    with pytest.raises(DefinitionError, match=r"customers.colour: unknown key"):
        Segmentation.from_json(json.dumps(later))


def test_a_segmentation_cannot_be_changed_and_can_be_compared() -> None:
    one, two = Segmentation.create(**MINIMAL), Segmentation.create(**MINIMAL)
    assert one == two
    assert hash(one) == hash(two)
    assert one != Segmentation.create(**{**MINIMAL, "k": 4})
    with pytest.raises(Exception, match="frozen"):
        one.k = 4  # type: ignore[misc]


def test_the_url_with_its_password_does_not_show_in_a_repr() -> None:
    values = {
        "database": {"url": "mssql+pyodbc://sa:S3cret@host/shop"},
        "segmentation": {"customers": {k: v for k, v in MINIMAL.items() if k != "name"}},
    }
    definition = parse_definition(values)
    assert definition.url
    assert "S3cret" in definition.url
    assert "S3cret" not in repr(definition)
    assert "S3cret" not in str(definition)


def test_a_wrong_url_does_not_show_its_password() -> None:
    with pytest.raises(DefinitionError) as raised:
        parse_definition({"database": {"url": ["mssql://sa:S3cret@host"], "pwd": "S3cret"}})
    assert "S3cret" not in str(raised.value)


# Properties

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
columns = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
).filter(lambda c: c.lower() not in PUBLISHED_COLUMNS and not c.lower().startswith(RESERVED))


@st.composite
def segmentations(draw: st.DrawFn) -> Segmentation:
    used = draw(st.lists(columns, min_size=2, max_size=6, unique=True))
    n_keys = draw(st.integers(1, len(used) - 1))
    features = [
        {
            "column": column,
            "transform": draw(st.sampled_from(["none", "log1p"])),
            "weight": draw(st.floats(min_value=1e-300, max_value=1e300)),
        }
        for column in used[n_keys:]
    ]
    tables = draw(st.lists(names, min_size=2, max_size=2, unique_by=str.lower))
    return Segmentation.create(
        name=draw(names),
        source=draw(st.sampled_from([f'dbo."{tables[0]}"', f"SELECT * FROM [{tables[0]}] -- ;"])),
        key=used[:n_keys],
        features=features,
        k=draw(st.integers(2, 1000)),
        target=f"dbo.[{tables[1]}]",
        scaling=draw(st.sampled_from(["standard", "robust", "minmax", "none"])),
        missing=draw(st.sampled_from(["error", "skip", "mean", "median"])),
        n_init=draw(st.integers(1, 1000)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@given(segmentations())
def test_json_there_and_back_loses_nothing(segmentation: Segmentation) -> None:
    again = Segmentation.from_json(segmentation.to_json())
    assert again == segmentation
    assert again.to_json() == segmentation.to_json()


@given(segmentations())
def test_a_definition_file_says_the_same_as_the_object(segmentation: Segmentation) -> None:
    values = json.loads(segmentation.to_json())
    name = values.pop("name")
    made = parse_definition({"segmentation": {name: values}})
    assert made.segmentations == {name: segmentation}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from([*Segmentation.model_fields, "column", "extra"])


@example({"name": 0, "key": [None]})
@given(st.dictionaries(keys, json_values, max_size=8))
def test_no_value_makes_anything_but_a_segmentation_or_a_definition_error(
    values: dict[str, Any],
) -> None:
    problems: list[str] = []
    try:
        assert isinstance(Segmentation.create(**{**MINIMAL, **values}), Segmentation)
    except DefinitionError as error:
        problems = error.problems or ["an error without a problem"]
    assert all(problem.startswith("segmentation.") for problem in problems)


@pytest.mark.parametrize(
    ("feature", "unfit"),
    [
        ({"transform": "log1p"}, "transform"),
        ({"winsorize": [0.01, 0.99]}, "winsorize"),
        ({"transform": "log1p", "winsorize": [0, 0.9]}, "transform and winsorize"),
    ],
)
def test_a_category_has_no_logarithm_and_no_quantiles(
    feature: dict[str, object], unfit: str
) -> None:
    problems = problems_of(features=[{"column": "city", "type": "category", **feature}])
    assert problems == [
        f'segmentation.customers.features[0]: {unfit} given; allowed for type = "number" and '
        '"date" only'
    ]


@pytest.mark.parametrize("unit", ["", " NOK", "NOK ", "\x1b[31m", "\u202e", "x" * 21])
def test_a_unit_is_a_short_text_that_can_be_seen(unit: str) -> None:
    (problem,) = problems_of(features=[{"column": "income", "unit": unit}])
    assert problem.startswith("segmentation.customers.features[0].unit: ")
    assert problem.endswith("allowed: 1 to 20 characters that can be seen, such as NOK")


@pytest.mark.parametrize("type", ["category", "date"])
def test_a_unit_is_of_a_number(type: str) -> None:
    (problem,) = problems_of(features=[{"column": "city", "type": type, "unit": "NOK"}])
    assert problem.endswith('features[0]: unit given; allowed for type = "number" only')


@pytest.mark.parametrize(
    ("column", "role"), [("customer_id", "key too"), ("income", "a feature too")]
)
def test_a_weight_is_neither_key_nor_feature(column: str, role: str) -> None:
    (problem,) = problems_of(sample_weight=column)
    assert f"sample_weight {column} is {role}; allowed: a column of its own" in problem


def test_profile_columns_are_neither_key_nor_feature() -> None:
    (problem,) = problems_of(profile=["churned", "income", "customer_id"])
    assert problem.endswith(
        "profile income is a feature, customer_id is a key; allowed: columns that are neither key "
        "nor feature"
    )


@pytest.mark.parametrize(
    ("profile", "says"),
    [(["region", "region"], "named twice: region"), ([""], "profile[0]"), ([1], "profile[0]"),
     ([f"c{n}" for n in range(101)], "100")],
)  # fmt: skip
def test_profile_columns_are_a_list_of_names(profile: list[object], says: str) -> None:
    (problem,) = problems_of(profile=profile)
    assert says in problem


def test_one_profile_column_may_stand_alone() -> None:
    values = {"name": "a", "source": "t", "key": "id", "features": ["x"], "k": 2, "target": "s"}
    assert Segmentation.create(**values, profile="region").profile == ("region",)
    assert Segmentation.create(**values).profile == ()
