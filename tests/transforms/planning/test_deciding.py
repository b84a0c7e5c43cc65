"""Planning: what is still to do, under which names, in which units."""

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from models.classes import ClassTable
from models.engines import Precision
from transforms import DropDone, GroupIntoUnits, storage
from transforms.flow.records import (
    UNKNOWN_CAPTURE,
    Failure,
    ImageRef,
    PlannedImage,
    Segmented,
    SkippedImages,
    UnitResult,
)
from transforms.output import rows
from transforms.output.begun import BegunImage, LeftOver, Settling
from transforms.output.findings import MASK_MISSING, Finding
from transforms.output.rows import CommittedRow, PastAside, PastFailure
from transforms.planning.deciding import Plan, Superseded, is_gone, plan_images, plan_new
from transforms.planning.naming import shared_name
from transforms.planning.policy import Gate, Policy
from transforms.planning.units import (
    BYTES_PER_BUCKET,
    UNITS_PER_BUCKET,
    TakeImages,
    bucket_of,
    make_units,
)

MODEL = "tiny@0123456789ab"


def ref(image="lund/01.jpg", root="/a", version="10-1", **fields) -> ImageRef:
    path = f"{root}/{image}"
    return ImageRef(image=image, uri=path, path=path, version=version, group="lund", **fields)


def row_of(done: ImageRef, run_id="run1", file="one.parquet") -> CommittedRow:
    mask = plan_new(done).mask
    return CommittedRow(done.image, done.uri, done.version, mask, run_id, file)


def rows_of(todo: Iterable[PlannedImage], run_id="run1") -> list[CommittedRow]:
    return [row_of(planned.ref, run_id) for planned in todo]


def plan(refs, committed=(), failures=(), **options) -> Plan:
    return plan_images(refs, committed, failures, "masks", **options)


def names(images: Iterable[ImageRef | PlannedImage]) -> dict[str, str]:
    """Name by URI."""
    refs = [entry.ref if isinstance(entry, PlannedImage) else entry for entry in images]
    return {ref.uri: ref.image for ref in refs}


def left(image: ImageRef, replaces="", was_alone=False) -> LeftOver:
    begun = BegunImage(image.image, image.uri, image.version, replaces)
    return LeftOver("unit", begun, was_alone)


class TestImagesThatWereInProgressWhenAProcessWasKilled:
    def test_without_a_row_they_are_suspects(self):
        found = plan([ref()], left_over=[left(ref())])
        assert [todo.suspicion for todo in found.todo] == [1]
        assert found.settling == (Settling("unit", "lund/01.jpg"),)

    def test_alone_they_are_under_more_suspicion(self):
        found = plan([ref()], left_over=[left(ref(), was_alone=True), left(ref())])
        assert [todo.suspicion for todo in found.todo] == [2]

    def test_changed_since_they_are_no_suspects(self):
        found = plan([ref(version="11-2")], left_over=[left(ref())])
        assert [todo.suspicion for todo in found.todo] == [0]
        assert found.settling == (Settling("unit", "lund/01.jpg"),)

    def test_with_the_row_that_was_to_be_replaced_they_are_done_anew(self):
        found = plan([ref()], [row_of(ref())], left_over=[left(ref(), "run1")])
        assert [(todo.replaces, todo.suspicion) for todo in found.todo] == [("run1", 1)]
        assert found.counts["redone"] == 1
        assert found.settling == (Settling("unit", "lund/01.jpg", once_done=True),)

    def test_with_a_newer_row_they_are_settled(self):
        for replaced in ("", "run0"):
            found = plan([ref()], [row_of(ref())], left_over=[left(ref(), replaced)])
            assert (found.todo, len(found.skipped)) == ((), 1)
            assert found.settling == (Settling("unit", "lund/01.jpg", now=True),)

    def test_in_quarantine_they_are_settled_unless_their_row_may_be_wrong(self):
        failures = [PastFailure("lund/01.jpg", "10-1", 3)]
        found = plan([ref()], failures=failures, left_over=[left(ref())])
        assert found.settling == (Settling("unit", "lund/01.jpg", now=True),)
        found = plan([ref()], [row_of(ref())], failures, left_over=[left(ref(), "run1")])
        assert found.todo == ()
        assert found.settling == (Settling("unit", "lund/01.jpg", once_done=True),)

    def test_known_to_kill_they_are_in_quarantine_however_many_tries_there_are(self):
        failures = [PastFailure("lund/01.jpg", "10-1", 1, "ProcessKilled")]
        policy = Policy(max_attempts=1000)
        assert len(plan([ref()], failures=failures, policy=policy).quarantined) == 1
        (todo,) = plan([ref()], failures=failures, policy=Policy(retry_failed=True)).todo
        assert todo.suspicion == 2
        (todo,) = plan([ref(version="11-2")], failures=failures, policy=policy).todo
        assert todo.suspicion == 0

    def test_that_are_not_listed_stay_on_record(self):
        found = plan([], left_over=[left(ref())])
        assert (found.settling, found.missing) == ((), (left(ref()),))

    def test_are_in_small_units_of_their_own(self):
        suspects = {f"{number}.jpg" for number in range(20)}
        images = [
            replace(plan_new(ref(name)), suspicion=int(name in suspects))
            for name in (f"{number}.jpg" for number in range(40))
        ]
        with beam.Pipeline(FnApiRunner()) as pipeline:
            units = pipeline | beam.Create(images) | GroupIntoUnits(MODEL)
            sizes = units | beam.Map(lambda unit: (unit.suspicion, len(unit.images)))
            assert_that(sizes, equal_to([(0, 20), (1, 16), (1, 4)]))


