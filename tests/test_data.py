"""The table of data sets: where a file is looked for, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from equipoise.data import DATA_FILES, DataError, DataFile, Download, OriginFile, find, locate, scores_of_all_words

CONTENT = b"position\tscore\n0\t0.5\n"
CONTENT_SHA256 = hashlib.sha256(CONTENT).hexdigest()
Served = dict[str, bytes]


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data folder is named, and the user's cache is an empty folder of this test."""
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def served() -> Iterator[tuple[str, Served]]:
    """An address on this machine, and the files that it serves; a path that ends in /short announces too many bytes."""
    files: Served = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + (1000 if self.path.endswith("/short") else 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()
    server.server_close()
    thread.join()


def copy(sources: Sequence[Path], target: Path) -> None:
    target.write_bytes(sources[0].read_bytes())


def small_file(download: Download | None = None, *, sha256: str = CONTENT_SHA256) -> DataFile:
    return DataFile("small", "folder/small.tsv", sha256, "tsv: position, score", "somewhere", "MIT", download)


def put(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "folder" / "small.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "equipoise"


def test_places_are_looked_in_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cache = put(cached(tmp_path))
    assert locate(small_file()) == in_cache
    in_variable = put(tmp_path / "variable")
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path / "variable"))
    assert locate(small_file()) == in_variable
    in_option = put(tmp_path / "option")
    assert locate(small_file(), tmp_path / "option") == in_option
    in_option.unlink()
    assert locate(small_file(), tmp_path / "option") == in_variable


def test_a_file_with_other_bytes_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    for folder in (tmp_path / "option", cached(tmp_path)):
        path = put(folder, b"tampered")
        with pytest.raises(DataError) as caught:
            locate(small_file(), tmp_path / "option")
        message = str(caught.value)
        assert str(path) in message
        assert CONTENT_SHA256 in message
        assert hashlib.sha256(b"tampered").hexdigest() in message
        assert "remove it" in message
        assert "\n" not in message
        path.unlink()


def test_a_missing_file_without_a_download_is_explained_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(small_file(), tmp_path / "option")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("small", "folder/small.tsv", "somewhere", "tsv: position, score", "--data", "EQUIPOISE_DATA"):
        assert part in message
    assert str(tmp_path / "option") in message
    assert str(cached(tmp_path)) in message


