import decimal
import json
import subprocess
import sys
from datetime import date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.flow.records import Capture, ExtraColumn
from transforms.inputs.manifests import (
    ManifestError,
    check,
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
        ("m.csv", "uri,x\na.jpg,1\n".encode("utf-16-le"), "m.csv: found the columns"),
        ("m.csv", b"\xff\xfeuri,x\na.jpg,1\n\n", "m.csv: "),
        ("m.csv", b"uri,x\nStra\xdfe.jpg,1\n", "not a readable manifest: .*save it as UTF-8"),
        ("m.csv", b"uri,latitude\na.jpg,49,75\n", "Expected 2 columns, got 3"),
        ("m.csv", b"path,lat\na.jpg,49\n", "if that is 'path', call it uri"),
        ("m.csv", b"a\x1b[31m,b\x07\na.jpg,1\n", "columns a%1B\\[31m, b%07;"),
        ("m.csv", b"uri,x\na.jpg,\x1b[31m,\n", "Expected 2 columns, got 3: .*%1B"),
        ("m.csv", b"uri,latitude,latitude\na.jpg,1,2\n", "column 'latitude' stands twice"),
        ("m.csv", b"uri,latitude, Latitude\na.jpg,1,2\n", "column 'latitude' stands twice"),
        ("m.csv", b"URI,uri\na.jpg,b.jpg\n", "column 'uri' stands twice"),
        ("m.csv", b"x," * 40 + b"x\n", r"\(41 columns\); a manifest needs a column 'uri'"),
        ("m.csv", b"uri" + b",x" * 3000 + b"\n", "3001 columns are more than"),
        ("m.csv", b"uri\n" + bytes(2**20 + 1), "line 2 is longer than"),
        ("m.csv", b'uri,x\na.jpg,"' + b"b\n" * 2**20, "not a readable manifest"),
        ("m.txt", b"a.jpg\n" + bytes(2**20 + 1), "line 2 is longer than"),
        ("m.txt", b"\xff\xfea\n\n", "not a readable manifest"),
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


@pytest.mark.parametrize(
    "array",
    [
        pa.array([10**12, 1_715_933_350], pa.timestamp("s")),
        pa.array([-(10**12), 1_715_933_350], pa.timestamp("s")),
        pa.array([-(2**62), 1_715_933_350_000_000], pa.timestamp("us", "UTC")),
        pa.array([2**31 - 1, 19_860], pa.int32()).view(pa.date32()),
        pa.array([2**62, 1], pa.int64()).view(pa.time64("us")),
        pa.array([2**62, 1], pa.int64()).view(pa.duration("s")),
    ],
    ids=lambda array: str(array.type),
)
def test_a_value_that_python_cannot_hold_is_empty_and_costs_no_other(tmp_path, caplog, array):
    first, second = read_parquet(tmp_path, uri=["a.jpg", "b.jpg"], x=array, captured_at=array)
    assert first.metadata.extra[0].value is None and first.metadata.capture == Capture()
    assert second.metadata.extra[0].value is not None
    assert "1 values of the column 'x' cannot be kept" in caplog.text


def test_text_that_is_not_utf_8_costs_no_other(tmp_path):
    uris, notes = (pa.array(values, pa.binary()).view(pa.string()) for values in (
        [b"\xff.jpg", b"b.jpg"], [b"\xff", b"fine"]
    ))  # fmt: skip
    first, second = read_parquet(tmp_path, uri=uris, note=notes)
    assert (first.uri, second.uri) == ("\udcff.jpg", "b.jpg")
    notes = [entry.metadata.extra[0].value for entry in (first, second)]
    assert notes == ["\\udcff", "fine"]


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


BERLIN = Capture(52.5, 13.25, MAY, 90)


@pytest.mark.parametrize(
    "text",
    [
        "URI,Latitude, LONGITUDE ,Captured_At,heading\na.jpg,52.5,13.25,2024-05-17 08:09:10,90\n",
        "uri;latitude;longitude;captured_at;heading\na.jpg;52,5;13,25;2024-05-17T08:09:10Z;90\n",
        "uri\tlatitude\tlongitude\tcaptured_at\theading\na.jpg\t52.5\t13.25\t1715933350\t90,0\n",
        '"uri";"latitude";"longitude";"captured_at";"heading"\n'
        '"a.jpg";"52,5";"13,25";"1715933350000";"-270"\n',
        "\nuri,latitude,longitude,captured_at,heading\n"
        "a.jpg,52°30'0\"\"N,13°15' E,2024:05:17 08:09:10,90°\n".replace('""', '"'),
        'uri,latitude,longitude,captured_at,heading\na.jpg,"52,5","13,25",20240517T080910,"90,0"\n',
    ],
    ids=["names", "semicolons", "tabs", "quoted", "symbols", "decimal commas"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_may_be_written_as_spreadsheets_do(tmp_path, text, encoding):
    (entry,) = read_csv(tmp_path, text.encode(encoding))
    assert (entry.uri, entry.metadata.capture, entry.metadata.extra) == ("a.jpg", BERLIN, ())


def test_a_list_may_be_in_utf_16(tmp_path):
    entries = read_csv(tmp_path, "ß.jpg\r\nb.jpg\n".encode("utf-16"), "m.txt")
    assert [entry.uri for entry in entries] == ["ß.jpg", "b.jpg"]


def test_parquet_columns_may_have_names_of_any_case(tmp_path):
    (entry,) = read_parquet(
        tmp_path, **{"URI": ["a.jpg"], "Latitude": ["52,5"], " longitude": [13.25], "Note": ["x"]}
    )
    assert (entry.uri, entry.metadata.capture) == ("a.jpg", Capture(52.5, 13.25))
    assert entry.metadata.extra == (ExtraColumn("Note", "string", "x"),)


def test_a_word_in_a_column_costs_no_other_row_its_value(tmp_path, caplog):
    text = (
        "uri,latitude,longitude,captured_at,heading\n"
        "a.jpg,52.5,13.25,1715933350,90\n"
        "b.jpg,unknown,13.25,last year,north\n"
        "c.jpg,91,13.25,NA,\n"
        "d.jpg,0,0,,361\n"
        ",52.5,13.25,,\n"
    )
    first, *others = read_csv(tmp_path, text)
    assert first.metadata.capture == BERLIN
    assert [entry.metadata.capture for entry in others] == [Capture()] * 3
    expected = (
        "not understood as a position in 3 rows, such as latitude 'unknown', longitude '13.25'",
        "not understood as a time in 1 rows, such as captured_at 'last year'",
        "not understood as a heading in 2 rows, such as heading 'north'",
        "1 rows without a uri are left out",
    )
    for line in expected:
        assert f"m.csv: {line}" in caplog.text


def test_what_columns_may_mean_is_said_and_nothing_else(tmp_path, caplog):
    (entry,) = read_csv(tmp_path, "uri,lat,LNG,note,note\na.jpg,52.5,13.25,x,y\n")
    assert entry.metadata.capture == Capture()
    assert [(extra.name, extra.value) for extra in entry.metadata.extra] == [
        ("lat", 52.5), ("LNG", 13.25), ("note", "x")
    ]  # fmt: skip
    for line in (
        "the column 'lat' is kept but not interpreted; if it is meant, call it latitude",
        "the column 'LNG' is kept but not interpreted; if it is meant, call it longitude",
        "the column 'note' stands twice; the first is kept",
    ):
        assert f"m.csv: {line}" in caplog.text
    caplog.clear()
    read_csv(tmp_path, "uri,latitude,longitude,heading,x\na.jpg,52.5,13.25,,1\nb.jpg,,,NA,1\n")
    assert not caplog.records


def test_a_warning_shows_no_control_characters(tmp_path, caplog):
    read_csv(tmp_path, "uri,captured_at\na.jpg,\x1b]0;title\x07\n")
    assert "%1B]0;title%07" in caplog.text and "\x1b" not in caplog.text


@pytest.mark.parametrize(
    "captured_at",
    [
        pa.array([1_715_933_350], pa.int64()),
        pa.array([1_715_933_350_000], pa.uint64()),
        pa.array([1_715_933_350.0]),
        pa.array([decimal.Decimal("1715933350.00")]),
        pa.array([20240517080910]),
        pa.array(["2024-05-17T08:09:10Z"], pa.large_string()),
        pa.array(["1715933350"]).dictionary_encode(),
        pa.array([b"2024:05:17 08:09:10"]),
        pa.array([MAY], pa.timestamp("ms", "+02:00")),
    ],
    ids=lambda array: str(array.type),
)
def test_times_in_parquet_may_be_of_any_type(tmp_path, captured_at):
    (entry,) = read_parquet(tmp_path, uri=["a.jpg"], captured_at=captured_at)
    assert entry.metadata.capture.captured_at == MAY


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_in_parquet_are_midnights(tmp_path, kind):
    (entry,) = read_parquet(tmp_path, uri=["a.jpg"], captured_at=pa.array([MAY.date()], kind))
    assert entry.metadata.capture.captured_at == datetime(2024, 5, 17)


MEBIBYTE = "A" * (1 << 20)


def repeated(value, times: int) -> pa.Array:
    """A value that Parquet stores once, however often it stands there."""
    indices = pa.array([0]).take(pa.array([0] * times)).cast(pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array([value]))


def lists_of(values: pa.Array, each: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(0, len(values) + 1, each), pa.int32()), values)


@pytest.mark.parametrize(
    "columns",
    [
        {"uri": repeated("a.jpg", 20_000), "x": repeated(MEBIBYTE, 20_000)},
        {"uri": repeated(MEBIBYTE, 20_000)},
        {"uri": repeated("a.jpg", 200), "x": lists_of(repeated(MEBIBYTE, 20_000), 100)},
        {"uri": repeated("a.jpg", 1), "x": lists_of(repeated(MEBIBYTE, 20_000), 20_000)},
        {"uri": repeated("a.jpg", 1), "x": pa.array([MEBIBYTE * 64])},
        {"uri": repeated("a.jpg", 3_000_000)},
        {"uri": repeated("a.jpg", 500), "x": pa.array([bytes(1 << 16)] * 500, pa.binary(1 << 16))},
    ],
    ids=["strings", "uris", "lists", "one list", "page", "rows", "fixed"],
)  # fmt: skip
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path, columns):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ManifestError, match="unpacks to more than|values of 65536 bytes"):
        list(read_manifest(str(path)))
    with pytest.raises(ManifestError):
        check(str(path))
    assert pa.default_memory_pool().max_memory() - before < 64 << 20


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "dictionary"]
)
def test_text_of_every_encoding_is_read(tmp_path, encoding, version):
    uris = [f"photos/{n:05}.jpg" for n in range(20_000)]
    path = tmp_path / "m.parquet"
    pq.write_table(
        pa.table({"uri": uris, "x": uris}),
        path,
        use_dictionary=encoding == "dictionary",
        column_encoding=None if encoding == "dictionary" else {"uri": encoding, "x": encoding},
        data_page_version=version,
        dictionary_pagesize_limit=100_000,  # Less than the values need, so that writers fall back.
    )
    check(str(path))
    entries = list(read_manifest(str(path)))
    assert [entry.uri for entry in entries] == uris
    assert [entry.metadata.extra[0].value for entry in entries] == uris