class TestOneImage:
    def test_without_a_row_it_is_to_do(self):
        (todo,) = plan([ref()]).todo
        assert todo == PlannedImage(ref(), "masks/lund/01.jpg.png")

    def test_with_a_row_of_its_version_it_is_skipped(self):
        found = plan([ref()], [row_of(ref())])
        assert [entry.image for entry in found.skipped] == ["lund/01.jpg"]
        assert (found.todo, found.superseded) == ((), ())

    def test_changed_since_its_row_it_is_done_anew_and_the_row_superseded(self):
        found = plan([ref(version="11-2")], [row_of(ref())])
        assert [entry.ref.version for entry in found.todo] == ["11-2"]
        assert found.superseded == (Superseded("lund/01.jpg", "run1", "one.parquet"),)
        assert found.skipped == ()

    def test_in_a_moved_archive_it_stays_done(self):
        found = plan([ref(root="/new/place")], [row_of(ref())])
        assert names(found.skipped) == {"/new/place/lund/01.jpg": "lund/01.jpg"}
        assert (found.todo, found.superseded) == ((), ())

    def test_given_twice_it_is_done_once(self):
        found = plan([ref(), ref()])
        assert len(found.todo) == 1
        assert found.counts["given_twice"] == 1

    def test_given_twice_in_one_shard_under_two_byte_ranges_both_are_done(self):
        twins = [
            replace(ref(), container="tar", path="/a/s.tar", offset=offset)
            for offset in (512, 2048)
        ]
        found = plan(twins)
        assert len({entry.mask for entry in found.todo}) == 2
        assert found.counts["given_twice"] == 0

    def test_its_earlier_failures_are_counted_on(self):
        failures = [PastFailure("lund/01.jpg", "10-1", attempts) for attempts in (1, 2, 1)]
        (todo,) = plan([ref()], failures=failures).todo
        assert todo.attempts == 2

    def test_failures_of_another_version_do_not_count(self):
        (todo,) = plan([ref()], failures=[PastFailure("lund/01.jpg", "9-9", 4)]).todo
        assert todo.attempts == 0

    def test_of_doubled_rows_the_newest_run_stands(self):
        old, new = row_of(ref(), "run1", "old.parquet"), row_of(ref(), "run2", "new.parquet")
        for committed in ([old, new], [new, old]):
            found = plan([ref()], committed)
            assert len(found.skipped) == 1
            assert found.superseded == (
                Superseded("lund/01.jpg", "run1", "old.parquet", doubled=True),
            )

    def test_changed_with_doubled_rows_both_rows_go(self):
        old, new = row_of(ref(), "run1", "old.parquet"), row_of(ref(), "run2", "new.parquet")
        found = plan([ref(version="11-2")], [old, new])
        assert len(found.todo) == 1
        assert set(found.superseded) == {
            Superseded("lund/01.jpg", "run1", "old.parquet", doubled=True),
            Superseded("lund/01.jpg", "run2", "new.parquet"),
        }


