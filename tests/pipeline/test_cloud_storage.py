"""`citymask run` and `citymask nightly` on gs://: the same results as on a local disk, whatever the
network does, and as few requests as can be.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result
from PIL import Image

from models.packages import load_package
from pipeline.cli import main
from pipeline.runs.request import locked
from pipeline.runs.signals import StopOnSignal
from tests.faulty_proxy import DISTURBANCES, PASS, FaultyProxy, sometimes
from tests.gcs_server import GcsServer, RefusedError
from tests.made_models import make_model
from tests.memory_store import registered
from tests.same_results import assert_same_masks_and_rows, assert_same_results
from tests.shard_files import write_photo_records, write_tar
from tests.storage_emulator import storage_emulator
from tests.waiting import until
from transforms import storage
from transforms.flow.records import Failure, ImageRef, PlannedImage, UnitResult
from transforms.output import locking, rows, stopping
from transforms.segmenting import step
from transforms.segmenting.step import MOST_UNITS
from transforms.storage import gcs_client, metering
from transforms.storage.gcs import GcsStore

CONSOLE_SCRIPT = Path(sys.executable).with_name("citymask")
BUCKET = "city-bucket"
ROOT = f"gs://{BUCKET}"
LOCK = f"out/{locking.LOCK}"
OTHER = locking.Owner("other", "elsewhere", 7, "2026-11-22T21:30:00+00:00", "2026-11-22T21:31:00")
PHOTOS = 6
IMPATIENT = gcs_client.Patience(retry_seconds=1.0)
PATIENCE = 60.0
"""Seconds after which what does not come will not come."""


def nothing(method: str, name: str) -> None:
    """What happens before a request where nothing does."""


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """An encoded photo of blots that are others for each seed."""
    blots = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).save(data, "JPEG")
    return data.getvalue()


def write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def upload(server: GcsServer, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            server.put(BUCKET, str(path.relative_to(folder)), path.read_bytes())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_model(folder, architecture="unet", width=0.05).path


@pytest.fixture(scope="module")
def fetched(output_at, tmp_path_factory):
    """A function that fetches an output folder to a local disk."""

    def fetch(server: GcsServer, name: str = "out"):
        folder = tmp_path_factory.mktemp("fetched")
        for path, data in server.files(BUCKET, f"{name}/").items():
            write(folder / path.removeprefix(f"{name}/"), data)
        return output_at(folder)

    return fetch


class TestEveryInput:
    """A run over every kind of INPUT, from a local disk and from gs://."""

    @pytest.fixture(scope="class")
    def archive(self, tmp_path_factory) -> Path:
        root = tmp_path_factory.mktemp("archive") / BUCKET
        for seed, name in enumerate(
            ["top.jpg", "lund/1.jpg", "lund/deep/2.jpg", "malmo/3.JPG", "malmo/[4]*?.jpg"]
        ):
            write(root / "folder" / name, photo(seed, (96 + 8 * seed, 64)))
        write(root / "folder/lund/broken.jpg", b"no photo")
        write(root / "folder/lund/Thumbs.db", b"thumbs")
        for seed, name in enumerate(["2026-10/a.jpg", "2026-11/b.jpg", "2026-11/c.png", "d.jpg"]):
            write(root / "globbed" / name, photo(10 + seed))
        write(root / "single.jpg", photo(20))
        members = [
            ("x/1.jpg", photo(30)),
            ("x/1.json", b'{"latitude": 55.7, "quality": 3}'),
            ("x/2.jpg", photo(31)),
        ]
        write_tar(root / "shards/a.tar", members)
        records = {f"{seed}.jpg": photo(seed) for seed in (40, 41)}
        write_photo_records(root / "shards/b.tfrecord", records)
        for seed in range(50, 54):
            write(root / f"lists/listed/{seed}.jpg", photo(seed))
        write(
            root / "lists/a.csv", "uri,latitude,owner\nlisted/50.jpg,55.5,me\nlisted/gone.jpg,,\n"
        )
        pd.DataFrame({"uri": ["listed/51.jpg"], "heading": [90.0]}).to_parquet(
            root / "lists/b.parquet"
        )
        write(root / "lists/c.txt", "listed/52.jpg\n")
        return root

    @pytest.fixture(scope="class")
    def run(self, archive, tmp_path_factory, citymask, model):
        """A function that runs over all of them below a root."""

        def run(root: str, output: str) -> None:
            names = (
                "folder",
                "globbed/**/*.jpg",
                "single.jpg",
                "shards/a.tar",
                "shards/b.tfrecord",
            )
            inputs = [f"{root}/{name}" for name in names]
            inputs += [f"{root}/lists/{name}" for name in ("a.csv", "b.parquet", "c.txt")]
            # Beside a local root, so that the name of its image begins with the root's, as in gs://.
            manifest = archive.parent / "far.csv"
            manifest.write_text(f"uri,group\n{root}/lists/listed/53.jpg,far\n")
            result = citymask("run", *inputs, manifest, "-o", output, "--model", model)
            assert result.exit_code == 0, result.output

        return run

    @pytest.fixture(scope="class")
    def local(self, archive, run, output_at):
        run(str(archive), str(archive.parent / "out"))
        return output_at(archive.parent / "out")

    @pytest.fixture(scope="class")
    def cloud(self, archive, run, fetched, cloud_storage_at):
        with GcsServer(page_size=3) as server, cloud_storage_at(server.url):
            upload(server, archive)
            run(ROOT, f"{ROOT}/out")
            return fetched(server)

    def test_gives_the_results_of_a_local_run(self, cloud, local):
        assert len(cloud.masks) == 17
        assert_same_results(cloud, local)


