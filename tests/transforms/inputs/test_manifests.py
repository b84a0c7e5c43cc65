import decimal
import json
import subprocess
import sys
from datetime import date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.flow.records import Capture, ExtraColumn
from transforms.inputs.manifests import (
    ManifestError,
    metadata_of,
    read_manifest,
    relative_to,
    types_of,
)

MAY = datetime(2024, 5, 17, 8, 9, 10)


def read_csv(tmp_path, text: str | bytes, name="m.csv"):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(data)
    return list(read_manifest(str(tmp_path / name)))


def read_parquet(tmp_path, **arrays):
    pq.write_table(pa.table(arrays), tmp_path / "m.parquet")
    return list(read_manifest(str(tmp_path / "m.parquet")))


def extra_of_csv(tmp_path, *values: str) -> tuple[str, list]:
    """Type and values of a CSV column with these values."""
    rows = "".join(f"{n}.jpg,{value}\n" for n, value in enumerate(values))
    entries = [e.metadata.extra[0] for e in read_csv(tmp_path, "uri,x\n" + rows)]
    assert len({entry.arrow_type for entry in entries}) == 1
    return entries[0].arrow_type, [entry.value for entry in entries]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_known_columns_are_understood(tmp_path, kind):
    known = {
        "uri": ["lund/1.jpg", "gs://b/2.jpg"],
        "latitude": [55.7, None],
        "longitude": [13.2, None],
        "captured_at": [MAY, None],
        "heading": [-90.0, None],
        "group": ["north", None],
    }
    if kind == "csv":
        text = ",".join(known) + "\nlund/1.jpg,55.7,13.2,2024-05-17 08:09:10,-90,north\n"
        first, second = read_csv(tmp_path, text + "gs://b/2.jpg,,,,,\n")
    else:
        first, second = read_parquet(tmp_path, **known)
    assert (first.uri, second.uri) == ("lund/1.jpg", "gs://b/2.jpg")
    assert first.metadata.capture == Capture(55.7, 13.2, MAY, 270)
    assert (first.metadata.group, first.metadata.extra) == ("north", ())
    assert second.metadata.capture == Capture() and second.metadata.group is None


def test_a_list_has_a_uri_per_line(tmp_path):
    text = "\ufeffa b.jpg\r\n\n  \nåäö.jpg\n".encode() + b"\xff.jpg\nlast.jpg"
    uris = [entry.uri for entry in read_csv(tmp_path, text, "m.txt")]
    assert uris == ["a b.jpg", "åäö.jpg", "\udcff.jpg", "last.jpg"]


@pytest.mark.parametrize("name", ["m.csv", "M.CSV"])
def test_a_byte_order_mark_and_quotes_are_no_part_of_a_csv(tmp_path, name):
    text = '\ufeff"uri","note"\r\n"a, b.jpg","two\nlines"\r\n" c.jpg ",x\r\n'
    first, second = read_csv(tmp_path, text, name)
    assert (first.uri, second.uri) == ("a, b.jpg", "c.jpg")
    assert first.metadata.extra == (ExtraColumn("note", "string", "two\nlines"),)


def test_rows_without_a_uri_are_left_out(tmp_path):
    entries = read_csv(tmp_path, "uri,x\na.jpg,1\n,2\n  ,3\n")
    assert [entry.uri for entry in entries] == ["a.jpg"]
    assert [entry.uri for entry in read_parquet(tmp_path, uri=["a.jpg", None, ""])] == ["a.jpg"]
    assert read_csv(tmp_path, "uri,x\n") == []


def test_uris_and_groups_of_digits_stay_as_written(tmp_path):
    first, second = read_csv(tmp_path, "uri,group\n00123,01\n5,1\n")
    assert (first.uri, first.metadata.group) == ("00123", "01")
    assert (second.uri, second.metadata.group) == ("5", "1")


def test_uris_stored_as_bytes_are_paths(tmp_path):
    (entry,) = read_parquet(tmp_path, uri=pa.array([b"a/1.jpg"], pa.binary()))
    assert entry.uri == "a/1.jpg"


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        (["1", "-2", ""], "int64", [1, -2, None]),
        (["0", "10"], "int64", [0, 10]),
        (["1.5", "2", "0.25"], "double", [1.5, 2.0, 0.25]),
        (["00123", "5"], "string", ["00123", "5"]),
        (["5", "-01"], "string", ["5", "-01"]),
        (["+4670", "1"], "string", ["+4670", "1"]),
        (["00.5", "1.5"], "string", ["00.5", "1.5"]),
        (["12345678901234567890123"], "string", ["12345678901234567890123"]),
        (["9007199254740993"], "int64", [9007199254740993]),
        (["true", "false"], "bool", [True, False]),
        (["2024-05-17", ""], "date32[day]", [date(2024, 5, 17), None]),
        (["2024-05-17 08:09:10"], "timestamp[s]", [MAY]),
        (["2024-05-17T08:09:10.123456789"], "timestamp[us]", [MAY.replace(microsecond=123456)]),
        (["08:09:10"], "time32[s]", [time(8, 9, 10)]),
        (["a", "1", "NA"], "string", ["a", "1", "NA"]),
        (["", ""], "string", [None, None]),
    ],
)
def test_a_csv_column_has_the_type_of_all_its_values(tmp_path, values, kind, kept):
    assert extra_of_csv(tmp_path, *values) == (kind, kept)


