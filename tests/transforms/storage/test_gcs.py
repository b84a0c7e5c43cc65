"""Google Cloud Storage: listing, reading and writing, on a server that honours preconditions."""

import glob
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest

from tests.faulty_proxy import (
    BUSY,
    CORRUPT,
    DROP,
    DROP_ANSWER,
    LATE,
    SLOW_DOWN,
    TRUNCATE,
    FaultyProxy,
    always,
    once,
)
from tests.gcs_server import GcsServer
from transforms import storage
from transforms.storage import AccessError, MissingError, Part, StorageError, metering
from transforms.storage.files import ABSENT
from transforms.storage.gcs_client import DEFAULT_PATIENCE, Patience
from transforms.storage.locks import read_generation

BUCKET = "my-bucket"
ROOT = f"gs://{BUCKET}"
LARGE = 9 << 20
"""Bytes of an object that the client does not send in one request."""

PASSING = (BUSY, SLOW_DOWN, DROP, DROP_ANSWER, TRUNCATE)


@pytest.fixture
def server(cloud_storage_at):
    """A server with small pages and an empty bucket, which this process talks to."""
    with GcsServer(page_size=3) as server, cloud_storage_at(server.url):
        server.buckets[BUCKET] = {}
        yield server


@pytest.fixture
def disturbed(server, cloud_storage_at):
    """A context in which a proxy stands before the server."""

    @contextmanager
    def disturbed(choose, late=0.3, patience=DEFAULT_PATIENCE):
        with (
            FaultyProxy(server.url, choose, late=late) as proxy,
            cloud_storage_at(proxy.url, patience),
        ):
            yield proxy

    return disturbed


def put(server: GcsServer, *names: str) -> None:
    for name in names:
        server.put(BUCKET, name, name.encode())


def walked(folder: str, excluded: str = "") -> list[str]:
    """The names of the files of a folder, part by part."""
    return [
        file.path.removeprefix(ROOT + "/")
        for part in storage.parts(folder)
        for file in storage.walk(part, excluded)
    ]