@dataclass
class Town:
    """A server with plain photos in one folder, and what a run over them is.

    Attributes:
        server: the server.
        citymask: runs a command line.
        model: the model of the runs.
    """

    server: GcsServer
    citymask: Callable[..., Result]
    model: Path

    def run(self, *options: object, inputs: str = f"{ROOT}/photos", code: int = 0) -> Result:
        """A run that ends with an exit code; the server has counted its requests alone."""
        self.server.requests.clear()
        self.server.asked.clear()
        metering.take()
        arguments = (inputs, "-o", f"{ROOT}/out", "--model", self.model, *options)
        result = self.citymask("run", *arguments)
        assert result.exit_code == code, result.output
        return result

    @property
    def record(self) -> dict[str, Any]:
        """The newest run record."""
        records = map(json.loads, self.server.files(BUCKET, "out/runs/").values())
        return max(records, key=itemgetter("started_at"))

    def asked(self, kind: str, prefix: str) -> dict[str, int]:
        """How often the run asked for what has a prefix."""
        return {
            name.removeprefix(prefix): count
            for (of_kind, name), count in self.server.asked.items()
            if of_kind == kind and name.startswith(prefix)
        }


@dataclass(frozen=True)
class FirstRun:
    """What a first run came to.

    Attributes:
        town: the town afterwards; it is for looking at only.
        output: what was written.
        requests: what the server had counted when the record was about to be written.
    """

    town: Town
    output: Any
    requests: Counter[str]


@pytest.fixture(scope="module")
def first(citymask, model, cloud_storage_at, fetched):
    with (
        pytest.MonkeyPatch.context() as patch,
        GcsServer() as server,
        cloud_storage_at(server.url),
    ):
        patch.setattr(locking, "PULSE", locking.Pulse(PATIENCE))
        for number in range(PHOTOS):
            server.put(BUCKET, f"photos/{number}.jpg", photo(number))
        counted: Counter[str] = Counter()

        def before(method: str, name: str) -> None:
            if method == "UPLOAD" and name.startswith("out/runs/"):
                # Without the writing of the record, and the look at the lock just before.
                counted.update(server.requests, write=-1, read=-1)

        server.before = before
        town = Town(server, citymask, model)
        town.run()
        yield FirstRun(town, fetched(server), counted)


@pytest.fixture
def again(first, cloud_storage_at):
    """The town after the first run, to change."""
    buckets = {name: dict(objects) for name, objects in first.town.server.buckets.items()}
    with GcsServer(buckets=buckets) as server, cloud_storage_at(server.url):
        yield replace(first.town, server=server)


