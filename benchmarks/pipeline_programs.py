"""The programs that benchmarks/pipeline.py compares.

    python pipeline_programs.py NAME DATABASE [VALUES]

With VALUES, rows x features of a larger table, sqlkmeans takes that one's way: it reads its rows as
often, and loads compiled loops where that would.
"""

import sys

K = 5


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def sqlkmeans(path: str, values: int = 0) -> None:
    # DuckDB and scikit-learn load pandas wherever it is installed. The default install of
    # sqlkmeans has none; only the peer beside it here needs it.
    sys.meta_path.insert(0, _NoPandas())
    from sqlkmeans.cli import main

    if values:
        from sqlkmeans.clustering.kmeans.kernels import kernel
        from sqlkmeans.engines.local import rereading as reread

        kernel.forced = values >= kernel.WORTH_LOADING
        if reread.is_worth_it(values, 1):
            reread.LITTLE = 0

    definition = path.removesuffix(".duckdb") + ".toml"
    sys.argv = ["sqlkmeans", "run", definition, "--json", "--quiet"]
    main()


def pandas(path: str) -> None:
    import pandas as pd
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler
    from sqlalchemy import create_engine

    engine = create_engine(f"duckdb:///{path}")
    frame = pd.read_sql("SELECT * FROM dbo.customer", engine)
    scaled = StandardScaler().fit_transform(frame.drop(columns="customer_id"))
    frame["segment_id"] = KMeans(K, n_init=10, random_state=0).fit_predict(scaled)
    frame[["customer_id", "segment_id"]].to_sql(
        "customer_segment", engine, schema="dbo", if_exists="replace", index=False
    )


def expert(path: str) -> None:
    import duckdb
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    connection = duckdb.connect(path)
    frame = connection.execute("SELECT * FROM dbo.customer").df()
    scaled = StandardScaler().fit_transform(frame.drop(columns="customer_id"))
    frame["segment_id"] = KMeans(K, n_init=10, random_state=0).fit_predict(scaled)
    connection.execute(
        "CREATE TABLE dbo.customer_segment AS SELECT customer_id, segment_id FROM frame"
    )


if __name__ == "__main__":
    name, database, *values = sys.argv[1:]
    if name == "sqlkmeans":
        sqlkmeans(database, *map(int, values))
    else:
        {"pandas": pandas, "expert": expert}[name](database)
