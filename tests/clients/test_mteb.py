"""mteb's sparse retrieval over a bundle, with texts and with images, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.clients

PYTHON = os.environ.get("SPARSECLIP_MTEB", sys.executable)
"""`make test-clients` adds mteb to the project's own environment, where torch is."""


def test_a_retrieval_task_of_mteb_runs() -> None:
    names = ("cat", "dog", "sailboat")
    given = {
        "bundle": str(ROOT / "models" / "demo"),
        "queries": [f"a {name}" for name in names],
        "texts": ["kitten", "poodle", "ship with sails"],
        "images": [str(ROOT / "docs" / "images" / f"{name}.png") for name in names],
    }
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("mteb_retrieval.py"))],
        input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["OwnImages"] == 1.0
    assert scores["OwnTexts"] > 0.8