def test_prefixes_that_are_shared_without_end_are_refused(tmp_path):
    path = tmp_path / "m.parquet"
    long = pa.array([MEBIBYTE[: 1 << 16]] * 1000)
    for values in (long, lists_of(long, len(long))):
        uris = [f"{n}.jpg" for n in range(len(values))]
        table = pa.table({"uri": uris, "x": values})
        leaf = "x" if len(values) > 1 else "x.list.element"
        pq.write_table(
            table, path, compression="zstd", use_dictionary=False,
            column_encoding={leaf: "DELTA_BYTE_ARRAY"}, store_schema=False,
        )  # fmt: skip
        assert path.stat().st_size < 20_000
        before = pa.default_memory_pool().max_memory()
        with pytest.raises(ManifestError, match="unpacks to more than|in another encoding"):
            check(str(path))
        assert pa.default_memory_pool().max_memory() - before < 64 << 20


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol writes it."""
    digits, number = [], number << 1
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def test_a_page_of_gigabytes_is_refused_whatever_the_metadata_say(tmp_path):
    path = tmp_path / "m.parquet"
    table = pa.table({"uri": ["a.jpg"], "x": [bytes(64 << 20)]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, store_schema=False)
    data = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    for size in (group.column(1).total_uncompressed_size, group.total_byte_size):
        said = varint(size)
        place = data.rindex(said)
        # The same number of bytes, for a number below 128.
        less = bytes([said[0] | 128, *[128] * (len(said) - 2), 0])
        data = data[:place] + less + data[place + len(said) :]
    path.write_bytes(data)
    assert pq.ParquetFile(path).metadata.row_group(0).total_byte_size < 1000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ManifestError, match="unpacks to more than"):
        check(str(path))
    assert pa.default_memory_pool().max_memory() - before < 16 << 20


def test_damage_anywhere_in_a_parquet_manifest_is_a_manifest_error_or_none(tmp_path):
    columns = {
        "uri": [f"{n % 7}.jpg" for n in range(300)],
        "x": lists_of(pa.array(["a", "b"] * 300), 2),
        "captured_at": pa.array([MAY] * 300, pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(columns), tmp_path / "whole.parquet", compression="zstd")
    whole = (tmp_path / "whole.parquet").read_bytes()
    random = np.random.default_rng(3)
    path = str(tmp_path / "m.parquet")
    damaged_ones = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for position in random.integers(4, len(whole) - 8, random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        (tmp_path / "m.parquet").write_bytes(damaged)
        for read in (check, lambda path: list(read_manifest(path))):
            try:
                read(path)
            except ManifestError as error:
                damaged_ones += 1
                assert str(error).startswith(path)
    assert damaged_ones > 30


@pytest.mark.parametrize(
    ("uri", "name"),
    [("/data/lund/1.jpg", "lund/1.jpg"), ("/other/1.jpg", "/other/1.jpg"), ("/data", ".")],
)
def test_an_image_is_named_relative_to_its_manifest(uri, name):
    assert relative_to(uri, "/data/m.csv") == name
