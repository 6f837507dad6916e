"""Roles on machines of their own, over a PostgreSQL and a Temporal that belong to somebody else."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from core.settings import Settings
from studio import doctor
from studio.doctor import Finding
from studio.stack.process import free_port
from studio.stack.scratch import FORGETFUL, scratch_server
from studio.stack.temporal import EmbeddedTemporal
from tests.engine.world import Letterbox, letterbox
from tests.studio.conftest import Installation, await_true
from tests.studio.external import PASSWORD, ROOT, Authority, debian_postgres, open_folder, temporal_gate

NAMESPACE = "marketing"
API_KEY = "tck-9f8e7d6c5b4a"
WRONG = "not-the-secret-that-it-takes"
SECRET_KEY = "a-secret-key-that-every-machine-has"
CSV = """email,first name,company,language,agreed,where
anna@sever-les.example,Анна,Северный лес,ru,yes,registration form
"""
CONSENT = ("--consent-column", "agreed", "--consent", "email:marketing", "--evidence-column", "where")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, gone afterwards."""
    made = open_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def authority(folder: Path) -> Authority:
    """Who vouches for the servers."""
    return Authority(folder / "ours")


@pytest_asyncio.fixture(loop_scope="session")
async def dev_server(folder: Path) -> AsyncIterator[EmbeddedTemporal]:
    """Temporal, with a namespace that is not the default one."""
    server = EmbeddedTemporal(folder, free_port(), folder / "temporal.log", namespace=NAMESPACE)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def cluster(authority: Authority, dev_server: EmbeddedTemporal) -> Iterator[str]:
    """The way to it: by TLS with a client certificate of ours and an API key."""
    with temporal_gate(dev_server.address, authority, API_KEY, mutual=True) as address:
        yield address


def temporal_settings(authority: Authority, address: str) -> dict[str, str]:
    """What reaches the cluster."""
    certificate, key = authority.issue("client")
    return {
        "KASKAD_TEMPORAL": address,
        "KASKAD_TEMPORAL_NAMESPACE": NAMESPACE,
        "KASKAD_TEMPORAL_TLS_CA": str(authority.file),
        "KASKAD_TEMPORAL_TLS_CERT": str(certificate),
        "KASKAD_TEMPORAL_TLS_KEY": str(key),
        "KASKAD_TEMPORAL_API_KEY": API_KEY,
    }


@dataclass
class Role:
    """One role on its own machine."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> str:
        """Stop it as service managers do; gives what it said."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, f"{self.name}: {self.log.read_text()}"
        return self.log.read_text()


class Machines:
    """Roles that share nothing but the settings."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings
        self.roles: list[Role] = []

    def start(self, name: str, *words: str, **settings: str) -> Role:
        """Start a role, with a data folder of its own that nobody has made."""
        installation = Installation(self.folder / f"data-of-{name}")
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "studio.cli", name, *words],
                cwd=ROOT,
                env={**installation.environment, **self.settings, **settings},
                stdout=output,
                stderr=output,
                text=True,
            )
        self.roles.append(Role(name, process, log))
        return self.roles[-1]

    def command(self, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the operator's machine."""
        return Installation(self.folder / "data-of-operator").command(*words, **{**self.settings, **changed})

    def done(self, *words: str) -> str:
        """Run one that has to succeed; gives what it printed."""
        result = self.command(*words)
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        return result.stdout

    def own_keys(self) -> list[Path]:
        """Secret keys that a machine made for itself because it was told none."""
        return list(self.folder.glob("data-of-*/secret.key"))

    def end(self) -> None:
        """Leave nothing running."""
        for role in self.roles:
            if role.process.poll() is None:
                role.process.kill()
                role.process.wait()


