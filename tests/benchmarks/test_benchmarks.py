"""Each benchmark that can be small runs to its end and says its figures in one line, the last, that programs read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "words", "figures"),
    [
        ("journey", "--contacts 200 --apart 3 --cohort-size 100", {"contacts_per_s", "ratio_to_per_contact"}),
        ("email", "--letters 60 --plain 5", {"letters_per_s", "ratio_to_plain_loop"}),
        (
            "ingest",
            "--requests 400 --batches 4 --batch-size 50 --connections 8",
            {"requests_per_s", "batched_events_per_s"},
        ),
        ("load_contacts", "--rows 2000", {"seconds", "peak_mb"}),
        ("policy", "--messages 2000 --prepared 200", {"decisions_per_s", "prepared_per_s"}),
        ("webhook", "--calls 60", {"calls_per_s"}),
        ("limits", "--limit 20 --seconds 2", {"limit_error_percent", "limit_burst_percent"}),
    ],
)
def test_a_small_run_ends_with_its_figures(name: str, words: str, figures: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *words.split()],
        cwd=ROOT,
        env={**os.environ, "KASKAD_POSTGRES_USER": "nobody"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["benchmark"] == name
    assert figures <= said["figures"].keys()
    assert all(isinstance(said["figures"][one], (int, float)) for one in figures)
