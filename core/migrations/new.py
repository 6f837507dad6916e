"""Write the next migration from what core.schema has and the migrations have not.

`python -m core.migrations.new NAME URL`, where URL is an empty PostgreSQL database; `make migration` provides one.
"""

import sys

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from core.migrate import write_revision


def main() -> int:
    """Write the file and print its path."""
    if len(sys.argv) != 3 or not sys.argv[1].strip():
        print("say what the migration does: make migration NAME='add web push'", file=sys.stderr)
        return 2
    engine = create_engine(make_url(sys.argv[2]).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        print(write_revision(connection, sys.argv[1].strip().replace("_", " ")))
    engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