@pytest.fixture
def anew(again):
    """The town before any run, to change."""
    for name in again.server.files(BUCKET, "out/"):
        del again.server.buckets[BUCKET][name]
    return again


class TestRequests:
    """What a run asks for: a read for a photo, a write for a mask, and little besides."""

    def test_a_photo_is_read_once_and_nothing_else_is_asked_of_it(self, first):
        assert first.town.asked("read", "photos/") == {f"{n}.jpg": 1 for n in range(PHOTOS)}
        assert first.town.asked("look", "photos/") == {}

    def test_a_mask_is_written_once(self, first):
        written = {f"{n}.jpg.png": 1 for n in range(PHOTOS)}
        assert first.town.asked("write", "out/masks/") == written
        assert first.town.asked("look", "out/masks/") == {}

    def test_what_a_run_asks_for_besides_does_not_grow_with_the_photos(self, first):
        requests = first.town.server.requests
        assert requests["list"] == 11
        assert requests["look"] <= 2
        # The lock is looked at before units, masks, rows, removed.csv, summary and record.
        assert requests["read"] <= PHOTOS + 16
        # The lock, twice; model card, what is begun, rows, removed.csv, summary.json, summary.csv
        # and the record of the run.
        assert requests["write"] == PHOTOS + 9
        assert requests["remove"] == 1

    def test_the_record_counts_what_the_server_counted(self, first):
        counts = dict(first.town.record["requests"])
        photos = first.town.server.files(BUCKET, "photos/").values()
        masks = first.town.server.files(BUCKET, "out/masks/").values()
        assert counts.pop("bytes_read") >= sum(map(len, photos))
        assert counts.pop("bytes_written") >= sum(map(len, masks))
        assert counts == first.requests


class TestAnotherRun:
    def test_over_the_same_photos_reads_none_and_says_so(self, again, first, fetched):
        result = again.run()
        assert "nothing new" in result.output
        assert again.asked("read", "photos/") == {}
        assert again.asked("write", "out/masks/") == again.asked("write", "out/statistics/") == {}
        pd.testing.assert_frame_equal(fetched(again.server).rows, first.output.rows)

    def test_does_what_was_replaced_and_names_what_is_gone(self, again, first, fetched):
        again.server.put(BUCKET, "photos/0.jpg", photo(100, (80, 40)))
        del again.server.buckets[BUCKET]["photos/1.jpg"]
        again.run()
        images = again.record["images"]
        assert {name: images[name] for name in ("replaced", "skipped", "removed", "done")} == {
            "replaced": 1, "skipped": PHOTOS - 2, "removed": 1, "done": 1
        }  # fmt: skip
        output = fetched(again.server)
        assert len(output.rows) == PHOTOS
        row, before = output.rows.loc["0.jpg"], first.output.rows.loc["0.jpg"]
        assert (row["width"], row["height"]) == (80, 40)
        assert row["version"] != before["version"]
        assert int(row["version"].partition("-")[0]) == again.server.generation(
            BUCKET, "photos/0.jpg"
        )
        with Image.open(output.path / row["mask"]) as mask:
            assert mask.size == (80, 40)
        (gone,) = pd.read_csv(output.path / "removed.csv").to_dict("records")
        assert (gone["image"], gone["uri"]) == ("1.jpg", f"{ROOT}/photos/1.jpg")

    def test_a_dry_run_says_what_is_to_do_and_writes_nothing(self, again):
        again.server.put(BUCKET, "photos/0.jpg", photo(100))
        assert f"A run would do 1 of {PHOTOS} images" in again.run("--dry-run").output
        assert again.server.requests["write"] == 0

    def test_a_photo_that_changes_between_listing_and_reading_fails(self, anew, fetched):
        def meanwhile(method: str, name: str) -> None:
            if name == "photos/2.jpg":
                anew.server.before = nothing
                anew.server.put(BUCKET, name, photo(100))

        anew.server.before = meanwhile
        anew.run()
        output = fetched(anew.server)
        (row,) = output.failures.to_dict("records")
        assert (row["image"], row["stage"], row["error"]) == ("2.jpg", "read", "ChangedError")
        assert row["message"].startswith("changed since it was listed: version ")
        assert len(output.rows) == PHOTOS - 1