@pytest_asyncio.fixture(params=["embedded", "debian"], loop_scope="session")
async def somebodys_database(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[str]:
    """A URL with a password: of the newest PostgreSQL in the clear, and of Debian's by verified TLS."""
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            yield (await stack.enter_async_context(scratch_server(FORGETFUL))).url
        else:
            url = await stack.enter_async_context(debian_postgres(authority))
            yield f"{url}?sslmode=verify-full&sslrootcert={authority.file}"


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(240)
async def test_api_worker_and_router_apart(
    folder: Path, authority: Authority, cluster: str, somebodys_database: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    machines = Machines(
        folder,
        {
            **temporal_settings(authority, cluster),
            "KASKAD_DATABASE": somebodys_database,
            "KASKAD_SECRET_KEY": SECRET_KEY,
            "KASKAD_BASE_URL": url,
        },
    )
    try:
        async with letterbox() as (box, email):
            machines.done("migrate")
            shown = {"worker": str(free_port()), "router": str(free_port())}
            roles = [machines.start("api", "--port", str(port))]
            roles += [machines.start(name, KASKAD_METRICS_PORT=place) for name, place in shown.items()]
            await_true(lambda: _is_ready(url), "the API is ready")
            _play(machines, url, box, email.get_secret_value())
            accepted = ("kaskad_messages_total", {"channel": "email", "state": "accepted"})
            await_true(lambda: _metric(shown["worker"], *accepted) == 1, "the worker has counted the letter")
            assert _metric(shown["router"], "kaskad_router_events_total", {}) > 0
            assert _metric(shown["router"], "kaskad_router_entries_total", {}) == 1
            findings = {one["part"]: one for one in json.loads(machines.done("doctor", "--json"))}
            assert findings["Temporal"]["found"] == f"{cluster}, namespace {NAMESPACE}"
            assert {one["verdict"] for one in findings.values()} <= {"good", "doubtful"}
            said = "".join(role.stop() for role in roles)
    finally:
        machines.end()
    for secret in (PASSWORD, API_KEY, SECRET_KEY):
        assert secret not in said
    assert "Traceback" not in said and '"level": "error"' not in said, said
    assert machines.own_keys() == []


def _metric(port: str, name: str, labels: dict[str, str]) -> float:
    """What Prometheus would read there."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [one for family in text_string_to_metric_families(answer.text) for one in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def _play(machines: Machines, url: str, box: Letterbox, email: str) -> None:
    """An event goes in by HTTP, a letter comes out, and its link leads to the API."""
    machines.done("provider", "add", "main", email)
    people = machines.folder / "people.csv"
    people.write_text(CSV)
    machines.done("contacts", "import", str(people), *CONSENT)
    machines.done("push", "examples/portal")
    key = machines.done("key", "create", "--scope", "events:write", "--name", "site").strip()
    event: dict[str, Any] = {
        "id": "1",
        "event": "application.saved",
        "contact": {"email": "anna@sever-les.example"},
        "properties": {"application_id": "A-1", "status": "draft", "measure": "certification"},
    }
    answer = httpx.post(f"{url}/v1/events", json=event, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 202, answer.text
    await_true(lambda: "anna@sever-les.example" in box.subjects, "the letter is there")
    history = machines.done("journey", "history", "email:anna@sever-les.example", "--json")
    assert "unfinished-application" in history


async def _found(part: str, settings: Settings) -> Finding:
    """What the doctor says about a part; whatever is wrong, it never quotes a secret."""
    findings = await doctor.examine(settings)
    (found,) = [one for one in findings if one.part == part]
    for secret in (PASSWORD, API_KEY, WRONG):
        assert secret not in str(findings)
    return found


async def test_the_doctor_says_what_is_wrong_with_the_way_to_temporal(
    folder: Path, authority: Authority, cluster: str, dev_server: EmbeddedTemporal
) -> None:
    strangers = Authority(folder / "strangers")
    certificate, key = strangers.issue("client")
    right = {
        name.removeprefix("KASKAD_").lower(): value for name, value in temporal_settings(authority, cluster).items()
    }
    no_pair = {"temporal_tls_cert": None, "temporal_tls_key": None}
    nothing = {**no_pair, "temporal_tls_ca": None, "temporal_api_key": None}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, f"{cluster}, namespace marketing"),
        ({"temporal_api_key": WRONG}, "refuses us (Request unauthorized.): check KASKAD_TEMPORAL_API_KEY"),
        ({"temporal_api_key": None}, "refuses us (Jwt is missing): it may want KASKAD_TEMPORAL_API_KEY"),
        ({"temporal_tls_ca": strangers.file}, "by KASKAD_TEMPORAL_TLS_CA"),
        ({"temporal_tls_ca": None}, "by KASKAD_TEMPORAL_TLS_CA"),
        ({"temporal_tls_ca": folder / "nowhere.pem"}, "cannot be read"),
        (no_pair, "wants a client certificate (KASKAD_TEMPORAL_TLS_CERT and"),
        ({"temporal_tls_key": None}, "belong together"),
        ({"temporal_tls_cert": certificate, "temporal_tls_key": key}, "does not accept the client certificate"),
        ({"temporal_tls_key": key}, "is not that of the certificate"),
        ({"temporal_tls_cert": authority.folder / "client.key"}, "no PEM file"),
        (nothing, "expects TLS (KASKAD_TEMPORAL_TLS=true)"),
        ({"temporal": dev_server.address}, "does not speak TLS"),
        ({"temporal_namespace": "sales"}, "no namespace 'sales'"),
        ({"temporal": f"localhost:{free_port()}"}, "Connection refused"),
    ]
    for change, words in cases:
        found = await _found("Temporal", Settings.model_validate({"data": folder, **right, **change}))
        assert words in found.found, change
        assert found.is_broken == bool(change), change


async def test_the_doctor_says_what_is_wrong_with_the_way_to_postgresql(folder: Path, authority: Authority) -> None:
    strangers = Authority(folder / "strangers")
    async with debian_postgres(authority) as url:
        ours, theirs = (f"?sslmode=verify-full&sslrootcert={one.file}" for one in (authority, strangers))
        cases = [
            (url.replace(PASSWORD, WRONG) + ours, "password authentication failed", "user and password"),
            (url + theirs, "certificate verify failed", "sslrootcert=FILE"),
            (url + f"?sslmode=verify-full&sslrootcert={folder}/nowhere.pem", "does not exist", "sslrootcert=FILE"),
            (url + "?sslmode=disable", "no encryption", "?sslmode=verify-full"),
            (url + "_too" + ours, 'database "kaskad_too" does not exist', "create database"),
            (url.replace("localhost", "nowhere.invalid") + ours, "nowhere.invalid", "host and port"),
        ]
        for address, words, mend in cases:
            found = await _found("database", Settings(data=folder, database=address))
            assert found.is_broken and words in found.found and mend in found.mend, (words, found)
        fresh = Settings(data=folder, database=url + ours)
        assert not (await _found("database", fresh)).is_broken
        assert (await _found("schema", fresh)).mend == "run `kaskad migrate`"
        assert "KASKAD_SECRET_KEY" in (await _found("secret key", fresh)).mend


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"KASKAD_DATABASE": f"mysql://kaskad:{WRONG}@localhost/kaskad"}, "postgresql://user:password@host"),
        ({"KASKAD_DATABASE": f"kaskad:{WRONG}"}, "postgresql://user:password@host"),
        ({"KASKAD_DATABASE": f"postgresql://k:{WRONG}@localhost/k?sslmod=disable"}, 'connection option "sslmod"'),
        ({"KASKAD_TEMPORAL": "https://temporal.internal:7233"}, "write host:port"),
        ({"KASKAD_TEMPORAL": "temporal.internal"}, "write host:port"),
    ],
)
def test_addresses_that_cannot_be_right_are_refused_at_once(
    installation: Installation, settings: dict[str, str], words: str
) -> None:
    (name,) = settings
    done = installation.command("doctor", **settings)
    assert done.returncode == 1 and f"{name}: " in done.stderr and words in done.stderr
    assert WRONG not in done.stderr + done.stdout and "Traceback" not in done.stderr
