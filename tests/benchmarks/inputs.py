"""The data, the same in every run: tiny files, taxi trips, one big file, rows of a ledger."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

TINY_BYTES = 100
TRIP_FILES = 24
#: values of passenger_count, so names a fan-out by it makes; evenly spread, so that no merge is the longest
PASSENGERS = 12
_BLOCK_ROWS = 5000
_HEADER = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,store_and_fwd_flag,"
    "PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,tolls_amount,total_amount\n"
)


def make_tiny(folder: Path, count: int) -> Path:
    """Make files of 100 bytes, each with another content."""
    folder.mkdir()
    for number in range(count):
        (folder / f"key{number:06}").write_text(f"{number} ".ljust(TINY_BYTES - 1, "x") + "\n", encoding="ascii")
    return folder


def make_trips(folder: Path, size: int) -> Path:
    """Make 24 CSV files of `size` bytes together; their numbers spread them evenly over any hosts."""
    folder.mkdir()
    for number in range(TRIP_FILES):
        block = _trips(number).encode()
        with (folder / f"{number:03}_trips.csv").open("wb") as file:
            file.write(_HEADER.encode())
            while (room := size // TRIP_FILES - file.tell()) > 0:
                file.write(block if room >= len(block) else block[: block.find(b"\n", room - 1) + 1])
    return folder


def _trips(seed: int) -> str:
    """Make some rows; they repeat within a file, which no work here can make use of."""
    rng = random.Random(seed)
    rows: list[str] = []
    for _ in range(_BLOCK_ROWS):
        day, hour, minute = rng.randint(1, 28), rng.randrange(23), rng.randrange(60)
        miles = rng.expovariate(0.4)
        fare = 3 + 2.5 * miles
        tip = fare * rng.choice((0, 0.1, 0.2))
        rows.append(
            f"{rng.randint(1, 2)},2023-01-{day:02} {hour:02}:{minute:02}:07,2023-01-{day:02} {hour + 1:02}:{minute:02}:41,"
            f"{rng.randrange(PASSENGERS)},{miles:.2f},1,N,{rng.randint(1, 265)},{rng.randint(1, 265)},{rng.randint(1, 4)},"
            f"{fare:.2f},0.5,0.5,{tip:.2f},0.0,{fare + tip + 1:.2f}\n"
        )
    return "".join(rows)


def make_big(path: Path, size: int) -> Path:
    """Make a file of `size` bytes; no byte of it can be guessed from those just before it."""
    block = random.Random(0).randbytes(1 << 20)
    with path.open("wb") as file:
        while (room := size - file.tell()) > 0:
            file.write(block[:room])
    return path


def key_names(count: int) -> Iterator[str]:
    """Name keys below ``many/``, a thousand to a directory."""
    for number in range(count):
        yield f"many/{number // 1000:04}/key{number:07}"
