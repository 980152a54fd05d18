"""A small hub on the loopback address: repositories from folders, and the answers that refuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

TOKEN = "hf_right"


class Hub(BaseHTTPRequestHandler):
    """``repositories``: (name, revision) -> folder; ``gated`` and ``private``: names."""

    repositories: ClassVar[dict[tuple[str, str], Path]] = {}
    gated: ClassVar[set[str]] = set()
    private: ClassVar[set[str]] = set()

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        known = {repo for repo, _ in self.repositories}
        if token not in ("", TOKEN):
            return self.refuse(401, None, "Invalid credentials in Authorization header")
        if name not in known or (name in self.private and token != TOKEN):
            return self.refuse(401, "RepoNotFound")
        if name in self.gated and token != TOKEN:
            return self.refuse(403, "GatedRepo")
        rest = parts[4:] if api else parts[2:]
        revision = rest[1] if len(rest) > 1 else "main"
        for (repo, version), folder in self.repositories.items():
            if repo == name and revision in (version, sha(repo, version)):
                return self.answer(folder, sha(repo, version), rest, api)
        return self.refuse(404, "RevisionNotFound")

    def answer(self, folder: Path, commit: str, rest: list[str], api: bool) -> None:
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if not api:
            file = folder / "/".join(rest[2:])
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            return self.send(file.read_bytes(), {"X-Repo-Commit": commit})
        if rest[0] == "tree":
            rows = [{"type": "file", "path": f, **described(folder / f)} for f in files]
            return self.send(json.dumps(rows).encode(), {})
        facts = {"id": "x/y", "sha": commit, "siblings": [{"rfilename": f} for f in files]}
        return self.send(json.dumps(facts).encode(), {})

    def send(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        etag = hashlib.sha1(body).hexdigest()
        for key, value in {"ETag": f'"{etag}"', "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, code: str | None, message: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message or str(code))
        self.send_header("Content-Length", "0")
        self.end_headers()


def sha(name: str, revision: str) -> str:
    """The commit of a revision."""
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


def described(file: Path) -> dict[str, Any]:
    """A file's size and id."""
    return {"size": file.stat().st_size, "oid": hashlib.sha1(file.read_bytes()).hexdigest()}


@contextmanager
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path, **facts: Any) -> Iterator[type[Hub]]:
    """A hub while the block lasts, and `huggingface_hub` pointed at it as ``HF_ENDPOINT`` would."""
    from huggingface_hub import constants

    kind = type("Served", (Hub,), facts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    try:
        yield kind
    finally:
        server.shutdown()
        server.server_close()
