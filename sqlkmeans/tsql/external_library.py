"""This package as text: a ``CREATE EXTERNAL LIBRARY`` for servers where files can't be copied.

The server takes a zip that holds a wheel, and installs it without what it depends on. So the wheel
made here names no dependencies; numpy, pandas and scikit-learn have to be there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

from sqlkmeans._version import __version__
from sqlkmeans.database.sqlserver.script import install_script

LIBRARY = "sqlkmeans"
_DIST_INFO = f"sqlkmeans-{__version__}.dist-info"
_WHEEL = f"sqlkmeans-{__version__}-py3-none-any.whl"
# A zip's earliest date: the same package gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def deploy_script(*, library: bool = True) -> str:
    """One script that installs or upgrades the schema and, if wanted, the package."""
    return install_script() + ("\n" + external_library_script() if library else "")


def external_library_script() -> str:
    """Uploads the package to the current database, in place of an earlier version.

    Needs SQL Server 2019 or newer and the permissions CREATE EXTERNAL LIBRARY and ALTER ANY
    EXTERNAL LIBRARY, which db_owner has.
    """
    bits = library_zip().hex().upper()
    return (
        f"-- The package sqlkmeans {__version__}, for Python inside the server.\n"
        f"IF EXISTS (SELECT 1 FROM sys.external_libraries AS l WHERE l.name = N'{LIBRARY}')\n"
        f"    DROP EXTERNAL LIBRARY [{LIBRARY}];\n"
        "GO\n"
        f"CREATE EXTERNAL LIBRARY [{LIBRARY}]\n"
        f"FROM (CONTENT = 0x{bits})\n"
        "WITH (LANGUAGE = 'Python');\n"
        "GO\n"
    )


def library_zip() -> bytes:
    """A zip that holds the wheel, because the server takes no wheel as it is."""
    return _zip({_WHEEL: build_wheel()})


def build_wheel() -> bytes:
    """A wheel of the Python files of this package, without dependencies."""
    package = Path(__file__).resolve().parent.parent
    files = {
        f"sqlkmeans/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*.py"))
    }
    files[f"{_DIST_INFO}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: sqlkmeans\nVersion: {__version__}\nLicense: MIT\n"
    ).encode()
    files[f"{_DIST_INFO}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: sqlkmeans\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(
        f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()
    )
    files[f"{_DIST_INFO}/RECORD"] = f"{record}{_DIST_INFO}/RECORD,,\n".encode()
    return _zip(files)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
