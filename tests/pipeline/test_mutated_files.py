"""Files of an output folder that somebody or something changed: a message, never a stack trace."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMANDS = [["indicators"], ["report"], ["export", "--format", "bigquery"], ["verify"]]


def with_column(name, values):
    """Replace a column in the table, in all its rows."""

    def change(table):
        return table.set_column(table.column_names.index(name), name, [values(len(table))])

    return change


MUTATIONS = {
    "text for numbers": with_column("width", lambda rows: pa.array(["x"] * rows)),
    "text for counts": with_column("pixels_sky", lambda rows: pa.array(["x"] * rows)),
    "lists for names": with_column("image", lambda rows: pa.array([["x"]] * rows)),
    "no names": with_column("image", lambda rows: pa.nulls(rows, pa.string())),
    "no UTF-8": with_column(
        "mask",
        lambda rows: pa.Array.from_buffers(
            pa.string(),
            rows,
            [None, pa.py_buffer(bytes(4) + rows * b"\1\0\0\0"), pa.py_buffer(b"\xff")],
        ),
    ),
    "a column twice": lambda table: table.append_column("uri", table["uri"]),
    "without counts": lambda table: table.drop_columns(["pixels_sky"]),
    "without columns": lambda table: table.select(["width"]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_table_is_found_and_refused(run, output, citymask, mutation):
    run()
    (file,) = (output.path / "statistics").glob("*.parquet")
    pq.write_table(MUTATIONS[mutation](pq.read_table(file)), file)
    for command in COMMANDS:
        result = citymask(*command[:1], output.path, *command[1:])
        assert result.exit_code in ((3,) if command == ["verify"] else (2,)), result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize("where", [4, -9, -300, -2000])
def test_flipped_bytes_are_found_or_change_nothing(run, output, citymask, where):
    run()
    (file,) = (output.path / "statistics").glob("*.parquet")
    data = bytearray(file.read_bytes())
    data[where] ^= 0xFF
    file.write_bytes(data)
    for command in COMMANDS:
        result = citymask(*command[:1], output.path, *command[1:])
        assert result.exit_code in (0, 2, 3), result.output


@pytest.mark.parametrize("folder", ["runs", "models"])
def test_json_that_is_nested_too_deeply_is_refused(run, output, citymask, folder):
    run()
    (output.path / folder / "zz.json").write_text("[" * 100_000)
    for command in COMMANDS:
        result = citymask(*command[:1], output.path, *command[1:])
        assert result.exit_code in (0, 2, 3), result.output


@pytest.fixture
def rows_of_all_kinds(run, archive, make_photo):
    (archive / "broken.jpg").write_bytes(b"no photo")
    make_photo(archive / "twin.jpg")
    make_photo(archive / "twin_again.jpg")
    run("--skip-duplicates")


@pytest.mark.parametrize("folder", ["statistics", "failures", "gated"])
def test_a_run_refuses_rows_that_it_cannot_read(run, output, rows_of_all_kinds, folder):
    (file, *_) = (output.path / folder).glob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(100))
    result = run("--skip-duplicates", code=2)
    assert f"{file}: cannot be read" in result.output and "`citymask verify" in result.output


@pytest.mark.parametrize("folder", ["statistics", "failures", "gated"])
def test_an_empty_file_of_rows_ends_no_run(run, output, rows_of_all_kinds, folder):
    before = output.rows.drop(columns="run_id")
    for file in (output.path / folder).glob("*.parquet"):
        file.write_bytes(b"")
    run("--skip-duplicates")
    assert output.rows.drop(columns="run_id").equals(before)
    assert set(output.failures["image"]) == {"broken.jpg"}