class TestListing:
    def test_gives_size_and_generation_of_every_file_page_by_page(self, server):
        put(server, *(f"photos/{number}.jpg" for number in range(8)))
        found = list(storage.walk(Part(f"{ROOT}/photos")))
        assert [file.path for file in found] == [f"{ROOT}/photos/{n}.jpg" for n in range(8)]
        assert {file.size for file in found} == {len("photos/0.jpg")}
        assert [file.generation for file in found] == [
            server.generation(BUCKET, f"photos/{n}.jpg") for n in range(8)
        ]
        assert server.requests == {"list": 3}

    @pytest.mark.parametrize(
        "names",
        [
            ["a.jpg", "b.jpg", "lund/1.jpg", "lund/deep/er/2.jpg", "malmo/3.jpg", "ystad/4.jpg"],
            ["only/folder/in/folder/1.jpg", "only/folder/in/folder/x/2.jpg", "only/3.jpg"],
            [*(f"{number}/1.jpg" for number in range(8)), *(f"{n}.jpg" for n in range(5))],
            ["a//1.jpg", "a/2.jpg", "a//b/3.jpg"],
            ["//1.jpg", "/2.jpg", "3.jpg"],
            ["1.jpg"],
        ],
        ids=["some folders", "one in one", "many pages", "empty part", "empty root", "no folder"],
    )
    def test_the_parts_of_a_folder_hold_each_file_once(self, server, names):
        put(server, *names)
        assert sorted(walked(ROOT)) == sorted(names)

    def test_a_folder_with_several_others_is_listed_in_parts(self, server):
        put(server, "in/1.jpg", "in/lund/2.jpg", "in/malmo/3.jpg", "in/malmo/x/4.jpg")
        assert list(storage.parts(f"{ROOT}/in")) == [
            Part(f"{ROOT}/in", deep=False),
            Part(f"{ROOT}/in/lund"),
            Part(f"{ROOT}/in/malmo"),
        ]

    def test_a_folder_that_is_left_out_is_left_out_and_no_other(self, server):
        put(server, "1.jpg", "out/2.jpg", "out/masks/3.png", "outside/4.jpg", "lund/out/5.jpg")
        assert sorted(walked(ROOT, f"{ROOT}/out")) == ["1.jpg", "lund/out/5.jpg", "outside/4.jpg"]
        assert not server.asked["list", "out/"]
        assert walked(f"{ROOT}/lund", f"{ROOT}/lund/out") == []

    def test_what_shows_an_empty_folder_in_a_console_is_no_file(self, server):
        put(server, "in/", "in/1.jpg", "in/empty/")
        assert walked(f"{ROOT}/in") == ["in/1.jpg"]

    def test_a_folder_is_what_has_something_below_it_and_a_bucket(self, server):
        assert storage.is_folder(ROOT)
        put(server, "photos/lund/1.jpg")
        assert storage.is_folder(f"{ROOT}/photos/lund")
        assert not storage.is_folder(f"{ROOT}/photos/lun")
        assert not storage.is_folder(f"{ROOT}/photos/lund/1.jpg")

    def test_a_folder_alone_is_listed_without_those_below_it(self, server):
        put(server, "runs/b.json", "runs/a.json", "runs/.hidden.json", "runs/old/c.json", "runs/x")
        found = storage.list_folder(f"{ROOT}/runs", ".json")
        assert [os.path.basename(file.path) for file in found] == ["a.json", "b.json"]
        assert storage.list_folder(f"{ROOT}/nowhere") == []

    @pytest.mark.parametrize(
        "pattern",
        ["*.jpg", "**/*.jpg", "*/?.jpg", "b[12]/*", "a/**/c/*.jpg", "**/1.*", "b*/[!1].jpg", "**"],
    )
    def test_a_glob_finds_what_it_finds_on_a_local_disk(self, server, tmp_path, pattern):
        names = [
            "1.jpg",
            "a/c/1.jpg",
            "a/b/c/2.jpg",
            "b1/1.jpg",
            "b2/22.jpg",
            "b3/3.jpg",
            "a/1.png",
        ]
        put(server, *names)
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        local = glob.glob(f"{tmp_path}/{pattern}", recursive=True)
        expected = [os.path.relpath(path, tmp_path) for path in local if os.path.isfile(path)]
        found = [file.path for file in storage.matching(f"{ROOT}/{pattern}")]
        assert found == sorted(f"{ROOT}/{name}" for name in expected)
        assert found

    def test_a_glob_asks_only_for_what_begins_as_it_does(self, server):
        put(server, "photos/lund/1.jpg")
        assert len(list(storage.matching(f"{ROOT}/photos/lu*/*.jpg"))) == 1
        assert server.asked == {("list", "photos/lu"): 1}


