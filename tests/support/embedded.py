"""A stand-in for the server side of ``sp_execute_external_script``.

Keeps its contract where it matters: the frame as SQL Server would give it, only types that it
gives, parameters as variables without ``@``, an output frame of plain types whose column names do
not count. The script runs in a clean process in which only numpy, pandas and scikit-learn (and
what they bring) can be imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from support.tsql_files import read

ROOT = Path(__file__).parents[2]
#: Name a Python 3.10 with numpy 1.22, pandas 1.5 and scikit-learn 1.2 here to test with a server's.
PYTHON = os.environ.get("SQLKMEANS_SERVER_PYTHON", sys.executable)

_RUNNER = """
import json, sys

REFUSED = {"pyarrow", "pydantic", "sqlalchemy", "duckdb", "mssql_python", "pyodbc", "matplotlib",
           "rich", "typer", "tomli"}


class OnlyWhatAServerHas:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, OnlyWhatAServerHas())
folder = sys.argv[1]
with open(folder + "/job.json", encoding="utf-8") as file:
    given = json.load(file)
import pandas as pd
import numpy as np

arrays = {**np.load(folder + "/input.npz"), **given["texts"]}
InputDataSet = pd.DataFrame({name: arrays[str(i)] for i, name in enumerate(given["columns"])})
variables = {"InputDataSet": InputDataSet, "OutputDataSet": pd.DataFrame(), **given["parameters"]}
exec(compile(given["script"], "embedded", "exec"), variables)
output = variables["OutputDataSet"]
assert type(output) is pd.DataFrame, "OutputDataSet must be a data frame"
for column in output:
    assert output[column].dtype in (np.dtype("int32"), np.dtype("float64")), output.dtypes
result = {name: variables[name] for name in given["outputs"]}
assert all(isinstance(value, str) and value.isascii() for value in result.values())
np.savez(folder + "/output.npz", *(output[column].to_numpy() for column in output))
with open(folder + "/result.json", "w", encoding="utf-8") as file:
    json.dump({"outputs": result, "modules": sorted({m.split(".")[0] for m in sys.modules})}, file)
"""


@dataclass(frozen=True)
class ExternalScript:
    """One call of ``sp_execute_external_script`` in a procedure's text."""

    #: Where the definition names none.
    language: str
    script: str
    input_query: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def external_script(name: str) -> ExternalScript:
    """The call that a procedure's file holds."""
    text = read(name).replace("''", "'")
    call = text[text.index("EXECUTE sys.sp_execute_external_script") :]

    def argument(parameter: str) -> str:
        match = re.search(rf"@{parameter} = N'(.*?)'(?:,|;)", call, re.DOTALL)
        assert match, parameter
        return match.group(1)

    parameters = re.findall(r"@(\w+) ([\w()]+)( OUTPUT)?", argument("params"))
    assert all(kind == "nvarchar(max)" for _, kind, _ in parameters)
    default = re.search(r"@language nvarchar\(128\) = COALESCE\(.*, N'(.*)'\);", text)
    assert default
    assert "@language = @language," in call
    return ExternalScript(
        default.group(1),
        argument("script"),
        argument("input_data_1"),
        tuple(name for name, _, output in parameters if not output),
        tuple(name for name, _, output in parameters if output),
    )


@dataclass(frozen=True)
class Outcome:
    """What a script gave back."""

    labels: pd.DataFrame
    outputs: dict[str, Any]
    modules: set[str]


def as_the_server_sends_it(rows: pd.DataFrame) -> list[npt.NDArray[Any]]:
    """Integer columns with a NULL come as floats with NaN; the others as int32, never int64.

    Texts come as objects, None where NULL: a category, as ``read_source`` has it converted.
    """
    arrays = [rows[name].to_numpy() for name in rows]
    arrays = [
        np.array([None if pd.isna(value) else hexadecimal(value) for value in array], dtype=object)
        if array.dtype.kind not in "if"
        else array
        for array in arrays
    ]
    known = (np.dtype("int32"), np.dtype("float64"), np.dtype("O"))
    assert all(array.dtype in known for array in arrays)
    return arrays


def hexadecimal(text: str) -> str:
    """What ``CONVERT(varchar(406), CAST(… AS varbinary(202)), 1)`` makes of an nvarchar."""
    return "0x" + text.encode("utf-16-le", "surrogatepass")[:202].hex().upper()


def make_job(**changes: Any) -> dict[str, Any]:
    """What the procedure tells the script; the keys given change the definition."""
    definition = {
        "name": "customers",
        "features": [
            {"column": "income", "transform": "none", "weight": 1.0},
            {"column": "age", "transform": "none", "weight": 1.0},
        ],
        "k": 3,
        "scaling": "standard",
        "missing": "error",
        "n_init": 10,
        "seed": 0,
    }
    job: dict[str, Any] = {"run_id": 5, "last_segment_id": 0, "model_feature": [], "centroid": [],
                           "segment": [], "given": []}  # fmt: skip
    return {**job, "definition": {**definition, **changes}}


def make_rows(seed: int = 0) -> pd.DataFrame:
    """120 rows of a first run, in three groups that nobody could confuse."""
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1, 2], [60, 40, 20])
    return pd.DataFrame(
        {
            "row_number": np.arange(1, 121, dtype=np.int32),
            "previous_segment_id": np.full(120, np.nan),
            "f1": np.array([40_000.0, 90_000.0, 160_000.0])[group] + rng.normal(size=120) * 3_000,
            "f2": np.array([25, 45, 62], dtype=np.int32)[group],
        }
    )


def run(call: ExternalScript, rows: pd.DataFrame, **parameters: str) -> Outcome:
    """Run a script as the server would."""
    assert set(parameters) == set(call.inputs)
    with tempfile.TemporaryDirectory() as folder:
        arrays = as_the_server_sends_it(rows)
        columns = {str(i): array for i, array in enumerate(arrays)}
        texts = {i: columns.pop(i).tolist() for i in list(columns) if columns[i].dtype.kind == "O"}
        np.savez(f"{folder}/input.npz", **columns)
        job = {
            "script": call.script,
            "parameters": parameters,
            "outputs": call.outputs,
            "columns": list(rows.columns),
            "texts": texts,
        }
        Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [PYTHON, "-c", _RUNNER, folder],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
        found = np.load(f"{folder}/output.npz")
        labels = pd.DataFrame({f"column{i}": found[name] for i, name in enumerate(found)})
    outputs = {name: json.loads(text) for name, text in result["outputs"].items()}
    return Outcome(labels, outputs, set(result["modules"]))
