"""Pages of Parquet files: their headers are read as other writers wrote them."""

import io
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.inputs.manifests import read_manifest
from transforms.inputs.parquet_pages import read_pages

ROWS = 5000
TABLE = pa.table(
    {
        "uri": [f"photos/{n}.jpg" for n in range(ROWS)],
        "latitude": np.linspace(-80, 80, ROWS),
        "longitude": np.linspace(-170, 170, ROWS),
        "flag": [n % 3 == 0 for n in range(ROWS)],
        "same": ["the same"] * ROWS,
        "tags": [["a", "b"][: n % 3] for n in range(ROWS)],
        "when": [None if n % 2 else datetime(2024, 5, 17) for n in range(ROWS)],
    }
)


def pages_of(data: bytes):
    """The column chunks of a file with their pages."""
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            first = chunk.dictionary_page_offset or chunk.data_page_offset
            yield chunk, list(read_pages(data, first, first + chunk.total_compressed_size))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_pages_add_up_to_what_their_chunk_says(version, codec, dictionary):
    file = io.BytesIO()
    pq.write_table(
        TABLE, file, row_group_size=2000, data_page_size=4096, data_page_version=version,
        compression=codec, use_dictionary=dictionary, write_page_index=True,
        write_page_checksum=True,
    )  # fmt: skip
    for chunk, pages in pages_of(file.getvalue()):
        unpacked = sum(page.unpacked for page in pages)
        headers = chunk.total_uncompressed_size - unpacked
        assert len(pages) <= headers <= 200 * len(pages)
        assert sum(page.values for page in pages) >= chunk.num_values


def test_a_manifest_written_by_duckdb_is_read(tmp_path):
    path = tmp_path / "m.parquet"
    made = TABLE  # noqa: F841 - DuckDB finds it by its name.
    duckdb.sql(
        f"COPY (FROM made) TO '{path}' (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)"
    )
    entries = list(read_manifest(str(path)))
    assert [entry.uri for entry in entries] == TABLE["uri"].to_pylist()
    assert entries[0].metadata.capture.position == (-80, -170)


@pytest.mark.parametrize("start", [-5, 0, 10**9])
def test_what_is_no_page_is_an_error(start):
    with pytest.raises((ValueError, IndexError)):
        list(read_pages(bytes(range(256)) * 4, start, start + 1))


def test_noise_ends_in_pages_or_an_error():
    random = np.random.default_rng(1)
    for _ in range(300):
        noise = random.integers(0, 256, 400, np.uint8).tobytes()
        try:
            assert all(page.unpacked >= 0 for page in read_pages(noise, 0, len(noise)))
        except (ValueError, IndexError):
            continue