def test_a_type_holds_from_the_first_row_to_the_last(tmp_path):
    values = [str(n) for n in range(60_000)] + ["007"]
    kind, kept = extra_of_csv(tmp_path, *values)
    assert kind == "string" and kept == values


@pytest.mark.parametrize(
    ("array", "kind", "kept"),
    [
        (pa.array([7], pa.int8()), "int8", 7),
        (pa.array([2**63], pa.uint64()), "uint64", 2**63),
        (pa.array([0.5], pa.float32()), "float", 0.5),
        (pa.array([True]), "bool", True),
        (pa.array(["00123"]), "string", "00123"),
        (pa.array(["a"], pa.large_string()), "large_string", "a"),
        (pa.array(["a"]).dictionary_encode(), "string", "a"),
        (pa.array([None], pa.null()), "string", None),
        (pa.array([date(2024, 5, 17)]), "date32[day]", date(2024, 5, 17)),
        (pa.array([timedelta(1)], pa.duration("s")), "duration[s]", timedelta(1)),
        (pa.array([b"\xff"]), "binary", b"\xff"),
        (pa.array([decimal.Decimal("1.50")]), "string", "1.50"),
        (pa.array([MAY], pa.timestamp("s", "UTC")), "string", "2024-05-17 08:09:10+00:00"),
        (pa.array([[1, 2]]), "string", "[1, 2]"),
        (pa.array([{"a": [1], "b": "å"}]), "string", '{"a": [1], "b": "å"}'),
        (pa.array([[MAY]]), "string", '["2024-05-17 08:09:10"]'),
    ],
)
def test_a_parquet_column_keeps_its_type_and_nested_ones_become_json(tmp_path, array, kind, kept):
    (entry,) = read_parquet(tmp_path, uri=["a.jpg"], x=array)
    assert entry.metadata.extra == (ExtraColumn("x", kind, kept),)
    column = pa.array([kept], pa.type_for_alias(kind))
    assert column.to_pylist() == [kept]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Stockholm"])