class TestAgain:
    """What is done anew although it is done, and what is not tried any more."""

    FAILED_TWICE = (PastFailure("lund/01.jpg", "10-1", 2),)

    def test_counts_say_why_an_image_is_to_do(self):
        done, changed, failed = (ref(f"lund/0{n}.jpg") for n in "123")
        found = [
            plan([ref()]),
            plan([replace(changed, version="11-2")], [row_of(changed)]),
            plan([failed], failures=[PastFailure(failed.image, failed.version, 1)]),
            plan([done], [row_of(done)], policy=Policy(force=True)),
        ]
        reasons = [[name for name, images in of.counts.items() if images] for of in found]
        assert reasons == [["new"], ["replaced"], ["retried"], ["redone"]]

    def test_force_does_anew_what_is_done_and_replaces_its_row(self):
        found = plan([ref()], [row_of(ref())], policy=Policy(force=True))
        (todo,) = found.todo
        assert todo.replaces == "run1"
        assert found.superseded == (Superseded("lund/01.jpg", "run1", "one.parquet"),)

    def test_an_image_whose_row_is_wrong_is_done_anew_until_the_row_is_another(self):
        wrong = [
            Finding(MASK_MISSING, "masks/lund/01.jpg.png", "", "lund/01.jpg", MODEL, "run1", "gone")
        ]
        assert len(plan([ref()], [row_of(ref())], wrong=wrong).todo) == 1
        assert plan([ref()], [row_of(ref(), "run2")], wrong=wrong).todo == ()

    def test_after_so_many_attempts_an_image_is_in_quarantine(self):
        assert len(plan([ref()], failures=self.FAILED_TWICE, policy=Policy(max_attempts=3)).todo)
        found = plan([ref()], failures=self.FAILED_TWICE, policy=Policy(max_attempts=2))
        assert [entry.image for entry in found.quarantined] == ["lund/01.jpg"]
        assert found.todo == ()

    def test_quarantine_ends_with_a_new_version_or_when_asked(self):
        changed = ref(version="11-2")
        policy = Policy(max_attempts=2)
        assert len(plan([changed], failures=self.FAILED_TWICE, policy=policy).todo) == 1
        policy = Policy(max_attempts=2, retry_failed=True)
        (todo,) = plan([ref()], failures=self.FAILED_TWICE, policy=policy).todo
        assert todo.attempts == 2

    def test_in_quarantine_a_changed_image_keeps_the_row_of_its_old_version(self):
        found = plan(
            [ref()], [row_of(ref(version="9-9"))], self.FAILED_TWICE, policy=Policy(max_attempts=2)
        )
        assert len(found.quarantined) == 1
        assert found.superseded == ()

    def test_set_aside_it_stays_so_while_its_version_stands_and_the_gate_is_on(self):
        aside = [PastAside("lund/01.jpg", "10-1", "blurred")]
        gate, other = Policy(gate=Gate(blurred=True)), Policy(gate=Gate(duplicates=True))
        found = plan([ref()], aside=aside, policy=gate)
        assert [entry.image for entry in found.gated] == ["lund/01.jpg"]
        assert (found.todo, found.skipped) == ((), ())
        for todo in (
            plan([ref(version="11-2")], aside=aside, policy=gate),
            plan([ref()], aside=aside, policy=other),
            plan([ref()], aside=aside),
            plan([ref()], aside=aside, policy=replace(gate, force=True)),
        ):
            assert len(todo.todo) == 1 and not todo.gated

    def test_done_it_is_done_whatever_was_set_aside(self):
        aside = [PastAside("lund/01.jpg", "10-1", "blurred")]
        found = plan([ref()], [row_of(ref())], aside=aside, policy=Policy(gate=Gate(blurred=True)))
        assert len(found.skipped) == 1 and not found.gated

    def test_a_unit_that_replaces_rows_has_a_name_of_its_own(self):
        first = plan_new(ref())
        again = replace(first, replaces="run1")
        ids = {unit.unit_id for entry in (first, again) for unit in make_units([entry], 8, MODEL)}
        assert len(ids) == 2