def test_a_download_is_checked_kept_and_not_repeated(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, files = served
    files["/small"] = CONTENT
    entry = small_file(Download((OriginFile(f"{address}/small", CONTENT_SHA256),), copy))
    path = locate(entry)
    assert path == cached(tmp_path) / "folder" / "small.tsv"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    files.clear()
    assert locate(entry) == path


def refused(entry: DataFile, cache: Path) -> str:
    """The one-line message of a download that fails, which must leave no file behind."""
    with pytest.raises(DataError) as caught:
        locate(entry)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", ["/truncated", "/short"])
def test_a_truncated_download_is_refused_and_leaves_nothing(
    path: str, tmp_path: Path, served: tuple[str, Served]
) -> None:
    address, files = served
    files[path] = CONTENT[:5]
    message = refused(small_file(Download((OriginFile(address + path, CONTENT_SHA256),), copy)), cached(tmp_path))
    assert f"{address}{path}" in message


def test_a_changed_origin_is_refused_with_both_hashes(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, files = served
    files["/small"] = b"changed"
    entry = small_file(Download((OriginFile(f"{address}/small", CONTENT_SHA256),), copy))
    message = refused(entry, cached(tmp_path))
    assert CONTENT_SHA256 in message
    assert hashlib.sha256(b"changed").hexdigest() in message


def test_a_conversion_with_another_result_is_refused(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, files = served
    files["/small"] = CONTENT
    download = Download((OriginFile(f"{address}/small", CONTENT_SHA256),), copy)
    assert "0" * 64 in refused(small_file(download, sha256="0" * 64), cached(tmp_path))


def test_an_unreachable_origin_is_explained_in_one_line(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, _ = served
    absent = small_file(Download((OriginFile(f"{address}/absent", CONTENT_SHA256),), copy))
    assert "404" in refused(absent, cached(tmp_path))
    closed = small_file(Download((OriginFile("http://127.0.0.1:9/small", CONTENT_SHA256),), copy))
    message = refused(closed, cached(tmp_path))
    assert "http://127.0.0.1:9/small" in message
    assert "--data" in message


def test_an_unwritable_cache_is_explained_in_one_line(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, files = served
    files["/small"] = CONTENT
    (tmp_path / "cache").write_text("a file where a folder should be")
    entry = small_file(Download((OriginFile(f"{address}/small", CONTENT_SHA256),), copy))
    with pytest.raises(DataError, match="small"):
        locate(entry)


def test_a_pickle_from_the_origin_is_refused_and_never_run(tmp_path: Path, served: tuple[str, Served]) -> None:
    address, files = served
    trace = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(trace), "w"))

    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([Trap()], dtype=object), allow_pickle=True)
    for content in (objects.read_bytes(), pickle.dumps(Trap())):
        files["/x"] = content
        origin = OriginFile(f"{address}/x", hashlib.sha256(content).hexdigest())
        tfbind8 = DATA_FILES["tfbind8"]
        assert tfbind8.download is not None
        message = refused(small_file(Download((origin, origin), tfbind8.download.convert)), cached(tmp_path))
        assert "cannot be converted" in message
        assert not trace.exists()


def write_words(folder: Path, x: np.ndarray, y: np.ndarray) -> tuple[Path, Path, Path]:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder / "x.npy", folder / "y.npy", folder / "scores.npy"


def words(count: int) -> np.ndarray:
    """The first words of two letters out of three, in the order of their numbers."""
    return np.stack([np.arange(count) // 3, np.arange(count) % 3], axis=1).astype(np.int32)


def test_words_are_numbered_with_the_first_letter_most_significant(tmp_path: Path) -> None:
    x, y = words(9), np.arange(9, dtype=np.float32) / 8
    shuffled = np.concatenate([np.random.default_rng(0).permutation(9), [4, 4]])
    paths = write_words(tmp_path, x[shuffled], y[shuffled, None])
    scores_of_all_words(*paths, alphabet=3, length=2)
    np.testing.assert_array_equal(np.load(paths[2], allow_pickle=False), y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (words(8), np.zeros(8, np.float32), "1 of 9 words have no score"),
        (words(9)[[*range(9), 0]], np.arange(10, dtype=np.float32), "another row"),
        (words(9) + 1, np.zeros(9, np.float32), "letters from 0 to 2"),
        (words(9)[:, :1], np.zeros(9, np.float32), "shape"),
        (words(9).astype(np.float32), np.zeros(9, np.float32), "float32"),
    ],
)
def test_words_that_are_not_as_described_are_refused(
    x: np.ndarray, y: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        scores_of_all_words(*write_words(tmp_path, x, y), alphabet=3, length=2)


def test_tfbind8_made_from_its_origin_has_the_bytes_of_the_plain_file(
    tmp_path: Path, data_folder: Path, served: tuple[str, Served]
) -> None:
    entry = DATA_FILES["tfbind8"]
    scores = np.load(find("tfbind8", data_folder), allow_pickle=False)
    rows = np.concatenate([np.random.default_rng(1).permutation(4**8), np.arange(256)])
    letters = (rows[:, None] // 4 ** np.arange(7, -1, -1)) % 4
    write_words(tmp_path, letters.astype(np.int32), scores[rows, None])
    address, files = served
    files.update({f"/{name}": (tmp_path / f"{name}.npy").read_bytes() for name in ("x", "y")})
    origins = tuple(
        OriginFile(f"{address}/{name}", hashlib.sha256(files[f"/{name}"]).hexdigest()) for name in ("x", "y")
    )
    assert entry.download is not None
    download = Download(origins, entry.download.convert)
    path = locate(DataFile("again", entry.path, entry.sha256, "", "", "", download))
    assert path.is_relative_to(cached(tmp_path))
    assert path.read_bytes() == (data_folder / entry.path).read_bytes()


def test_every_entry_of_the_table_is_well_formed() -> None:
    paths = [entry.path for entry in DATA_FILES.values()]
    assert len(set(paths)) == len(paths)
    for name, entry in DATA_FILES.items():
        origins = () if entry.download is None else entry.download.files
        assert name == entry.name
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in (entry.sha256, *(o.sha256 for o in origins)))
        assert all(origin.url.startswith("https://") for origin in origins)
        assert entry.contents
        assert entry.origin
        assert entry.licence
        assert "\n" not in entry.contents + entry.origin
        assert not Path(entry.path).is_absolute()


@pytest.mark.parametrize("name", DATA_FILES)
def test_every_data_set_of_a_full_folder_is_found(name: str, data_folder: Path) -> None:
    if not (data_folder / DATA_FILES[name].path).is_file():
        pytest.skip(f"EQUIPOISE_DATA holds no {DATA_FILES[name].path}")
    assert find(name, data_folder) == data_folder / DATA_FILES[name].path


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'tfbind8'"):
        find("tfbind_8")
    with pytest.raises(DataError, match="known are tfbind8"):
        find("zzz")
