"""Times: each spelling has one meaning or none, on every version of Python."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from transforms.flow.times import parse_time

MAY = datetime(2024, 5, 17, 8, 9, 10)
MARCH = datetime(2021, 3, 4, 10, 20, 30)
DAY = datetime(2021, 3, 4)
SECONDS = 1_614_853_230


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2021-03-04T10:20:30", MARCH),
        (" 2021-03-04 10:20:30 ", MARCH),
        ("2021-03-04t10:20:30z", MARCH),
        ("2021-03-04 10:20:30 UTC", MARCH),
        ("2021-03-04 10:20:30 gmt", MARCH),
        ("2021-03-04T12:20:30+02:00", MARCH),
        ("2021-03-04T12:20:30+02", MARCH),
        ("2021-03-04T04:50:30-0530", MARCH),
        ("2021-03-04 11:20:30 UTC+1:00", MARCH),
        ("2021-03-04T08:20:30\N{MINUS SIGN}02:00", MARCH),
        ("2021:03:04 10:20:30", MARCH),
        ("2021:03:04 10:20:30Z", MARCH),
        ("2021/03/04 10:20:30", MARCH),
        ("20210304T102030Z", MARCH),
        ("20210304T1020", MARCH.replace(second=0)),
        ("2021-03-04T10:20", MARCH.replace(second=0)),
        ("2021-03-04T10:20:30.25", MARCH.replace(microsecond=250_000)),
        ("2021-03-04T10:20:30,123456789", MARCH.replace(microsecond=123_456)),
        ("2021-03-04", DAY),
        ("2021:03:04", DAY),
        (b"2021-03-04\0", DAY),
        (date(2021, 3, 4), DAY),
        (MARCH, MARCH),
        (MARCH.replace(tzinfo=timezone(timedelta(hours=-1))), MARCH + timedelta(hours=1)),
        ("1850-06-01", datetime(1850, 6, 1)),
        ("1969-07-20T20:17:40Z", datetime(1969, 7, 20, 20, 17, 40)),
    ],
)
def test_text_and_times_in_all_their_forms_are_read(value, moment):
    assert parse_time(value) == moment


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (SECONDS, MARCH),
        (SECONDS + 0.25, MARCH.replace(microsecond=250_000)),
        (SECONDS * 10**3 + 250, MARCH.replace(microsecond=250_000)),
        (SECONDS * 10**6 + 250_000, MARCH.replace(microsecond=250_000)),
        (SECONDS * 10**9, MARCH),
        (float(SECONDS * 10**3), MARCH),
        (Decimal("1614853230.25"), MARCH.replace(microsecond=250_000)),
        (1_412_101_202_030, datetime(2014, 9, 30, 18, 20, 2, 30_000)),
        (20210304, DAY),
        (20210304.0, DAY),
        (202103041020, MARCH.replace(second=0)),
        (20210304102030, MARCH),
        (2021, None),
        (202103, None),
        (2021063, None),
        (20219999, None),
        (20210304.5, None),
        (20210304256161, None),
        (0, None),
        (-1, None),
        (-86_400, None),
        (86_399, None),
        (44_259.43, None),
        (9_999_999_999, None),
        (SECONDS * 10**12, None),
    ],
)
def test_numbers_mean_the_same_as_their_digits_in_text(number, moment):
    assert parse_time(number) == moment
    assert parse_time(str(number)) == moment


@pytest.mark.parametrize(
    "value",
    [
        "2021",
        "2021-03",
        "2021-W09-4",
        "2021-063",
        "2021-02-30",
        "2021-03-04T10",
        "2021-03-04T24:00:00",
        "2021-03-04T23:59:60",
        "2021-03-04 10:20:30 CET",
        "2021-03-04 10:20:30 PM",
        "2021-03-04T10:20:30+99:00",
        "2021-03-04T10:20:30Z+02:00",
        "04.03.2021",
        "03/04/2021",
        "1.61485E+12",
        "２０２１-03-04",
        "    :  :     :  :  ",
        "2021:03:04 10:20:  ",
        "0000:00:00 00:00:00",
        "1970-01-01T00:00:00Z",
        "1970:01:01 01:00:00",
        "1969-12-31T16:00:00",
        "1812-01-01",
        "2610-06-11T22:48:30",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "99999-01-01",
        datetime.min,
        datetime.max,
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        date.max,
        "yesterday",
        "9" * 5000,
        "",
        None,
        float("nan"),
        float("inf"),
        -1e300,
        1e300,
        pytest.param(10**6000, id="huge"),
        Decimal("1E+999999999"),
        Decimal("1E-999999999"),
        Decimal("NaN"),
        Decimal("sNaN"),
        True,
        [2024],
        {"year": 2021},
    ],
)
def test_what_is_no_plausible_time_is_unknown(value):
    assert parse_time(value) is None


def test_a_camera_ahead_of_utc_may_say_tomorrow_but_not_later():
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    assert parse_time(now + timedelta(hours=14)) is not None
    assert parse_time(now + timedelta(days=500)) is None
