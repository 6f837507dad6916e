"""Write migration 0001 anew from core.schema: for as long as no version of Kaskad has been released.

`python -m core.migrations.reset URL`, where URL is an empty PostgreSQL database; `make migration-reset` provides one.
Hand-written parts (triggers) are in 0002, which stays as it is.
"""

import sys
import tempfile
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from core.migrate import first_revision


def main() -> None:
    """Write the difference between an empty database and the models, and put it in the place of 0001."""
    engine = create_engine(make_url(sys.argv[1]).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection, tempfile.TemporaryDirectory() as folder:
        new = first_revision(connection, Path(folder), "Create the tables")
        place = Path(__file__).with_name("versions") / new.name
        unfinished = place.with_suffix(".new")
        unfinished.write_text(new.read_text())
        unfinished.replace(place)
    engine.dispose()


if __name__ == "__main__":
    main()
