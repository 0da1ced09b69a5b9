"""What procedures execute, in its order, kept in a table of the test's database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.tsql_files import PROCEDURES, read

#: Those that build what they execute; a text with a variable for it is logged before it runs.
BUILDERS = [
    name
    for name in PROCEDURES
    if re.search(r"/(as_owner|read_source|run_segmentation|check_keys|stage_changes"
                 r"|describe_scored|score_rows|prepare_rows|train_\w+)\.sql", name)
]  # fmt: skip
_LOG = "INSERT INTO dbo.statement_log (statement) VALUES ({}); "


@contextmanager
def statement_log(server: Any) -> Iterator[Callable[[], list[str]]]:
    """The procedures log what they execute until the block ends; gives what was logged so far."""
    server.rows("CREATE TABLE dbo.statement_log (n int IDENTITY (1, 1) NOT NULL PRIMARY KEY, "
                "statement nvarchar(max) NOT NULL);")  # fmt: skip
    try:
        for name in BUILDERS:
            server.script(_logging(name))
        yield lambda: [
            row[0] for row in server.rows("SELECT statement FROM dbo.statement_log ORDER BY n;")
        ]
    finally:
        for name in BUILDERS:
            server.script(read(name))
        server.rows("DROP TABLE dbo.statement_log;")


def _logging(name: str) -> str:
    text = read(name)
    if name.endswith("/as_owner.sql"):
        # Without EXECUTE AS, because the log's table is not the owner's business.
        return text.replace(
            "EXECUTE sys.sp_executesql\n        @statement,",
            _LOG.format("CASE WHEN @statement = N''EXECUTE (@text);'' THEN @text "
                        "ELSE @statement END")
            # What not every server has is recorded only.
            + "IF @statement NOT LIKE N''%sp_execute_external_script%'' "
            "EXECUTE sys.sp_executesql\n        @statement,",
        )  # fmt: skip
    text = text.replace("OBJECT_ID(N'sys.sp_execute_external_script') IS NULL", "1 = 0")
    return re.sub(
        r"( +)(EXECUTE sys\.sp_executesql\s+(@statement|@text))",
        lambda match: f"{match[1]}{_LOG.format(match[3])}\n{match[1]}{match[2]}",
        text,
    )
