"""A sample of a report folder, made without a run: the page beside data as a report has them.

The photos are real, their masks are made: bands of brightness. Names and messages are hostile.
"""

import base64
import io
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transforms.reporting import contract

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "transforms" / "reporting" / "page"
DEMO = ROOT / "demo" / "photos"

HOSTILE = '<img src=x onerror="window.hacked=1">'
BREAKOUT = "</script><script>window.hacked=1</script>\u2028{red|`${alert(1)}`}"
PHOTO_SIDE, OVERLAY_SIDE = 640, 240

CLASSES = [
    ("Sky", (128, 128, 128)),
    ("Building", (128, 0, 0)),
    ("Road", (128, 64, 128)),
    ("Pavement", (60, 40, 222)),
    ("Tree", (128, 128, 0)),
    ("Car", (64, 0, 128)),
]
INDICATORS = [
    ("green_view_index", "Green view index", True, "Share of the view that is vegetation."),
    ("enclosure", "Enclosure", False, "Buildings and trees over road and pavement; a ratio."),
]


def write_sample(
    folder: Path, *, with_map: bool = True, with_nights: bool = True
) -> dict[str, Any]:
    """A small report of the demo photos; what stands in its data.js."""
    gallery, names = [], sorted(DEMO.glob("*/*.jpg"))
    hostile = [f"{HOSTILE}.jpg", "a b/ü #?%41.jpg", f"{BREAKOUT}.jpg", "plain.jpg"]
    (folder / "photos").mkdir(parents=True)
    for n, (path, name) in enumerate(zip(names, hostile, strict=True), 1):
        values = _write_photo(folder / "photos", str(n), path)
        gallery.append(_entry(n, name, [HOSTILE, "centre", "centre", "west"][n - 1], path, values))
    gallery[1]["confidence"] = 0.41
    gallery[1]["reasons"].append("low_confidence")
    gallery[2] |= {"uncertainty": 0.55, "unlike": True}
    gallery[2]["reasons"].append("unlike_training")
    gone = {**gallery[0], "id": "5", "image": "gone.jpg", "photo": False, "position": None}
    for suffix in (".overlay.jpg", ".mask.js"):
        _repeat(folder / "photos", 1, 5, suffix)
    data = _report([*gallery, gone], nights=_nights() if with_nights else [])
    if with_map:
        data["map"] = _points(gallery)
    write_data(folder, data)
    return data


def write_large(
    folder: Path, *, hexagons: int = 10_000, groups: int = 1_000, photos: int = 500
) -> dict[str, Any]:
    """The report of an archive of 1,000,000 photos; its gallery shows the demo photos again."""
    random = np.random.default_rng(5)
    paths = sorted(DEMO.glob("*/*.jpg"))
    (folder / "photos").mkdir(parents=True)
    values = [_write_photo(folder / "photos", str(n), path) for n, path in enumerate(paths, 1)]
    gallery = []
    for n in range(1, photos + 1):
        source = (n - 1) % len(paths)
        for suffix in (".jpg", ".overlay.jpg", ".mask.js"):
            _repeat(folder / "photos", source + 1, n, suffix)
        name = f"survey/{n % groups:04d}/{n:07d}.jpg"
        gallery.append(_entry(n, name, f"{n % groups:04d}", paths[source], values[source]))
    data = _report(gallery, nights=_nights(60))
    data["images"] |= {
        "done": 1_000_000, "failed": 312, "skipped": 990_000, "positioned": 998_000,
        "unlike": 11_000,
    }  # fmt: skip
    data["groups"] = {
        "rows": [
            {"name": f"district {g:04d}", "images": 1000 - g // 2, "values": _values(random)}
            for g in range(groups)
        ],
        "left_out": 250,
    }
    data["map"] = _hexagons(random, hexagons, photos)
    write_data(folder, data)
    return data


def write_data(folder: Path, data: dict[str, Any]) -> None:
    """The page and its data, which must be as the contract has it."""
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    (folder / "data.js").write_bytes(contract.Report.model_validate(data).to_script())


def _write_photo(folder: Path, name: str, path: Path) -> list[float]:
    """Photo, overlay and mask of a photo; the shares of its classes."""
    photo = Image.open(path).convert("RGB")
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    grey = np.asarray(photo.convert("L"), np.uint16)
    mask = (grey * len(CLASSES) // 256).astype(np.uint8)
    mask[:4, :4] = 255
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASSES)] = [colour for _, colour in CLASSES]
    overlay = Image.blend(photo, Image.fromarray(palette[mask]), 0.5)
    overlay.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE))
    photo.save(folder / f"{name}.jpg")
    overlay.save(folder / f"{name}.overlay.jpg")
    _write_mask(folder, name, mask)
    return [round(float((mask == c).mean()), 4) for c in range(len(CLASSES))]


