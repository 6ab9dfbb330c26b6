"""A Hugging Face Hub of our own on the loopback interface, for processes that have its url as HF_ENDPOINT.

Answers what huggingface_hub, datasets and transformers ask of the real one when they read: about a repository,
its tree, and its files; and what huggingface_hub asks when it makes a model repository, commits files to it, large
ones through LFS, and removes it; with the real one's headers and refusals. Remembers every request. Xet, uploads in
parts, redirects to a content network, branches and discussions are not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>.+?)(?:/(?P<verb>revision|tree|paths-info)/(?P<rest>.+))?")
_WRITE = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>.+?)/(?P<verb>preupload|commit)/main")
_BATCH = re.compile(r"/(?P<kind>datasets/)?(?P<id>.+?)\.git/info/lfs/objects/batch")
_STORE = re.compile(r"/lfs-storage/(?P<digest>[0-9a-f]{64})")
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<id>.+?)/resolve/(?P<rest>.+)")
_LFS = (".bin", ".parquet", ".pth", ".safetensors")


@dataclass
class Repository:
    """A repository's commits, oldest first; the branch `main` is the last one."""

    commits: dict[str, dict[str, bytes]]
    """Commit -> file name -> content."""
    gated: bool = False
    """Whether its conditions were not accepted: it can be asked about, but its files cannot be had."""
    private: bool = False
    """Whether it does not exist, for all but its owner."""

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
    writers: dict[str, str] = field(default_factory=dict)
    """Token -> the account that it may write for. Every other token may only read."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 -> what was uploaded through LFS, committed or not."""
    refused_token: str | None = None
    """A token that has expired: whoever shows it is turned away, as on the real Hub even from public repositories."""
    broken: bool = False
    """Whether to answer everything with 503."""
    refuses_commits: bool = False
    """Whether to answer commits with 500."""
    refuses_removals: bool = False
    """Whether no token may remove a repository."""
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

    def do_PUT(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self, body: bytes = b"") -> None:
        try:
            self._check_token()
            path = unquote(urlsplit(self.path).path)
            if self.command == "POST" and path == "/api/validate-yaml":
                self._check_card(json.loads(body)["content"])
            elif self.command == "POST" and path == "/api/repos/create":
                self._create(json.loads(body))
            elif self.command == "DELETE" and path == "/api/repos/delete":
                self._remove(json.loads(body))
            elif self.command == "POST" and (match := _WRITE.fullmatch(path)):
                self._write(match, body)
            elif self.command == "POST" and (match := _BATCH.fullmatch(path)):
                self._say_where_to_store(match, json.loads(body)["objects"])
            elif self.command == "PUT" and (match := _STORE.fullmatch(path)):
                self._store(match["digest"], body)
            elif match := _API.fullmatch(path):
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
        if self._token() and self._token() == self.hub.refused_token:
            raise _Refusal(401, "", "Invalid credentials in Authorization header")

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _check_writer(self, owner: str) -> None:
        if not self._token():
            raise _Refusal(401, "", "Invalid username or password.")
        if self.hub.writers.get(self._token()) != owner:
            raise _Refusal(403, "", f"Forbidden: you don't have the right to write to {owner}")

    def _repository(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        owner = name.split("/")[1]
        if repository is None or (repository.private and self.hub.writers.get(self._token()) != owner):
            raise _Refusal(404, "RepoNotFound", "Repository not found")
        return repository

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
                "private": repository.private,
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
        self._send_json(answer)

    def _check_card(self, text: str) -> None:
        _, front, _ = text.split("---\n", 2)
        try:
            problems = [] if isinstance(yaml.safe_load(front), dict) else ["not a mapping"]
        except yaml.YAMLError as error:
            problems = [str(error)]
        self._send_json({"errors": [{"message": each} for each in problems], "warnings": []}, 400 if problems else 200)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted["organization"] or self.hub.writers.get(self._token(), "")
        self._check_writer(owner)
        name = f"models/{owner}/{wanted['name']}"
        if name in self.hub.repositories:
            raise _Refusal(409, "", "You already created this model repo")
        first = {".gitattributes": b"".join(b"*%s filter=lfs\n" % ending.encode() for ending in _LFS)}
        private = wanted["visibility"] == "private"
        self.hub.repositories[name] = Repository({_commit_id(first, 0): first}, private=private)
        self._send_json({"url": f"{self.hub.url}/{name.removeprefix('models/')}"})

    def _remove(self, wanted: dict[str, Any]) -> None:
        self._check_writer(wanted["organization"])
        if self.hub.refuses_removals:
            raise _Refusal(403, "", "This token may not remove repositories")
        del self.hub.repositories[f"models/{wanted['organization']}/{wanted['name']}"]
        self._send_json({})

    def _write(self, match: re.Match[str], body: bytes) -> None:
        repository = self._repository(f"{match['kind']}/{match['id']}")
        self._check_writer(match["id"].split("/")[0])
        if match["verb"] == "preupload":
            newest = repository.commits[self._commit(repository, "main")]
            self._send_json({"files": [_upload_mode(each["path"], newest) for each in json.loads(body)["files"]]})
        else:
            if self.hub.refuses_commits:
                raise _Refusal(500, "", "Internal Server Error")
            commit = self._add_commit(repository, [json.loads(line) for line in body.splitlines()])
            url = f"{self.hub.url}/{match['id']}/commit/{commit}"
            self._send_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _add_commit(self, repository: Repository, operations: list[dict[str, Any]]) -> str:
        """The new commit: the newest one's files, with those that the operations after the header add."""
        files = dict(repository.commits[self._commit(repository, "main")])
        for operation in operations[1:]:
            file = operation["value"]
            if operation["key"] == "file":
                files[file["path"]] = base64.b64decode(file["content"])
            elif operation["key"] == "lfsFile" and file["oid"] in self.hub.stored:
                files[file["path"]] = self.hub.stored[file["oid"]]
            else:
                raise _Refusal(
                    400, "", f"Cannot commit {operation['key']} {file.get('path')}: not uploaded, or no file"
                )
        commit = _commit_id(files, len(repository.commits))
        repository.commits[commit] = files
        return commit

    def _say_where_to_store(self, match: re.Match[str], objects: list[dict[str, Any]]) -> None:
        self._repository(f"{match['kind'] or 'models/'}{match['id']}")
        self._check_writer(match["id"].split("/")[0])
        actions = [{"upload": {"href": f"{self.hub.url}/lfs-storage/{each['oid']}"}} for each in objects]
        answers = [{**each, "actions": action} for each, action in zip(objects, actions, strict=True)]
        self._send_json({"transfer": "basic", "objects": answers})

    def _store(self, digest: str, content: bytes) -> None:
        """Take what is uploaded; like the content network, this asks for no token."""
        if hashlib.sha256(content).hexdigest() != digest:
            raise _Refusal(400, "", "The content is not what its SHA-256 says")
        self.hub.stored[digest] = content
        self._send(200, b"", {})

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

    def _send_json(self, answer: object, status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

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


def _upload_mode(name: str, files: dict[str, bytes]) -> dict[str, object]:
    """How a file is to be uploaded, and what it is called by if it is there already."""
    known = {"oid": _etag(name, files[name])} if name in files else {}
    return {"path": name, "uploadMode": "lfs" if name.endswith(_LFS) else "regular", "shouldIgnore": False, **known}


def _commit_id(files: dict[str, bytes], number: int) -> str:
    total = hashlib.sha1(b"%d" % number)
    for name, content in sorted(files.items()):
        total.update(_etag(name, content).encode() + name.encode())
    return total.hexdigest()


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