class TestNetwork:
    """A network that loses, delays and refuses."""

    def test_that_disturbs_every_third_request_changes_no_result(
        self, anew, first, fetched, cloud_storage_at
    ):
        server = anew.server
        with (
            FaultyProxy(server.url, sometimes(0.3, seed=34), late=0.1) as proxy,
            cloud_storage_at(proxy.url),
        ):
            anew.run("--unit-size", 2)
        assert set(proxy.done) == {PASS, *DISTURBANCES}
        output = fetched(server)
        columns = ["run_id"]
        pd.testing.assert_frame_equal(
            output.rows.drop(columns=columns), first.output.rows.drop(columns=columns)
        )
        assert_same_results(output, first.output)
        names = {name.removeprefix("out/") for name in server.files(BUCKET, "out/")}
        statistics = {name for name in names if name.startswith("statistics/")}
        assert len(statistics) == PHOTOS / 2
        assert names - statistics == {
            *output.masks, "summary.json", "summary.csv", "removed.csv", locking.LOCK,
            f"runs/{anew.record['run_id']}.json", f"models/{anew.record['model']}.json",
        }  # fmt: skip
        assert sum(anew.server.requests.values()) < sum(proxy.done.values())

    def test_that_refuses_one_file_for_good_costs_one_photo(self, anew, fetched, cloud_storage_at):
        def refuse(method: str, name: str) -> None:
            if name in ("photos/3.jpg", "out/masks/4.jpg.png"):
                raise RefusedError(503, "try later")

        anew.server.before = refuse
        with cloud_storage_at(anew.server.url, IMPATIENT):
            anew.run()
        output = fetched(anew.server)
        said = "no success in 1 s of tries (503 try later)"
        failures = output.failures
        assert list(failures["stage"]) == ["read", "write"]
        assert list(failures["message"]) == [
            f"cannot be read: {said}", f"{ROOT}/out/masks/4.jpg.png: cannot be written: {said}"
        ]  # fmt: skip
        assert sorted(output.rows["image"]) == ["0.jpg", "1.jpg", "2.jpg", "5.jpg"]
        assert output.masks == [f"masks/{name}.png" for name in output.rows["image"]]

    def test_that_refuses_the_runs_own_files_ends_it_with_one_line(
        self, anew, monkeypatch, capsys, logging_kept, cloud_storage_at
    ):
        def refuse(method: str, name: str) -> None:
            if name.startswith("out/statistics/"):
                raise RefusedError(503, "try later")

        anew.server.before = refuse
        line = ["citymask", "run", f"{ROOT}/photos", "-o", f"{ROOT}/out", "--model", anew.model]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        with cloud_storage_at(anew.server.url, IMPATIENT), pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
        assert f"{ROOT}/out/statistics/" in error
        assert error.endswith("cannot be written: no success in 1 s of tries (503 try later)")
        assert locking.holder(f"{ROOT}/out") is None


def test_copies_are_set_aside_before_they_are_segmented(anew, fetched):
    anew.server.put(BUCKET, "photos/0_again.jpg", photo(0))
    for expected in ({"skipped": 0, "gated": 1}, {"skipped": PHOTOS, "gated": 1}):
        anew.run("--skip-duplicates")
        output = fetched(anew.server)
        assert output.summary["images"] == {"done": PHOTOS, "failed": 0} | expected
        assert "0_again.jpg" not in output.rows.index
    (row,) = pd.read_parquet(output.path / "gated").to_dict("records")
    assert (row["image"], row["reason"], row["of"]) == ("0_again.jpg", "duplicate", "0.jpg")


