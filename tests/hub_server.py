"""A Hugging Face Hub of our own on the loopback interface, for processes that have its url as HF_ENDPOINT.

Answers what huggingface_hub, datasets and transformers ask of the real one when they read: about a repository,
its tree, and its files; with the real one's headers and refusals. Remembers every request. Xet, redirects to a
content network, commits and discussions are not there.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>.+?)(?:/(?P<verb>revision|tree|paths-info)/(?P<rest>.+))?")
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<id>.+?)/resolve/(?P<rest>.+)")
_LFS = (".bin", ".parquet", ".safetensors")


@dataclass
class Repository:
    """A repository's commits, oldest first; the branch `main` is the last one."""

    commits: dict[str, dict[str, bytes]]
    """Commit -> file name -> content."""
    gated: bool = False
    """Whether its conditions were not accepted: it can be asked about, but its files cannot be had."""

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a commit or the beginning of one stands for."""
        newest = list(self.commits)[-1]
        return newest if revision == "main" else next((c for c in self.commits if c.startswith(revision)), None)


@dataclass(frozen=True)
class Request:
    """What was asked, by whom, and the status of the answer."""

    method: str
    path: str
    authorization: str | None
    status: int


@dataclass
class HubServer:
    """Serves `repositories`, keyed `models/<id>` or `datasets/<id>`, while it is entered as a context."""

    repositories: dict[str, Repository]
    requests: list[Request] = field(default_factory=list)
    refused_token: str | None = None
    """A token that has expired: whoever shows it is turned away, as on the real Hub even from public repositories."""
    broken: bool = False
    """Whether to answer everything with 503."""
    hangs_up_on: str | None = None
    """A file for which the connection is cut instead of sending it."""

    def __enter__(self) -> HubServer:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def paths(self) -> list[str]:
        """What was asked for so far, without queries."""
        return [urlsplit(request.path).path for request in self.requests]


class _Refusal(Exception):
    """An answer that says no: status, X-Error-Code, X-Error-Message, and the commit where there is one."""

    def __init__(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.commit = status, code, message, commit


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self, body: bytes = b"") -> None:
        try:
            self._check_token()
            path = unquote(urlsplit(self.path).path)
            if match := _API.fullmatch(path):
                self._answer_api(match, body)
            elif match := _FILE.fullmatch(path):
                self._send_file(match)
            else:
                raise _Refusal(404, "", "Sorry, we can't find the page you are looking for.")
        except _Refusal as no:
            headers = {"X-Error-Code": no.code, "X-Error-Message": no.message, "X-Repo-Commit": no.commit}
            self._send(no.status, json.dumps({"error": no.message}).encode(), headers)

    def _check_token(self) -> None:
        if self.hub.broken:
            raise _Refusal(503, "", "Service Unavailable")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token == self.hub.refused_token:
            raise _Refusal(401, "", "Invalid credentials in Authorization header")

    def _repository(self, name: str) -> Repository:
        if name not in self.hub.repositories:
            raise _Refusal(404, "RepoNotFound", "Repository not found")
        return self.hub.repositories[name]

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _answer_api(self, match: re.Match[str], body: bytes) -> None:
        repository = self._repository(f"{match['kind']}/{match['id']}")
        revision, _, folder = (match["rest"] or "main").partition("/")
        commit = self._commit(repository, revision)
        files = repository.commits[commit]
        answer: object
        if match["verb"] in (None, "revision"):
            answer = {
                "id": match["id"],
                "sha": commit,
                "private": False,
                "gated": "manual" if repository.gated else False,
                "siblings": [{"rfilename": name} for name in files],
            }
        else:
            self._check_gate(repository)
            if match["verb"] == "tree":
                recursive = "true" in parse_qs(urlsplit(self.path).query.lower()).get("recursive", [])
                answer = list(_tree(files, folder, recursive))
                if folder and not answer:
                    raise _Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision!r}", commit)
            else:
                wanted = parse_qs(body.decode())["paths"]
                answer = [entry for entry in _tree(files, "", recursive=True) if entry["path"] in wanted]
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _check_gate(self, repository: Repository) -> None:
        if repository.gated:
            raise _Refusal(403, "GatedRepo", "Access to this repository is restricted")

    def _send_file(self, match: re.Match[str]) -> None:
        repository = self._repository(f"{match['kind'] or 'models/'}{match['id']}")
        self._check_gate(repository)
        revision, _, name = match["rest"].partition("/")
        commit = self._commit(repository, revision)
        content = repository.commits[commit].get(name)
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found", commit)
        if self.hub.hangs_up_on == name and self.command == "GET":
            self.close_connection = True
            return
        headers = {"ETag": f'"{_etag(name, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send(200, content, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str | None]) -> None:
        record = Request(self.command, self.path, self.headers.get("Authorization"), status)
        self.hub.requests.append(record)  # before the answer, so that who has it finds the record
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(name: str, content: bytes) -> str:
    """What the Hub calls a file by: its SHA-256 where it is large, else git's hash of it."""
    if name.endswith(_LFS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> Iterator[dict[str, object]]:
    """The entries below a folder; without recursion, only those right in it."""
    start = f"{folder}/" if folder else ""
    seen = set()
    for name, content in sorted(files.items()):
        inner = name.removeprefix(start)
        if not name.startswith(start):
            continue
        parents = inner.split("/")[:-1]
        for depth in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
            path = start + "/".join(parents[:depth])
            if path not in seen:
                seen.add(path)
                yield {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
        if parents and not recursive:
            continue
        entry: dict[str, object] = {
            "type": "file",
            "oid": _etag(name, content)[:40],
            "size": len(content),
            "path": name,
        }
        if name.endswith(_LFS):
            entry["lfs"] = {"oid": _etag(name, content), "size": len(content), "pointerSize": 134}
        yield entry