def _write_mask(folder: Path, name: str, mask: np.ndarray) -> None:
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG")
    url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    (folder / f"{name}.mask.js").write_bytes(contract.mask_script(name, url))


def _repeat(folder: Path, source: int, n: int, suffix: str) -> None:
    text_or_bytes = (folder / f"{source}{suffix}").read_bytes()
    if suffix == ".mask.js":
        text_or_bytes = text_or_bytes.replace(f'("{source}"'.encode(), f'("{n}"'.encode())
    (folder / f"{n}{suffix}").write_bytes(text_or_bytes)


def _entry(n: int, name: str, group: str, path: Path, shares: list[float]) -> dict[str, Any]:
    width, height = Image.open(path).size
    return {
        "id": str(n), "image": name, "group": group, "width": width, "height": height,
        "position": [48.0 + n / 500, 9.0 + n / 300], "captured_at": "2026-10-03T11:20:00+00:00",
        "heading": 12.5 * n, "projection": None, "confidence": round(0.8 + n / 50, 4),
        "uncertainty": round(n / 50, 4), "unlike": False,
        "values": [*shares, shares[4], None if n == 3 else round(1.5 + n, 4)],
        "reasons": ["coverage", "most:tree"], "photo": True,
    }  # fmt: skip


def _measures() -> list[dict[str, Any]]:
    classes = [
        {"key": name.lower(), "name": name, "kind": "class", "share": True, "colour": list(colour),
         "description": "", "source": ""}
        for name, colour in CLASSES
    ]  # fmt: skip
    indicators = [
        {"key": key, "name": name, "kind": "indicator", "share": share, "colour": None,
         "description": description, "source": "A paper (2020)."}
        for key, name, share, description in INDICATORS
    ]  # fmt: skip
    return classes + indicators


def _report(gallery: list[dict[str, Any]], nights: list[dict[str, Any]]) -> dict[str, Any]:
    measures = _measures()
    columns = [[entry["values"][m] for entry in gallery] for m in range(len(measures))]
    known = [[x for x in column if x is not None] for column in columns]
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in gallery:
        groups.setdefault(entry["group"], []).append(entry)
    return {
        "format": 1,
        "created_at": "2026-11-23T06:30:00+00:00",
        "citymask": "0.1.0",
        "output": "demo-output",
        "model": {
            "id": "default-1a2b3c", "name": "default", "architecture": "efficientnet_fpn",
            "input": [512, 384],
            "training": {"data": f"CamVid {HOSTILE}", "commands": ["citymask train a", "b"]},
            "metrics": {
                "split": "val", "miou": 0.739,
                "classes": [{"name": name, "iou": 0.5} for name, _ in CLASSES],
            },
        },
        "classes": [
            {"key": name.lower(), "name": name, "colour": list(colour)} for name, colour in CLASSES
        ],
        "measures": measures,
        "indicators_version": "2",
        "images": {"done": len(gallery), "failed": 2, "skipped": 0, "positioned": 4, "unlike": 1},
        "totals": {
            "pixels": [int(1e6 * sum(column)) for column in columns[: len(CLASSES)]],
            "images": [sum(x > 0 for x in column) for column in known[: len(CLASSES)]],
            "values": [round(sum(column) / len(column), 4) for column in known],
            "precisions": {"int8": len(gallery) - 1, "unknown": 1},
        },
        "distributions": [_histogram(column) for column in known],
        "groups": {
            "rows": [
                {"name": name, "images": len(entries), "values": entries[0]["values"]}
                for name, entries in groups.items()
            ],
            "left_out": 0,
        },
        "extremes": [_extremes(gallery, m) for m in range(len(measures))],
        "map": None,
        "gallery": gallery,
        "nights": nights,
        "failures": [
            {"stage": "decode", "error": "UnidentifiedImageError", "message": f"bad {HOSTILE}",
             "count": 2, "examples": [f"x/{HOSTILE}.jpg", "y.jpg"]},
        ],
        "settings": {
            "run_id": "20261123T060000Z-aaaaaa",
            "options": {"inputs": [HOSTILE], "overlay": False, "merged": None, "batch_size": 8},
            "versions": {"citymask": "0.1.0", "python": "3.11.7"},
        } if nights else None,
    }  # fmt: skip


