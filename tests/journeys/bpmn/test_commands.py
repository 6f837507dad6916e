"""`kaskad journey export` and `import`, as a person runs them."""

import asyncio
import os
import sys
from pathlib import Path

import journeys
from core.database import Database
from examples import SHOP
from journeys import store
from tests.journeys.bpmn.samples import CAMUNDA, REFUSED

_ROOT = Path(__file__).parents[3]
_CART = SHOP / "journeys" / "abandoned-cart.yaml"


async def _kaskad(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from studio.cli import main; main()",
        "journey",
        *arguments,
        cwd=_ROOT,
        env=os.environ | {"KASKAD_DATA": str(tmp_path / "data"), "COLUMNS": "160"} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_file_goes_to_bpmn_and_back_without_a_database(tmp_path: Path) -> None:
    drawing, again = str(tmp_path / "cart.bpmn"), str(tmp_path / "cart.yaml")
    assert await _kaskad(tmp_path, "export", str(_CART), "--bpmn", "--out", drawing) == (0, "", "")
    assert await _kaskad(tmp_path, "import", drawing, "--out", again) == (0, "", "")
    code, out, _ = await _kaskad(tmp_path, "export", again, "--out", "-")
    assert code == 0
    assert journeys.compile(journeys.load(out)) == journeys.compile(journeys.load(_CART.read_bytes()))


async def test_a_published_journey_is_exported_by_its_name(database: Database, tmp_path: Path) -> None:
    source = "# kept\njourney: x\nsteps:\n  - {wait: 1h}\n  - end\n"
    async with database.begin() as connection:
        await store.publish(connection, source)
    code, out, err = await _kaskad(tmp_path, "export", "x", "--bpmn", "--out", "-", KASKAD_DATABASE=database.url)
    assert (code, err) == (0, "")
    assert '<bpmn:process id="Journey_x"' in out
    assert await _kaskad(tmp_path, "export", "x", "--out", "-", KASKAD_DATABASE=database.url) == (0, source, "")


async def test_what_is_left_out_and_what_is_refused_is_said(tmp_path: Path) -> None:
    file = tmp_path / "cart.bpmn"
    file.write_text(CAMUNDA)
    code, out, err = await _kaskad(tmp_path, "import", str(file), "--out", "-")
    assert (code, err) == (0, "left out, since it does nothing: 1 text annotations, 1 associations\n")
    assert out.startswith("journey: remind-of-the-cart\n")
    file.write_text(REFUSED)
    target = tmp_path / "never.yaml"
    code, _, err = await _kaskad(tmp_path, "import", str(file), "--out", str(target))
    assert code == 1
    assert f"error: {file}:12:5: inclusiveGateway Or “Any of these”: has no meaning in a journey" in err
    assert err.endswith("10 problems\n")
    assert not target.exists()
    code, _, err = await _kaskad(tmp_path, "import", str(tmp_path / "none.bpmn"), "--out", "-")
    assert (code, "cannot be read: No such file or directory" in err) == (1, True)
