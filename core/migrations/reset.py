"""Write migration 0001 anew from core.schema: for as long as no version of Kaskad has been released.

`python -m core.migrations.reset URL`, where URL is an empty PostgreSQL database. Hand-written parts (triggers) are
in 0002, which stays as it is. `make migration-reset` provides the database.
"""

import sys
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from core.migrate import revise

FIRST = "0001"


def main() -> None:
    """Put 0002 aside, write 0001 from the difference between nothing and the models, put 0002 back."""
    folder = Path(__file__).with_name("versions")
    for old in folder.glob(f"{FIRST}_*.py"):
        old.unlink()
    aside = {path: path.with_suffix(".aside") for path in folder.glob("0*.py")}
    for path, away in aside.items():
        path.rename(away)
    try:
        engine = create_engine(make_url(sys.argv[1]).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text("create schema if not exists public"))
            revise(connection, "Create the tables", FIRST)
        engine.dispose()
    finally:
        for path, away in aside.items():
            away.rename(path)


if __name__ == "__main__":
    main()