class TestUnlisted:
    """Rows whose images are not listed."""

    def test_a_row_without_its_image_is_unlisted(self):
        row = row_of(ref("lund/02.jpg"))
        assert plan([ref()], [row_of(ref()), row]).unlisted == (row,)
        assert plan([], [row]).unlisted == (row,)

    def test_an_image_that_still_exists_elsewhere_is_not_gone(self, make_photo, tmp_path):
        path = make_photo(tmp_path / "a#b.jpg")
        there = replace(row_of(ref()), uri=str(path))
        assert not is_gone(there)
        assert is_gone(replace(there, uri=str(tmp_path / "c#d.jpg")))
        path.unlink()
        assert is_gone(there)

    def test_what_cannot_be_looked_at_is_not_gone(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        for uri in (tmp_path / "loop" / "a.jpg", f"{tmp_path / 'loop'}#a.jpg"):
            assert not is_gone(replace(row_of(ref()), uri=str(uri)))

    def test_a_member_is_gone_when_its_shard_is_gone_or_written_anew(self, tmp_path):
        shard = tmp_path / "a.tar"
        shard.write_bytes(b"shard")
        version = storage.find(str(shard)).version
        member = replace(row_of(ref(version=version)), uri=f"{shard}#lund/01.jpg")
        assert not is_gone(member)
        shard.write_bytes(b"another shard")
        assert is_gone(member)
        shard.unlink()
        assert is_gone(member)


class TestTakeImages:
    def take(self, units, images):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            taken = pipeline | beam.Create(units) | TakeImages(MODEL, images)
            kept = taken.units | "Kept" >> beam.FlatMap(lambda unit: unit.images)
            left = taken.beyond | "Left" >> beam.FlatMap(lambda result: result.left)
            assert_that(kept, equal_to(TestUnits.IMAGES[:images]), label="kept")
            assert_that(left, equal_to(TestUnits.IMAGES[images:]), label="left")

    @pytest.mark.parametrize("images", [1, 5, 7, 100])
    def test_takes_the_first_images_by_path_and_leaves_the_others(self, images):
        self.take(list(make_units(TestUnits.IMAGES, 5, MODEL)), images)


class TestTwoImagesOfOneName:
    A, B = ref(root="/a"), ref(root="/b", version="20-5")

    def test_keep_apart_and_the_first_by_uri_keeps_the_name(self):
        for refs in ([self.A, self.B], [self.B, self.A]):
            found = plan(refs)
            assert names(found.todo)[self.A.uri] == "lund/01.jpg"
            assert names(found.todo)[self.B.uri].startswith("lund/01~")
            assert len({entry.mask for entry in found.todo}) == 2

    def test_keep_their_names_in_later_runs_whatever_is_listed_in_whatever_order(self):
        done = [self.A, self.B]
        first = plan(done).todo
        committed = rows_of(first)
        for refs in ([self.A], [self.B], [self.A, self.B], [self.B, self.A]):
            for rows_in_order in itertools.permutations(committed):
                found = plan(refs, rows_in_order)
                assert (found.todo, found.superseded) == ((), ())
                assert names(found.skipped).items() <= names(first).items()

    def test_the_one_that_was_done_first_keeps_the_name(self):
        committed = rows_of(plan([self.B]).todo)
        found = plan([self.A, self.B], committed)
        assert names(found.skipped) == {self.B.uri: "lund/01.jpg"}
        (todo,) = found.todo
        assert todo.ref.uri == self.A.uri and todo.ref.image.startswith("lund/01~")
        assert plan([self.A], committed).todo == found.todo

    def test_each_is_done_anew_under_its_name_when_it_changes(self):
        first = plan([self.A, self.B]).todo
        committed = [row_of(entry.ref, file=f"{entry.ref.image}.parquet") for entry in first]
        changed = replace(self.B, version="21-6")
        found = plan([self.A, changed], committed)
        assert names(found.todo) == {self.B.uri: names(first)[self.B.uri]}
        assert names(found.skipped) == {self.A.uri: "lund/01.jpg"}
        assert [entry.image for entry in found.superseded] == [names(first)[self.B.uri]]

    def test_are_settled_over_random_histories(self):
        """Whatever INPUTs each of ten nights lists, no name, mask or row is ever shared."""
        choose = random.Random(3)
        archive = [ref(root=f"/{root}", version=f"{n}-0") for n, root in enumerate("abcde")]
        committed: dict[str, CommittedRow] = {}
        for night in range(10):
            tonight = choose.sample(archive, choose.randint(1, 5))
            found = plan(tonight, choose.sample(list(committed.values()), len(committed)))
            assert found.superseded == ()
            for entry in found.skipped:
                assert committed[entry.image].uri == entry.uri
            for entry in found.todo:
                assert entry.ref.image not in committed
                committed[entry.ref.image] = row_of(entry.ref, run_id=f"run{night}")
        assert len({row.uri for row in committed.values()}) == len(committed)
        assert len({row.mask for row in committed.values()}) == len(committed)


class TestNamesThatLookAlike:
    """Names with a hash: those that planning gives, and those that images have from the first."""

    A, B = ref("lund/01.jpg", root="/a"), ref("lund/01.jpg", root="/b", version="20-5")

    def test_an_image_called_like_the_other_name_of_another_gets_a_name_of_its_own(self):
        taken = names(plan([self.A, self.B]).todo)[self.B.uri]
        called_so = ref(taken, root="/a", version="30-7")
        found = plan([self.A, self.B, called_so])
        assert len({entry.mask for entry in found.todo}) == 3
        committed = rows_of(found.todo)
        assert plan([self.A, self.B, called_so], committed).todo == ()
        (todo,) = plan([self.A, self.B], [row_of(called_so)]).todo[1:]
        assert todo.ref.image != taken and shared_name(todo.ref) == shared_name(self.B)

    @pytest.mark.parametrize(
        "image", ["lund/01~0123abcd.jpg", "lund/01~0123ABCD.jpg", "lund/01~0123abcd~0123abcd"]
    )
    def test_the_rows_of_such_images_are_found_again(self, image):
        todo = plan([ref(image, root="/a"), ref(image, root="/b", version="20-5")]).todo
        assert len({entry.mask for entry in todo}) == 2
        found = [*rows_of(todo), todo[0].ref]
        assert len({shared_name(item) for item in found}) == 1

    def test_such_names_that_differ_in_case_only_are_planned_together(self):
        assert shared_name(ref("lund/01~0123ABCD.jpg")) == shared_name(ref("lund/01~0123abcd.jpg"))


class TestMembersOfOneName:
    """Tar allows members of one name in one shard; they share a URI."""

    FIRST, SECOND = (
        replace(ref(), uri="/a/s.tar#lund/01.jpg", container="tar", offset=offset)
        for offset in (2048, 512)
    )

    def test_while_one_fails_the_other_keeps_its_name_and_the_first_is_tried_again(self):
        first, second = plan([self.FIRST, self.SECOND]).todo
        assert first.ref.offset == self.FIRST.offset
        found = plan([self.FIRST, self.SECOND], rows_of([second]))
        assert found.todo == (first,)
        assert [entry.offset for entry in found.skipped] == [self.SECOND.offset]

    def test_written_anew_with_others_they_are_done_once(self):
        committed = rows_of(plan([self.FIRST, self.SECOND]).todo[1:])
        anew = [replace(self.FIRST, version="11-2", offset=offset) for offset in (1024, 3072)]
        todo = plan(anew, committed).todo
        assert len({entry.mask for entry in todo}) == 2
        assert plan(anew, committed + rows_of(todo, "run2")).todo == ()


class TestNamesThatDifferInCase:
    UPPER, LOWER = ref("lund/A.JPG"), ref("lund/a.jpg")

    def test_are_two_names_where_the_output_folder_tells_them_apart(self):
        assert sorted(names(plan([self.UPPER, self.LOWER]).todo).values()) == [
            "lund/A.JPG",
            "lund/a.jpg",
        ]

    def test_get_distinct_masks_where_it_does_not(self):
        todo = plan([self.UPPER, self.LOWER], fold_case=True).todo
        assert len({entry.mask.casefold() for entry in todo}) == 2

    def test_keep_their_masks_in_later_runs_where_it_does_not(self):
        todo = plan([self.UPPER, self.LOWER], fold_case=True).todo
        committed = rows_of(todo)
        for refs in ([self.UPPER], [self.LOWER], [self.LOWER, self.UPPER]):
            assert plan(refs, committed, fold_case=True).todo == ()


class TestUnits:
    IMAGES = tuple(plan_new(ref(f"{number:03}.jpg")) for number in range(23))

    def test_are_the_same_whatever_the_order(self):
        expected = list(make_units(self.IMAGES, 5, MODEL))
        shuffled = list(self.IMAGES)
        for seed in range(5):
            random.Random(seed).shuffle(shuffled)
            assert list(make_units(shuffled, 5, MODEL)) == expected

    def test_hold_each_image_once_and_at_most_the_unit_size(self):
        units = list(make_units(self.IMAGES, 5, MODEL))
        assert [len(unit.images) for unit in units] == [5, 5, 5, 5, 3]
        assert {entry for unit in units for entry in unit.images} == set(self.IMAGES)

    def test_have_an_id_made_of_images_versions_and_model(self):
        (unit,) = make_units(self.IMAGES, 50, MODEL)
        changed = [plan_new(ref("000.jpg", version="11-2")), *self.IMAGES[1:]]
        others = [
            *make_units(changed, 50, MODEL),
            *make_units(self.IMAGES, 50, "other@0"),
            *make_units(self.IMAGES[1:], 50, MODEL),
        ]
        assert unit.unit_id not in {other.unit_id for other in others}
        assert len({unit.unit_id for unit in make_units(self.IMAGES, 5, MODEL)}) == 5

    def test_keep_the_members_of_a_shard_in_their_order_in_the_shard(self):
        members = [
            plan_new(replace(ref(f"{n}.jpg"), path="/a/s.tar", container="tar", offset=offset))
            for n, offset in enumerate((9000, 512, 4096))
        ]
        (unit,) = make_units(members, 50, MODEL)
        assert [member.ref.offset for member in unit.images] == [512, 4096, 9000]


class TestBuckets:
    def test_a_small_archive_is_one_bucket(self):
        assert len({bucket_of(entry.ref, 23, 64) for entry in TestUnits.IMAGES}) == 1

    def test_a_large_archive_is_spread_over_buckets_of_several_units(self):
        images = 10 * 4 * UNITS_PER_BUCKET
        sizes: dict[str, int] = {}
        for number in range(images):
            key = bucket_of(ref(f"{number}.jpg"), images, 4)
            sizes[key] = sizes.get(key, 0) + 1
        assert len(sizes) == 10
        assert max(sizes.values()) < 2 * min(sizes.values())

    def test_neighbours_in_a_shard_are_read_together(self):
        def member(offset: int, path: str = "/a/s.tar") -> ImageRef:
            return replace(ref(), path=path, container="tar", offset=offset)

        near = bucket_of(member(512), 10_000_000, 64)
        assert bucket_of(member(4096), 10_000_000, 64) == near
        assert bucket_of(member(BYTES_PER_BUCKET), 10_000_000, 64) != near
        assert bucket_of(member(512, "/a/other.tar"), 10_000_000, 64) != near


def commit(output, unit_id, images, model=MODEL, failed=()) -> None:
    result = UnitResult(
        unit_id,
        tuple(Segmented(entry, 2, 1, UNKNOWN_CAPTURE, (2,), Precision.F32) for entry in images),
        tuple(Failure(entry, "decode", "DecodeError", "empty") for entry in failed),
    )
    classes = ClassTable.of([("Sky", (1, 2, 3))])
    rows.commit(str(output), result, classes, model, "run1")


class TestDropDone:
    @pytest.fixture
    def output(self, tmp_path):
        done, changed = plan_new(ref("done.jpg")), plan_new(ref("changed.jpg", version="1-1"))
        failed = replace(plan_new(ref("failed.jpg")), attempts=1)
        commit(tmp_path, "one", [done, changed], failed=[failed])
        commit(tmp_path, "two", [plan_new(ref("of_another_model.jpg"))], model="other@0")
        return tmp_path

    def test_compares_the_listing_with_rows_and_failures(self, output):
        names = ("new.jpg", "done.jpg", "changed.jpg", "failed.jpg", "of_another_model.jpg")
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            refs = pipeline | beam.Create([ref(name) for name in names])
            plan = refs | DropDone(str(output), MODEL)
            todo = plan.todo | "Todo" >> beam.Map(lambda to: (to.ref.image, to.mask, to.attempts))
            assert_that(
                todo,
                equal_to(
                    [
                        ("new.jpg", "masks/new.jpg.png", 0),
                        ("changed.jpg", "masks/changed.jpg.png", 0),
                        ("failed.jpg", "masks/failed.jpg.png", 2),
                        ("of_another_model.jpg", "masks/of_another_model.jpg.png", 0),
                    ]
                ),
                label="todo",
            )
            assert_that(plan.skipped, equal_to([SkippedImages("lund", 1)]), label="skipped")
            file = str(output / "statistics" / "one.parquet")
            superseded = [Superseded("changed.jpg", "run1", file)]
            assert_that(plan.superseded, equal_to(superseded), label="superseded")

    def test_in_a_new_output_folder_everything_is_to_do(self, tmp_path):
        pipeline = beam.Pipeline(runner=FnApiRunner())
        refs = pipeline | beam.Create([ref(f"{n}.jpg") for n in range(4)] + [ref("0.jpg")])
        plan = refs | DropDone(str(tmp_path / "new"), MODEL, mask_folder="masks-tiny")
        todo = plan.todo | beam.Map(lambda planned: planned.mask)
        assert_that(todo, equal_to([f"masks-tiny/{n}.jpg.png" for n in range(4)]))
        result = pipeline.run()
        result.wait_until_finish()
        counters = {
            counter.key.metric.name: counter.result
            for counter in result.metrics().query()["counters"]
            if counter.key.metric.namespace == "citymask.planning"
        }
        assert counters == {
            "new": 4, "skipped": 0, "gated": 0, "quarantined": 0, "given_twice": 1,
        }  # fmt: skip

    def test_finds_same_names_of_two_inputs_together(self, tmp_path):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            refs = pipeline | beam.Create([ref(root="/a"), ref(root="/b", version="20-5")])
            plan = refs | DropDone(str(tmp_path), MODEL)
            masks = plan.todo | beam.Map(lambda planned: planned.mask) | beam.Distinct()
            assert_that(masks | beam.combiners.Count.Globally(), equal_to([2]))


def test_group_into_units_makes_the_units_that_make_units_makes():
    expected = list(make_units(TestUnits.IMAGES, 5, MODEL))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        images = pipeline | beam.Create(TestUnits.IMAGES[::-1])
        assert_that(images | GroupIntoUnits(MODEL, 5), equal_to(expected))


def test_group_into_units_of_nothing_makes_none():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        images = pipeline | beam.Create([], reshuffle=False).with_output_types(PlannedImage)
        assert_that(images | GroupIntoUnits(MODEL), equal_to([]))
