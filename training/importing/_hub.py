"""The hub of Hugging Face: whether it can be asked, and that nothing from it is run."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from training.huggingface.model_error import ModelImportError

SECONDS_TO_ANSWER = 1.0
"""How long the hub has to answer the first request. Its own client would try for a minute."""


def hub_answers() -> bool:
    """Whether the hub may be asked, and answers. Where it does not, its clients are told so, and
    read what they have kept of earlier downloads."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not _answers_in_time():
        constants.HF_HUB_OFFLINE = True
    return not constants.HF_HUB_OFFLINE


def require_hub(what: str) -> None:
    """Raises ModelImportError when the hub does not answer, and nothing was kept of it, either."""
    from huggingface_hub import constants

    if hub_answers() or any(Path(constants.HF_HUB_CACHE).glob("models--*")):
        return
    raise ModelImportError(f"{what}: needs the hub of Hugging Face, which {hub_silence()}")


def hub_silence() -> str:
    """Why the hub says nothing."""
    named = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return "HF_HUB_OFFLINE turns off" if named else "does not answer"


def refuse_remote_code() -> None:
    """Makes transformers refuse a model or tokenizer that brings code of its own, where it would
    ask on the terminal whether to run it."""
    from training.core.torchvision_compat import define_operators

    define_operators()
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # seconds that it would wait for an answer


def _answers_in_time() -> bool:
    """Whether the hub, or the proxy before it, takes a connection. The hub's own client would first
    take a second of imports."""
    from huggingface_hub import constants

    url = urlsplit(constants.ENDPOINT)
    if not proxy_bypass(url.hostname or ""):
        url = urlsplit(getproxies().get(url.scheme, constants.ENDPOINT))
    address = (url.hostname or "", url.port or (80 if url.scheme == "http" else 443))
    answered = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(address, SECONDS_TO_ANSWER):
            answered.set()

    # In a thread of its own, because the timeout does not cover the look-up of the name.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return answered.is_set()
