"""A hub on this machine, for tests: what `huggingface_hub` asks of it to fetch and to publish.

    with FakeHub(cache=tmp_path / "cache") as hub:
        hub.repositories["someone/model"] = {"config.json": b"{}"}
        ...                       # huggingface_hub knows no other hub here, and no other cache
        hub.set_offline()         # and from here on none at all

It listens on the loopback address only and keeps one commit a model in memory. Files whose names
are in `broken` end in the middle; `refusals` are models it answers for with a status and a code
of its errors only; `faults` are what it finds wrong with a model card.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub import constants

COMMIT = "1234567890123456789012345678901234567890"
REVISIONS = ("main", "v1", COMMIT)
TOKEN = "hf_of_the_tests"


class _Handler(BaseHTTPRequestHandler):
    repositories: ClassVar[dict[str, dict[str, bytes]]]
    requests: ClassVar[list[str]]
    broken: ClassVar[list[str]]
    faults: ClassVar[list[str]]
    refusals: ClassVar[dict[str, tuple[int, str]]]

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def refuses(self, name, revision):
        status, code = self.refusals.get(name, (200, ""))
        if status == 200 and name not in self.repositories:
            status, code = 404, "RepoNotFound"
        elif status == 200 and revision not in REVISIONS:
            status, code = 404, "RevisionNotFound"
        if status != 200:
            self.answer(status, X_Error_Code=code)
        return status != 200

    def do_HEAD(self):
        self.requests.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        name, revision, file = match.groups() if match else ("", "", "")
        if self.refuses(name, revision):
            return None
        if file not in self.repositories[name]:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        body = self.repositories[name][file]
        if file in self.broken and self.command == "GET":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        tag = hashlib.sha256(body).hexdigest()
        return self.answer(200, body, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)

    def do_GET(self):
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(\w+)(\?.*)?", self.path)
        if match is None:
            return self.do_HEAD()
        self.requests.append(f"{self.command} {self.path}")
        name, question, revision, _ = match.groups()
        if self.refuses(name, revision):
            return None
        files = self.repositories[name]
        if question == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self.answer_json({"id": name, "sha": COMMIT, "siblings": siblings})
        tree = [
            {"type": "file", "path": path, "size": len(body), "oid": path}
            for path, body in files.items()
        ]
        return self.answer_json(tree)

    def do_POST(self):
        self.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer_json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/validate-yaml":
            if self.faults:
                errors = [{"message": fault} for fault in self.faults]
                return self.answer_json({"errors": errors, "warnings": []}, 400)
            return self.answer_json({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
            self.repositories.setdefault(name, {})
            return self.answer_json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", self.path)
        if match is None or match[1] not in self.repositories:
            return self.answer(404, X_Error_Code="RepoNotFound")
        if match[2] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer_json({"files": files})
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                value = line["value"]
                content = base64.b64decode(value["content"])
                self.repositories[match[1]][value["path"]] = content
        url = f"http://{self.headers['Host']}/{match[1]}/commit/{COMMIT}"
        return self.answer_json({"success": True, "commitUrl": url, "commitOid": COMMIT})


class FakeHub:
    """The server, in a thread of its own while in the block."""

    def __init__(self, *, cache: Path):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.broken: list[str] = []
        self.faults: list[str] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        names = ("repositories", "requests", "broken", "faults", "refusals")
        kept = {name: getattr(self, name) for name in names}
        handler = type("Handler", (_Handler,), kept)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cache = cache
        self.patch = pytest.MonkeyPatch()

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        settings = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(self.cache),
            "HF_TOKEN_PATH": str(self.cache / "no-token"),
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            self.patch.setattr(constants, name, value)
        self.patch.setattr(
            "time.sleep", lambda seconds: None
        )  # the library waits before it retries
        self.set_token(TOKEN)
        return self

    def set_token(self, token: str) -> None:
        self.patch.setenv("HF_TOKEN", token)

    def set_offline(self, offline: bool = True) -> None:
        self.patch.setattr(constants, "HF_HUB_OFFLINE", offline)

    def __exit__(self, *_):
        self.patch.undo()
        self.server.shutdown()
        self.server.server_close()
