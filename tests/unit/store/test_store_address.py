from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import UsageError
from swarmq.store.address import parse_address


@pytest.mark.parametrize(
    ("given_url", "url", "shown"),
    [
        ("redis://localhost", "redis://localhost/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@db:7000/2", "redis://:s3cret@db:7000/2", "redis://db:7000/2"),
        ("redis://db?db=3&decode_responses=true", "redis://db/3", "redis://db:6379/3"),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1", "redis://[::1]:6380/1"),
        ("redis://", "redis://localhost/0", "redis://localhost:6379/0"),
        (
            "rediss://me:s3cret@db/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/etc/ca.pem&timeout=3",
            "rediss://me:s3cret@db/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fca.pem",
            "rediss://db:6379/0",
        ),
        ("unix:///run/v.sock", "unix:///run/v.sock?db=0", "unix:///run/v.sock"),
        ("unix://:s3cret@/run/v.sock?db=4", "unix://:s3cret@/run/v.sock?db=4", "unix:///run/v.sock"),
        (
            "redis+socket://:s%2Fcret@/run/a%20dir/v.sock?virtual_host=5",
            "unix://:s%2Fcret@/run/a%20dir/v.sock?db=5",
            "unix:///run/a dir/v.sock",
        ),
        ("redis+socket:///run/v.sock?virtual_host=/1", "unix:///run/v.sock?db=1", "unix:///run/v.sock"),
    ],
)
def test_urls_in_anybodys_words(given_url: str, url: str, shown: str) -> None:
    address = parse_address(given_url)
    assert (address.url, address.shown) == (url, shown)


@pytest.mark.parametrize(
    "wrong", ["", "localhost:6379", "http://x", "amqp://x", "unix://", "redis://x:port", "redis://x/one", "redis://[x"]
)
def test_what_is_no_url_is_refused_with_the_forms_that_are(wrong: str) -> None:
    with pytest.raises(UsageError, match="redis_url"):
        parse_address(wrong)


@given(st.text(min_size=1))
def test_any_text_is_a_url_or_refused_in_one_line(text: str) -> None:
    try:
        said = parse_address(text).shown
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


def test_the_password_is_never_shown() -> None:
    for url in ("redis://u:s3cret@h:x", "foo://u:s3cret@h", "redis://u:s3cret@h/db"):
        with pytest.raises(UsageError) as caught:
            parse_address(url)
        assert "s3cret" not in str(caught.value)