def test_a_photo_of_more_bytes_than_allowed_is_not_asked_for(anew, fetched, tmp_path):
    large = photo(0) + bytes(1 << 20)
    anew.server.put(BUCKET, "photos/large.jpg", large)
    write(tmp_path / "list.csv", f"uri\n{ROOT}/photos/large.jpg\n")
    for inputs, code in ((f"{ROOT}/photos", 0), (str(tmp_path / "list.csv"), 3)):
        anew.run("--max-bytes", 1 << 20, inputs=inputs, code=code)
        assert "large.jpg" not in anew.asked("read", "photos/")
        failed = fetched(anew.server).failures
        assert all(text.startswith(f"{len(large)} bytes are more") for text in failed["message"])


class TestStopping:
    def test_images_beyond_a_number_are_left(self, anew, fetched):
        anew.run("--max-images", 2)
        assert fetched(anew.server).summary["interrupted"] == {
            "reason": "max_images", "left": PHOTOS - 2
        }  # fmt: skip
        assert anew.record["images"]["done"] == 2

    def test_after_some_minutes_no_unit_is_begun(self, anew, fetched):
        findings = "out/findings.parquet"

        def wait(method: str, name: str) -> None:
            if name == findings and anew.server.asked["read", name] == 2:  # In the pipeline.
                until(lambda: f"out/{stopping.STOP}" in anew.server.files(BUCKET))

        anew.server.before = wait
        anew.run("--max-minutes", 1e-5)
        summary = fetched(anew.server).summary
        assert summary["interrupted"] == {"reason": "max_minutes", "left": PHOTOS}
        assert anew.record["interrupted"] == "max_minutes"

    def test_a_signal_lets_what_has_begun_be_finished(self, anew, fetched, monkeypatch):
        monkeypatch.setattr(step, "LOOK_SECONDS", 0.0)

        def interrupt(method: str, name: str) -> None:
            if name.startswith("out/masks/"):
                os.kill(os.getpid(), signal.SIGINT)
                anew.server.before = wait

        def wait(method: str, name: str) -> None:
            if name.startswith("out/statistics/"):
                until(lambda: f"out/{stopping.STOP}" in anew.server.files(BUCKET))

        anew.server.before = interrupt
        result = anew.run("--unit-size", 1, code=130)
        output = fetched(anew.server)
        begun = len(output.rows)
        assert 1 <= begun == len(output.masks) <= MOST_UNITS
        assert output.summary["interrupted"] == {"reason": "SIGINT", "left": PHOTOS - begun}
        assert f"{PHOTOS - begun} images are left for the next run" in result.output

    def test_a_signal_does_not_wait_for_what_it_interrupts(self, anew):
        with StopOnSignal(f"{ROOT}/out") as stop, storage.store_of(ROOT)._making:
            signal.raise_signal(signal.SIGTERM)
            assert stopping.STOP not in str(anew.server.files(BUCKET))
        assert stop.received == signal.SIGTERM
        assert stopping.reason(f"{ROOT}/out") == "SIGTERM"

    def test_a_wish_that_cannot_be_written_is_told(self, anew, caplog):
        anew.server.forbidden.add(BUCKET)
        with StopOnSignal(f"{ROOT}/out"):
            signal.raise_signal(signal.SIGINT)
        assert "the run cannot be asked to stop: gs://" in caplog.text


class TestLock:
    def test_a_second_run_ends_with_4_while_the_first_lives(self, anew, monkeypatch):
        pulse = locking.Pulse(0.1, missing=PATIENCE / 0.1)
        monkeypatch.setattr(locking, "PULSE", pulse)
        with locked(f"{ROOT}/out", "the first"):
            result = anew.run(code=4)
        assert f"Error: {ROOT}/out: run the first (host " in result.output
        assert not anew.server.files(BUCKET, "out/masks/")

    def test_the_lock_of_a_run_that_died_is_taken_over(self, anew, monkeypatch):
        monkeypatch.setattr(locking, "PULSE", locking.Pulse(0.1))
        anew.server.put(BUCKET, LOCK, OTHER.to_json())
        result = anew.run("--max-minutes", 1e-5)
        assert "took the lock over from run other (host elsewhere" in result.output
        assert locking.last_owner(f"{ROOT}/out").released

    def test_a_run_whose_lock_was_taken_over_says_so_and_commits_nothing_more(self, anew):
        def take_over(method: str, name: str) -> None:
            if name.startswith("out/masks/"):
                anew.server.put(BUCKET, LOCK, OTHER.to_json())

        anew.server.before = take_over
        result = anew.run(code=5)
        assert "has lost the lock: run other (host elsewhere" in result.output
        names = anew.server.files(BUCKET, "out/")
        folders = {name.split("/")[1] for name in names}
        assert folders <= {".citymask", "masks", "models", "removed.csv"}
        assert anew.server.files(BUCKET)[LOCK] == OTHER.to_json()