def _histogram(values: list[float]) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=10)
    return {"edges": [round(float(x), 4) for x in edges], "counts": counts.tolist()}


def _extremes(gallery: list[dict[str, Any]], m: int) -> dict[str, list[str]]:
    known = [entry for entry in gallery if entry["values"][m] is not None]
    ranked = [e["id"] for e in sorted(known, key=lambda e: e["values"][m], reverse=True)]
    return {"most": ranked[:5], "least": ranked[::-1][:5]}


def _nights(count: int = 3) -> list[dict[str, Any]]:
    nights = []
    for n in range(count):
        shares = np.array([0.2, 0.3, 0.25, 0.1, 0.1, 0.05]) + 0.03 * np.sin(n + np.arange(6))
        alarmed = n % 20 == 1
        nights.append(
            {
                "run_id": f"2026{10 + n // 28}{n % 28 + 1:02d}T010000Z-{n:06d}",
                "started_at": f"2026-{10 + n // 28}-{n % 28 + 1:02d}T01:00:00.000+00:00",
                "seconds": 81.5 + n,
                "images": {"listed": 120, "done": 100 + 7 * n % 50, "failed": n % 5, "left": 0},
                "images_per_second": round(20 + 3 * math.sin(n), 2),
                "shares": None if n == 2 else (shares / shares.sum()).round(4).tolist(),
                "alarms": [f"share of Sky drifted by 0.12 {HOSTILE}"] if alarmed else [],
                "interrupted": "SIGTERM" if n == 2 else None,
            }
        )
    return nights


def _points(gallery: list[dict[str, Any]]) -> dict[str, Any]:
    features = [
        {"position": entry["position"], "cell": None, "name": entry["image"], "images": 1,
         "values": entry["values"], "photo": entry["id"]}
        for entry in gallery
    ]  # fmt: skip
    return {
        "kind": "points", "resolution": None, "tiles": None, "features": features,
        "bounds": [48.002, 9.0033, 48.008, 9.0134],
    }  # fmt: skip


def _hexagons(random: np.random.Generator, count: int, photos: int) -> dict[str, Any]:
    """Hexagons side by side, as H3 cells lie; about 60 m from side to side."""
    columns = math.ceil(math.sqrt(count))
    radius, stretch = 0.0003, 1 / math.cos(math.radians(48.8))
    features = []
    for n in range(count):
        column, row = n % columns, n // columns
        latitude = 48.7 + radius * math.sqrt(3) * (row + 0.5 * (column % 2))
        longitude = 9.1 + stretch * radius * 1.5 * column
        corners = [
            [round(latitude + radius * math.sin(math.radians(60 * k)), 6),
             round(longitude + stretch * radius * math.cos(math.radians(60 * k)), 6)]
            for k in range(6)
        ]  # fmt: skip
        wave = 0.25 + 0.2 * math.sin(row / 15) * math.cos(column / 12)
        features.append(
            {"position": [round(latitude, 6), round(longitude, 6)], "cell": corners,
             "name": f"8b1f{n:06x}fff", "images": int(random.integers(1, 400)),
             "values": _values(random, wave), "photo": str(n % photos + 1) if n % 3 else None}
        )  # fmt: skip
    latitudes = [f["position"][0] for f in features]
    longitudes = [f["position"][1] for f in features]
    return {
        "kind": "hexagons", "resolution": 11, "tiles": None, "features": features,
        "bounds": [min(latitudes), min(longitudes), max(latitudes), max(longitudes)],
    }  # fmt: skip


def _values(random: np.random.Generator, green: float = 0.25) -> list[float | None]:
    shares = random.dirichlet(np.ones(len(CLASSES)) * 3)
    enclosure = None if random.random() < 0.02 else round(float(random.gamma(2, 1.5)), 4)
    return [*shares.round(4).tolist(), round(green, 4), enclosure]
