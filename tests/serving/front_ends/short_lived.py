"""A process of a supervisor that is ready at once, and then ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from serving.core.child_process import answers_on_stdout

if __name__ == "__main__":
    with Path(json.loads(sys.argv[1])["starts"]).open("a") as file:
        file.write("started\n")
    answers_on_stdout()({"address": "nowhere"})