class TestRefusals:
    """What is wrong with names, buckets and credentials is told in one line, with exit code 2."""

    @pytest.mark.parametrize(
        ("inputs", "output", "expected"),
        [
            ("gs://no-bucket/photos", "out", "gs://no-bucket/photos: no such bucket"),
            ("gs://no-bucket/*.jpg", "out", "gs://no-bucket/*.jpg: no such bucket"),
            ("gs://no-bucket/a.csv", "out", "gs://no-bucket/a.csv: no such bucket"),
            ("gs://secret/a", "out", "gs://secret/a: no permission (403 no access to the bucket"),
            ("gs://", "out", "gs://: names no bucket; expected gs://BUCKET/NAME"),
            (f"{ROOT}/nothing", "out", f"{ROOT}/nothing: no such file or directory; INPUT is"),
            (f"{ROOT}/*.txt", "out", f"{ROOT}/*.txt: nothing to segment"),
            (f"{ROOT}/photos", "gs://no-bucket/out", "no such bucket"),
            (f"{ROOT}/photos", "gs://secret/out", "no permission (403 no access to the bucket sec"),
            (f"{ROOT}/photos", "gs://", "gs://: OUT is a local folder or gs://BUCKET/NAME"),
            (f"{ROOT}/photos", "s3://town/out", "s3://town/out: OUT is a local folder or gs://"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
    def test_of_places(self, again, tmp_path, monkeypatch, inputs, output, expected, dry):
        monkeypatch.chdir(tmp_path)
        again.server.buckets["secret"] = {}
        again.server.forbidden.add("secret")
        options = ["--dry-run"] if dry else []
        result = again.citymask("run", inputs, "-o", output, "--model", again.model, *options)
        assert result.exit_code == 2, result.output
        (error,) = result.output.splitlines()
        assert expected in error
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture
    def signed_out(self, monkeypatch, tmp_path):
        """No credentials, and nothing that stands in for Google."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv(gcs_client.EMULATOR, raising=False)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
        with registered("gs", GcsStore()):
            yield

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "was not found"),
            ("no JSON", "is not a valid json file"),
            ("{}", "does not have a valid type"),
        ],
    )
    def test_of_a_key_file_that_is_none(
        self, signed_out, monkeypatch, tmp_path, citymask, content, expected
    ):
        key = tmp_path / "key.json"
        if content is not None:
            key.write_text(content)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        result = citymask("run", f"{ROOT}/photos", "-o", f"{ROOT}/out")
        assert result.exit_code == 2
        (error,) = result.output.splitlines()
        assert "not signed in (" in error and expected in error
        assert "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION" in error

    def test_of_no_credentials_at_all(self, signed_out, monkeypatch):
        start = time.monotonic()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            # Where Google's own machines are asked for credentials: it listens and never answers.
            monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
            ended = subprocess.run(
                [CONSOLE_SCRIPT, "run", f"{ROOT}/photos", "-o", f"{ROOT}/out"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert ended.returncode == 2
        (error,) = [line for line in ended.stderr.splitlines() if "Error" in line]
        assert "Error: Google Cloud Storage: not signed in (" in error
        assert "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION" in error
        assert time.monotonic() - start < gcs_client.DEFAULT_PATIENCE.retry_seconds

    def test_of_compacting(self, again):
        result = again.citymask("compact", f"{ROOT}/out")
        assert result.exit_code == 2
        assert f"Error: {ROOT}/out: only the folders of a local file system" in result.output
        assert len(result.output.splitlines()) == 1


def test_a_server_without_preconditions_gives_the_same_results(
    first, cloud_storage_at, output_at, tmp_path
):
    """The emulator of PyPI ignores preconditions, so it shows the protocol and no safety."""
    with storage_emulator(BUCKET) as url, cloud_storage_at(url):
        for name, data in first.town.server.files(BUCKET, "photos/").items():
            storage.write(ROOT, name, data)
        town = replace(first.town, server=GcsServer())
        town.run()
        assert "nothing new" in town.run().output
        for file in storage.walk(storage.Part(f"{ROOT}/out")):
            write(tmp_path / file.path.removeprefix(f"{ROOT}/out/"), storage.read(file.path))
    output = output_at(tmp_path)
    assert [run["images"]["done"] for run in output.runs] == [PHOTOS, 0]
    summary = output.summary
    assert summary.pop("images") == {"done": PHOTOS, "failed": 0, "skipped": PHOTOS}


def test_verifying_finds_what_is_wrong_and_the_next_run_repairs_it(again, first, fetched):
    verify = partial(again.citymask, "verify", f"{ROOT}/out")
    assert f"{PHOTOS} masks and {PHOTOS} rows are whole" in verify().output
    del again.server.buckets[BUCKET]["out/masks/0.jpg.png"]
    again.server.put(BUCKET, "out/masks/1.jpg.png", b"no PNG")
    again.server.put(BUCKET, "out/masks/of-nothing.png", b"")
    result = verify()
    assert result.exit_code == 3, result.output
    assert f"3 findings in {ROOT}/out/findings.parquet" in result.output
    again.run()
    assert_same_masks_and_rows(fetched(again.server), first.output)
    assert "whole" in verify().output


class TestNightly:
    @pytest.fixture
    def night(self, anew, tmp_path):
        """A function that runs a night over the photos, with further keys of its file."""

        def night(**keys: object) -> Result:
            config = tmp_path / "nightly.yaml"
            places = {"inputs": [f"{ROOT}/photos"], "output": f"{ROOT}/out"}
            config.write_text(yaml.safe_dump({**places, "model": str(anew.model), **keys}))
            result = anew.citymask("nightly", config)
            assert result.exit_code == 0, result.output
            return result

        return night

    def test_compares_a_night_with_those_before_and_forgets_old_ones(self, anew, night):
        anew.server.put(BUCKET, "photos/bad.jpg", b"no photo")
        assert f"{PHOTOS} images done" in night().output
        old = json.loads(json.dumps(anew.record)) | {
            "started_at": "2020-01-01T00:00:00+00:00", "run_id": "20200101T000000Z-000000"
        }  # fmt: skip
        anew.server.put(BUCKET, "out/runs/20200101T000000Z-000000.json", json.dumps(old).encode())
        anew.server.put(BUCKET, "photos/new.jpg", photo(200))
        ref = ImageRef("0.jpg", f"{ROOT}/photos/0.jpg", "", "1-1", ".")
        failures = (Failure(PlannedImage(ref, "masks/0.jpg.png"), "read", "StorageError", "gone"),)
        classes = load_package(anew.model).classes
        rows.commit(f"{ROOT}/out", UnitResult("old", (), failures), classes, "", old["run_id"])
        assert "out/failures/old.parquet" in anew.server.files(BUCKET)
        result = night(retention={"runs": 30, "failures": 30})
        assert "1 images done" in result.output
        comparison = anew.record["comparison"]
        assert comparison["nights"] == 2
        assert comparison["images"]["done"] == {"tonight": 1, "usual": float(PHOTOS)}
        (kind,) = anew.record["worst_failures"]
        assert (kind["stage"], kind["image"]) == ("decode", "bad.jpg")
        kept = anew.server.files(BUCKET, "out/runs/")
        assert len(kept) == 2 and "out/runs/20200101T000000Z-000000.json" not in kept
        assert "out/failures/old.parquet" not in anew.server.files(BUCKET)
