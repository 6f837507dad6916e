"""Live edits on the command line, as a person makes them."""

import json
from pathlib import Path

from sqlalchemy import insert, select, update

from core.clock import now
from core.database import Database
from core.schema import contacts
from core.schema.journeys import enrollment, enrollment_order
from core.settings import Settings
from engine.entries import NewRow, place, reserve_ids
from engine.versions import Versions
from journeys import store
from tests.journeys.test_commands import _kaskad

FIRST = "journey: hello\nsteps:\n  - {wait: 2h, id: pause}\n  - {wait: 1d, id: patience}\n"
SECOND = "journey: hello\nsteps:\n  - {wait: 3d, id: patience}\n"


async def test_publishing_with_a_move(database: Database, settings: Settings, tmp_path: Path) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(contacts.contact).values(id=1))
        first = await store.publish(connection, FIRST)
        (number,) = await reserve_ids(connection, 1)
        version = await Versions().get(connection, first.version_id)
        await place(connection, settings, version, [NewRow(number, 1, "", True, now())], broadcast=False)
        await connection.execute(update(enrollment).values(state="active", step=0, visit=1))
    file = tmp_path / "hello.yaml"
    file.write_text(SECOND)

    code, out, _ = await _kaskad(database, tmp_path, "journey", "publish", str(file), "--preview", "--json")
    assert code == 0
    assert json.loads(out) == [
        {"version": 1, "step": "pause", "edit": "gone", "contacts": 1, "go_to": "has to be said"},
        {"version": 1, "step": "patience", "edit": "retimed", "contacts": 0, "go_to": "patience"},
    ]
    code, out, err = await _kaskad(database, tmp_path, "journey", "publish", str(file), "--move")
    assert code == 1
    assert "1 contact stands on the step pause of version 1, which is gone" in err
    assert "has to be said" in out
    code, _, err = await _kaskad(database, tmp_path, "journey", "publish", str(file), "--move", "--place", "pause")
    assert (code, "'pause' places nobody" in err) == (1, True)
    code, out, err = await _kaskad(
        database, tmp_path, "journey", "publish", str(file), "--move", "--place", "pause=patience", "--json"
    )
    assert code == 0, err
    assert json.loads(out) == [{"journey": "hello", "version": 2, "changed": True, "moving": 1}]

    code, out, err = await _kaskad(database, tmp_path, "enrollment", "move", str(number), "--to", "patience", "--json")
    assert code == 0, err
    code, out, err = await _kaskad(database, tmp_path, "enrollment", "end", str(number), "--outcome", "refunded")
    assert code == 0, err
    async with database.begin() as connection:
        rows = await connection.execute(
            select(enrollment_order.c.step, enrollment_order.c.outcome).order_by(enrollment_order.c.id)
        )
        assert [tuple(row) for row in rows] == [("patience", None), (None, "refunded")]
    code, out, err = await _kaskad(database, tmp_path, "journey", "stop", "hello", "--finish", "--json")
    assert json.loads(out) == {"journey": "hello", "before": "active", "state": "finishing"}, err
