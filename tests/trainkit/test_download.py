"""Downloads against a local server that misbehaves on request."""

import hashlib
import http.server
import socket
import threading

import numpy as np
import pytest

from trainkit.download import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(700_001)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's attributes say with which fault."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        if self.path != "/file":
            self.send_error(404)
            return
        start = 0
        if self.server.knows_ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        limit = self.server.cut_after.pop(0) if self.server.cut_after else len(CONTENT)
        self.wfile.write(CONTENT[start : start + limit])

    def log_message(self, *args):
        """Keeps the test's output quiet."""


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.knows_ranges, server.cut_after = [], True, []
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_arrives_whole_and_verified(server, tmp_path):
    path = download(server.url, tmp_path / "weights" / "a.h5", md5=MD5, sha256=SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_needs_no_network(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(CONTENT)
    assert download("http://127.0.0.1:1/never", path, md5=MD5) == path


def test_an_existing_file_that_is_another_is_named_and_kept(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"something of the user's")
    with pytest.raises(DownloadError, match=r"a\.h5 is not the weights as published: its md5"):
        download("http://127.0.0.1:1/never", path, md5=MD5, what="the weights")
    assert path.read_bytes() == b"something of the user's"


def test_a_part_left_by_an_earlier_run_is_continued(server, tmp_path):
    (tmp_path / "a.h5.part").write_bytes(CONTENT[:300_000])
    assert download(server.url, tmp_path / "a.h5", md5=MD5).read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]


def test_a_transfer_that_is_cut_off_goes_on(server, tmp_path):
    server.cut_after = [100_000, 250_000]
    assert download(server.url, tmp_path / "a.h5").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=350000-"]


def test_a_server_that_stops_sending_ends_it_and_the_next_call_resumes(server, tmp_path):
    server.cut_after = [100_000, 0]
    with pytest.raises(DownloadError, match="100000 of 700001 bytes"):
        download(server.url, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    assert download(server.url, tmp_path / "a.h5", sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "a.h5.part").write_bytes(b"x" * 300_000)
    assert download(server.url, tmp_path / "a.h5").read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_stops_early_is_given_up(server, tmp_path):
    server.knows_ranges, server.cut_after = False, [200_000] * 9
    with pytest.raises(DownloadError, match="200000 of 700001 bytes"):
        download(server.url, tmp_path / "a.h5")
    assert len(server.ranges) == 2


def test_a_complete_part_is_taken_as_it_is(server, tmp_path):
    (tmp_path / "a.h5.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "a.h5", md5=MD5).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.h5.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "a.h5", md5=MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [{"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_a_wrong_checksum_removes_the_download(server, tmp_path, checksum):
    with pytest.raises(DownloadError, match="it was removed"):
        download(server.url, tmp_path / "a.h5", **checksum)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_message_says_what_to_do_by_hand(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/coco.h5"
    with pytest.raises(DownloadError) as error:
        download(url, tmp_path / "coco.h5", what="the COCO weights")
    assert "the COCO weights" in str(error.value)
    assert f"Download {url} by hand and put it at {tmp_path / 'coco.h5'}" in str(error.value)


@pytest.mark.parametrize(("path", "cause"), [("/other", "404"), ("", "404")])
def test_a_refusal_is_reported(server, tmp_path, path, cause):
    with pytest.raises(DownloadError, match=cause):
        download(server.url.replace("/file", path), tmp_path / "a.h5")


def test_an_address_that_is_none_is_reported(tmp_path):
    with pytest.raises(DownloadError, match="unknown url type"):
        download("weights/coco.h5", tmp_path / "a.h5")
