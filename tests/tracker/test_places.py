"""Geography comes from the operator's file and from nowhere else."""

import subprocess
import sys
from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

# Whatever Python does with sockets it tells its audit hooks first (PEP 578); one that is there cannot be taken away.
_PROGRAM = """
import ipaddress, pathlib, sys

def no_sockets(event, _arguments):
    if event.startswith("socket."):
        raise AssertionError(event)

sys.addaudithook(no_sockets)
from tracker import places
found = places.Places(pathlib.Path(sys.argv[1]))
for address in ("203.0.113.9", "198.51.100.1", "2001:db8::1"):
    print(found.of(ipaddress.ip_address(address)))
found._look_at = 0.0
pathlib.Path(sys.argv[1]).touch()
print(found.of(ipaddress.ip_address("203.0.113.9")))
found.close()
import socket
try:
    socket.socket()
except AssertionError as error:
    print(error)
"""


def test_no_place_is_asked_for_over_a_network(tmp_path: Path) -> None:
    """Neither one that is known, nor one that is not, nor when the file is read anew."""
    writer = MMDBWriter(ip_version=4, database_type="City")
    writer.insert_network(IPSet(["203.0.113.0/24"]), {"country": {"iso_code": "DE"}})
    file = tmp_path / "cities.mmdb"
    writer.to_db_file(str(file))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    known, unknown = "Place(country='DE', region=None, city=None)", "Place(country=None, region=None, city=None)"
    assert done.stdout.splitlines() == [known, unknown, unknown, known, "socket.__new__"]