class TestReading:
    def test_takes_one_request_for_the_whole_or_a_range(self, server):
        server.put(BUCKET, "a", bytes(range(100)))
        assert storage.read(f"{ROOT}/a") == bytes(range(100))
        assert storage.read(f"{ROOT}/a", 10, 5) == bytes(range(10, 15))
        assert storage.read(f"{ROOT}/a", 95, 5) == bytes(range(95, 100))
        assert server.requests == {"read": 3}
        assert storage.read(f"{ROOT}/a", 100, 0) == b""

    @pytest.mark.parametrize(("offset", "length", "left"), [(95, 6, 5), (100, 1, 0), (5000, 3, 0)])
    def test_past_the_end_says_what_is_missing(self, server, offset, length, left):
        server.put(BUCKET, "a", bytes(100))
        message = f"{length} bytes expected at byte {offset}, the file ends after {left}"
        with pytest.raises(StorageError, match=message):
            storage.read(f"{ROOT}/a", offset, length)

    def test_an_empty_object_is_empty(self, server):
        server.put(BUCKET, "a", b"")
        assert storage.find(f"{ROOT}/a").size == 0
        assert storage.read(f"{ROOT}/a") == b""

    def test_is_of_the_generation_that_was_listed_or_fails(self, server):
        put(server, "a.jpg")
        version = storage.find(f"{ROOT}/a.jpg").version
        assert storage.read(f"{ROOT}/a.jpg", version=version) == b"a.jpg"
        put(server, "a.jpg")
        with pytest.raises(StorageError, match=f"changed since it was listed: version {version}"):
            storage.read(f"{ROOT}/a.jpg", version=version)
        with pytest.raises(StorageError, match="changed since it was listed"):
            storage.read(f"{ROOT}/a.jpg", 1, 2, version)

    def test_bytes_and_generation_belong_together_whatever_happens_between(self, server):
        put(server, "lock")

        def meanwhile(method: str, name: str) -> None:
            if server.requests == {"look": 1, "read": 1}:  # Looked at, and about to be read.
                server.put(BUCKET, "lock", b"beat")

        server.before = meanwhile
        store = storage.store_of(ROOT)
        found = read_generation(store, f"{ROOT}/lock")
        assert found == (b"beat", server.generation(BUCKET, "lock"))
        assert read_generation(store, f"{ROOT}/gone") == (b"", ABSENT)

    def test_what_is_not_there_is_named_so_though_its_bucket_is_called_bucket(self, server):
        with pytest.raises(MissingError, match="cannot be read: no such object"):
            storage.read(f"{ROOT}/gone.jpg")
        assert server.requests.total() == 1
        with pytest.raises(MissingError, match="cannot be read: no such object"):
            storage.open_file(f"{ROOT}/gone.jpg")

    def test_what_was_not_there_when_it_was_listed_is_not_read_later(self, server):
        found = storage.find(f"{ROOT}/late.jpg")
        assert found.size == -1
        with pytest.raises(MissingError, match="no such object"):
            storage.read(found.path, version=found.version)
        put(server, "late.jpg")
        with pytest.raises(StorageError, match="changed since it was listed"):
            storage.read(found.path, version=found.version)

    def test_an_open_file_does_not_read_what_is_skipped(self, server):
        data = os.urandom(1 << 20) * 6
        server.put(BUCKET, "a.tar", data)
        with storage.open_file(f"{ROOT}/a.tar") as file:
            assert file.read(10) == data[:10]
            assert file.seek(-10, os.SEEK_END) == len(data) - 10
            assert file.read(20) == data[-10:]
            assert file.read(1) == b""
        assert server.asked == {("look", "a.tar"): 1, ("read", "a.tar"): 2}
        assert metering.take()[metering.BYTES_READ] < 3 << 20

    def test_an_open_file_is_of_one_generation(self, server):
        server.put(BUCKET, "a.tar", bytes(LARGE))
        with storage.open_file(f"{ROOT}/a.tar") as file:
            file.read(10)
            server.put(BUCKET, "a.tar", bytes(LARGE))
            file.seek(-10, os.SEEK_END)
            with pytest.raises(StorageError, match="changed since it was listed"):
                file.read(10)