def test_times_of_every_unit_are_read(tmp_path, unit, zone):
    moment = pa.array([1_715_933_350], pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
    (entry,) = read_parquet(tmp_path, uri=["a.jpg"], captured_at=moment, x=moment)
    assert entry.metadata.capture.captured_at == MAY
    assert type(entry.metadata.capture.captured_at) is datetime
    (extra,) = entry.metadata.extra
    # Parquet itself stores seconds as milliseconds.
    kept = {"s": "ms", "ns": "us"}.get(unit, unit)
    assert extra.arrow_type == ("string" if zone else f"timestamp[{kept}]")


WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None
from transforms.inputs.manifests import read_manifest
(entry,) = read_manifest(sys.argv[1])
print(entry.metadata.capture.captured_at, *(e.value for e in entry.metadata.extra), sep="|")
"""


def test_nanoseconds_are_cut_to_microseconds_with_and_without_pandas(tmp_path):
    nanoseconds = 1_715_933_350_123_456_789
    (entry,) = read_parquet(
        tmp_path,
        uri=["a.jpg"],
        captured_at=pa.array([nanoseconds], pa.timestamp("ns")),
        moment=pa.array([nanoseconds], pa.timestamp("ns")),
        clock=pa.array([1_000_000_001], pa.time64("ns")),
        wait=pa.array([1_999], pa.duration("ns")),
    )
    cut = MAY.replace(microsecond=123456)
    assert entry.metadata.capture.captured_at == cut
    values = [cut, time(0, 0, 1), timedelta(microseconds=1)]
    assert [extra.value for extra in entry.metadata.extra] == values
    run = [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path / "m.parquet")]
    shown = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert shown.strip().split("|") == [str(cut), *map(str, values)]


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024-05-17 08:09:10", MAY),
        ("2024-05-17T08:09:10Z", MAY),
        ("2024-05-17T10:09:10+02:00", MAY),
        ("1715933350", MAY),
        ("1715933350250", MAY.replace(microsecond=250_000)),
        ("2024-05-17", datetime(2024, 5, 17)),
        ("last year", None),
    ],
)
def test_times_in_a_csv_are_read_alone_and_among_others(tmp_path, written, moment):
    (entry,) = read_csv(tmp_path, f"uri,captured_at\na.jpg,{written}\n")
    assert entry.metadata.capture.captured_at == moment
    if not written.isdigit():
        rows = f"uri,captured_at\na.jpg,{written}\nb.jpg,?\n"
        assert read_csv(tmp_path, rows)[0].metadata.capture.captured_at == moment


@pytest.mark.parametrize("latitude", ["91", "-90.01", "nan", "inf", "north", '"59,3"', ""])
def test_an_impossible_latitude_is_unknown(tmp_path, latitude):
    text = f"uri,latitude,longitude,heading\na.jpg,{latitude},181,361\nb.jpg,1,2,3\n"
    first, second = read_csv(tmp_path, text)
    assert first.metadata.capture == Capture()
    assert second.metadata.capture == Capture(1, 2, None, 3)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.csv", b"", "not a readable manifest: Empty CSV file"),
        ("m.csv", b"path,x\na.jpg,1\n", "found the columns path, x; .* needs a column 'uri'"),
        ("m.csv", b"uri,x\na.jpg\n", "not a readable manifest: .*Expected 2 columns, got 1"),
        ("m.csv", b"uri,x\n\xff.jpg,1\n", "not a readable manifest: .*UTF8"),
        ("m.csv", b"uri,\xff\xfe\na.jpg,1\n", "not a readable manifest"),
        ("m.csv", b"\xff\xd8\xff\xe0 \0\1\2\n\n\3,\4\n", "m.csv: "),
        ("m.csv", "uri,x\na.jpg,1\n".encode("utf-16"), "m.csv: "),
        ("m.parquet", b"", "not a readable manifest"),
        ("m.parquet", b"uri\na.jpg\n", "not a readable manifest"),
    ],
)
def test_what_is_no_manifest_says_so(tmp_path, name, data, message):
    with pytest.raises(ManifestError, match=message):
        read_csv(tmp_path, data, name)


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet", "gone.txt"])
def test_a_manifest_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(ManifestError, match=name):
        list(read_manifest(str(tmp_path / name)))


def test_a_parquet_manifest_needs_the_column_uri(tmp_path):
    with pytest.raises(ManifestError, match="found the columns path; .*'uri'"):
        read_parquet(tmp_path, path=["a.jpg"])


def test_a_damaged_parquet_manifest_says_so(tmp_path):
    read_parquet(tmp_path, uri=["a.jpg"] * 1000, x=list(range(1000)))
    data = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "m.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(ManifestError, match="not a readable manifest"):
        list(read_manifest(str(tmp_path / "m.parquet")))


def test_a_time_that_python_cannot_hold_is_named_not_raised_raw(tmp_path):
    late = pa.array([10**12], pa.timestamp("s"))
    with pytest.raises(ManifestError, match="not a readable manifest"):
        read_parquet(tmp_path, uri=["a.jpg"], x=late)


def test_values_of_json_keep_types_that_parquet_can_hold():
    row = json.loads(
        '{"n": 1, "x": 1.5, "flag": true, "id": "007", "list": [1, {"a": null}], "none": null,'
        ' "huge": 123456789012345678901234567890, "half": "\\ud800", "group": "\\udc00g",'
        ' "latitude": "55.7", "longitude": "13,2", "heading": 450, "captured_at": 1715933350250}'
    )
    metadata = metadata_of(row, types_of(row))
    assert metadata.capture == Capture(55.7, 13.2, MAY.replace(microsecond=250_000), None)
    assert metadata.group == "\\udc00g"
    assert metadata.extra == (
        ExtraColumn("n", "int64", 1),
        ExtraColumn("x", "double", 1.5),
        ExtraColumn("flag", "bool", True),
        ExtraColumn("id", "string", "007"),
        ExtraColumn("list", "string", '[1, {"a": null}]'),
        ExtraColumn("huge", "string", "123456789012345678901234567890"),
        ExtraColumn("half", "string", "\\ud800"),
    )
    for extra in metadata.extra:
        assert pa.array([extra.value], pa.type_for_alias(extra.arrow_type)).is_valid()


@pytest.mark.parametrize(
    ("uri", "name"),
    [("/data/lund/1.jpg", "lund/1.jpg"), ("/other/1.jpg", "/other/1.jpg"), ("/data", ".")],
)
def test_an_image_is_named_relative_to_its_manifest(uri, name):
    assert relative_to(uri, "/data/m.csv") == name