class TestWriting:
    def test_a_new_object_takes_one_request(self, server):
        storage.write(f"{ROOT}/out", "masks/1.png", b"mask")
        assert server.requests == {"write": 1}
        assert server.files(BUCKET) == {"out/masks/1.png": b"mask"}
        assert server.buckets[BUCKET]["out/masks/1.png"].content_type == "image/png"

    def test_the_same_bytes_again_are_the_same_object(self, server):
        for _ in range(2):
            storage.write(ROOT, "1.png", b"mask")
            generation = server.generation(BUCKET, "1.png")
        storage.write(ROOT, "1.png", b"mask")
        assert server.generation(BUCKET, "1.png") == generation

    def test_another_object_is_replaced(self, server):
        put(server, "1.png")
        generation = server.generation(BUCKET, "1.png")
        storage.write(ROOT, "1.png", b"mask")
        assert server.files(BUCKET) == {"1.png": b"mask"}
        assert server.generation(BUCKET, "1.png") > generation
        assert server.requests == {"write": 2, "look": 1}

    @pytest.mark.parametrize("there", [True, False], ids=["replacing", "new"])
    def test_what_somebody_else_writes_meanwhile_is_never_overwritten(self, server, there):
        if there:
            put(server, "1.png")

        def meanwhile(method: str, name: str) -> None:
            if method == "UPLOAD":
                server.put(BUCKET, "1.png", f"theirs {len(server.asked)}".encode())

        server.before = meanwhile
        with pytest.raises(StorageError) as caught:
            storage.write(ROOT, "1.png", b"mine")
        expected = f"{ROOT}/1.png: somebody else has written it meanwhile; theirs stays"
        assert str(caught.value) == expected
        assert server.files(BUCKET)["1.png"].startswith(b"theirs")

    @pytest.mark.parametrize("size", [4, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("there", [True, False], ids=["replacing", "new"])
    @pytest.mark.parametrize("action", PASSING)
    def test_an_answer_that_is_lost_is_no_error_and_writes_nothing_twice(
        self, server, disturbed, action, there, size
    ):
        if there:
            put(server, "1.png")
        generations = []
        server.before = lambda method, name: generations.append(server.generation(BUCKET, "1.png"))
        # The first POST to an object that is there is refused; a large one follows as a PUT.
        choose = once(action, "PUT") if size == LARGE else once(action, "POST", after=int(there))
        with disturbed(choose) as proxy:
            storage.write(ROOT, "1.png", b"m" * size)
        assert server.files(BUCKET) == {"1.png": b"m" * size}
        assert proxy.done[action] == 1
        generations.append(server.generation(BUCKET, "1.png"))
        assert len(set(generations)) == 2

    @pytest.mark.parametrize("size", [4, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("there", [True, False], ids=["replacing", "new"])
    def test_what_is_written_bit_by_bit_is_there_once_it_is_whole(self, server, there, size):
        if there:
            put(server, "1.json")
        with storage.writing(ROOT, "1.json") as file:
            for _ in range(2):
                file.write(b"m" * (size // 2))
            assert server.files(BUCKET) == ({"1.json": b"1.json"} if there else {})
        assert server.files(BUCKET) == {"1.json": b"m" * size}

    def test_writing_that_fails_halfway_writes_nothing(self, server):
        with pytest.raises(ZeroDivisionError), storage.writing(ROOT, "1.json") as file:
            file.write(b"m" * LARGE + bytes(1 // 0))
        assert server.files(BUCKET) == {}

    def test_a_move_leaves_the_object_at_its_new_place_alone(self, server):
        put(server, "statistics/1.parquet")
        storage.move(ROOT, "statistics/1.parquet", "aside/1.parquet")
        assert server.files(BUCKET) == {"aside/1.parquet": b"statistics/1.parquet"}

    def test_removing_takes_an_object_or_all_below_a_folder(self, server):
        put(server, "1", "a/1", "a/b/2", "a/b/3", "ab", *(f"a/{n}.png" for n in range(5)))
        storage.remove(ROOT, "1")
        storage.remove(ROOT, "a")
        storage.remove(ROOT, "gone")
        assert set(server.files(BUCKET)) == {"ab"}

    def test_nothing_is_ever_unfinished(self, server):
        put(server, f"out/{storage.UNFINISHED}/1")
        assert storage.remove_unfinished(f"{ROOT}/out") == 0


OPERATIONS = {
    "read": lambda: storage.read(f"{ROOT}/in/a.jpg"),
    "range": lambda: storage.read(f"{ROOT}/in/a.jpg", 2, 3),
    "look": lambda: storage.find(f"{ROOT}/in/a.jpg").size,
    "list": lambda: walked(f"{ROOT}/in"),
    "write": lambda: storage.write(ROOT, "b.png", b"mask"),
    "remove": lambda: storage.remove(ROOT, "gone.jpg"),
}


class TestTrying:
    @pytest.mark.parametrize("action", PASSING)
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_again_helps_against_what_passes(self, server, disturbed, operation, action):
        put(server, "in/a.jpg")
        expected = OPERATIONS[operation]()
        method = {"write": "POST", "remove": "DELETE"}.get(operation, "GET")
        with disturbed(once(action, method)) as proxy:
            assert OPERATIONS[operation]() == expected
        assert proxy.done[action] == 1

    def test_again_helps_against_an_answer_that_does_not_come(self, server, disturbed):
        put(server, "in/a.jpg")
        patience = Patience(timeouts=(10.0, 0.2))
        with disturbed(once(LATE, "GET"), late=2.0, patience=patience) as proxy:
            assert OPERATIONS["read"]() == b"in/a.jpg"
        assert proxy.done[LATE] == 1

    @pytest.mark.parametrize(
        ("operation", "action", "reason"),
        [
            ("read", BUSY, "503 busy"),
            ("look", SLOW_DOWN, "429 busy"),
            ("write", BUSY, "503 busy"),
            ("range", DROP, "Connection aborted"),
            ("list", LATE, "timed out"),
        ],
    )
    def test_is_given_up_in_the_end_with_one_line(
        self, server, disturbed, operation, action, reason
    ):
        patience = Patience(retry_seconds=1.0, timeouts=(10.0, 0.1))
        with (
            disturbed(always(action), late=0.5, patience=patience) as proxy,
            pytest.raises(StorageError) as caught,
        ):
            OPERATIONS[operation]()
        message = str(caught.value)
        assert "no success in 1 s of tries (" in message and reason in message
        assert "\n" not in message
        assert proxy.done[action] < 30

    def test_is_no_use_where_there_is_no_permission(self, server):
        server.forbidden.add(BUCKET)
        for operation in OPERATIONS.values():
            server.requests.clear()
            with pytest.raises(AccessError) as caught:
                operation()
            assert server.requests.total() == 1
            assert "no permission (403 no access to the bucket my-bucket); " in str(caught.value)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("operation", ["list", "write"])
    def test_is_no_use_where_there_is_no_bucket(self, server, operation):
        server.buckets.clear()
        with pytest.raises(AccessError, match=r"gs://my-bucket.*: no such bucket"):
            OPERATIONS[operation]()
        assert server.requests.total() == 1

    def test_again_is_not_needed_to_see_that_bytes_are_wrong(self, server, disturbed):
        put(server, "in/a.jpg")
        with (
            disturbed(always(CORRUPT, "alt=media")),
            pytest.raises(StorageError, match="cannot be read: Checksum mismatch"),
        ):
            OPERATIONS["read"]()


@pytest.mark.parametrize("path", ["gs://", "gs:///a.jpg"])
def test_a_path_without_a_bucket_is_refused(server, path):
    with pytest.raises(AccessError, match="names no bucket; expected gs://BUCKET/NAME"):
        storage.is_folder(storage.absolute(path))


def test_all_threads_of_a_process_share_one_client(server):
    threads = 8
    together = Barrier(threads)
    store = storage.store_of(ROOT)

    def client(_: int) -> int:
        together.wait()
        return id(store.client())

    with ThreadPoolExecutor(threads) as pool:
        assert len(set(pool.map(client, range(threads)))) == 1


def test_a_forked_process_has_a_client_of_its_own(server):
    store = storage.store_of(ROOT)
    ours = store.client()
    child = os.fork()
    if not child:
        os._exit(store.client() is ours)
    assert os.waitpid(child, 0)[1] == 0
    assert store.client() is ours


def test_every_try_is_counted_by_its_kind_and_every_byte_once(server, disturbed):
    put(server, "in/a.jpg", "in/b.jpg")
    with disturbed(once(BUSY, "GET", "alt=media")):
        for operation in OPERATIONS.values():
            operation()
        counts = metering.take()
    assert counts.pop(metering.BYTES_READ) == len("in/a.jpg") + 3
    assert counts.pop(metering.BYTES_WRITTEN) == len("mask")
    assert counts == {"read": 3, "look": 1, "list": 3, "write": 1, "remove": 1}
    assert server.requests == {**counts, "read": 2}
    assert metering.take() == {}
