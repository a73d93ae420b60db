from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import UsageError
from swarmq.store.address import Address, Login, parse_address

CHECKED: dict[str, str | bool] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", Address("redis://localhost:6379/0", 0, hosts=(("localhost", 6379),))),
        ("redis://", Address("redis://localhost:6379/0", 0, hosts=(("localhost", 6379),))),
        (
            "redis://:s3cret@db:7000/2",
            Address("redis://db:7000/2", 2, Login(None, "s3cret"), (("db", 7000),)),
        ),
        ("redis://me:p%40%2F@db", Address("redis://db:6379/0", 0, Login("me", "p@/"), (("db", 6379),))),
        ("redis://db?db=3&decode_responses=true", Address("redis://db:6379/3", 3, hosts=(("db", 6379),))),
        ("redis://[::1]:6380/1", Address("redis://[::1]:6380/1", 1, hosts=(("::1", 6380),))),
        ("rediss://db/1", Address("rediss://db:6379/1", 1, hosts=(("db", 6379),), tls=CHECKED)),
        (
            "rediss://me:s3cret@db/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/etc/ca.pem&timeout=3",
            Address(
                "rediss://db:6379/0",
                0,
                Login("me", "s3cret"),
                (("db", 6379),),
                tls=CHECKED | {"ssl_ca_certs": "/etc/ca.pem"},
            ),
        ),
        (
            "rediss://db?ssl_cert_reqs=none",
            Address(
                "rediss://db:6379/0",
                0,
                hosts=(("db", 6379),),
                tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False},
            ),
        ),
        ("unix:///run/v.sock", Address("unix:///run/v.sock", 0, socket="/run/v.sock")),
        (
            "unix://:s3cret@/run/v.sock?db=4",
            Address("unix:///run/v.sock", 4, Login(None, "s3cret"), socket="/run/v.sock"),
        ),
        (
            "unix:///run/v.sock?password=a%2Fb",
            Address("unix:///run/v.sock", 0, Login(None, "a/b"), socket="/run/v.sock"),
        ),
        (
            "redis+socket://me:s%2Fcret@/run/a%20dir/v.sock?virtual_host=/5",
            Address("unix:///run/a dir/v.sock", 5, Login("me", "s/cret"), socket="/run/a dir/v.sock"),
        ),
        (
            "sentinel://me:pw@a,b:26380/2?master=mine&sentinel_password=own",
            Address(
                "sentinel://a:26379,b:26380/2?master=mine",
                2,
                Login("me", "pw"),
                (("a", 26379), ("b", 26380)),
                master="mine",
                sentinel_login=Login(None, "own"),
            ),
        ),
        (
            "sentinels://a?master=mine",
            Address("sentinels://a:26379/0?master=mine", 0, hosts=(("a", 26379),), tls=CHECKED, master="mine"),
        ),
    ],
)
def test_urls_in_anybodys_words(url: str, expected: Address) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "",
            "localhost:6379",
            "http://x",
            "amqp://x",
            "unix://",
            "unix://host/path",
            "redis://x:port",
            "redis://x/one",
        ),
        *("redis://[x", "redis://a,b/0", "sentinel://a/0", "redis://x?ssl_ca_certs=/x", "rediss://x?ssl_ciphers=x"),
        "rediss://x?ssl_cert_reqs=maybe",
    ],
)
def test_what_is_no_url_is_refused_with_what_is_wrong(wrong: str) -> None:
    with pytest.raises(UsageError, match="redis_url"):
        parse_address(wrong)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://bob:1234#s3cret@h/0", "redis://:1234?s3cret@h/0", "redis://:12/s3cret@h/0", "redis://s3cret#x@h/0"),
        *("redis://:s3cret/x@h/0", "rediss://:s3cret?x@h/0", "redis://:s3cret[@h/0", "unix://:12#s3cret@/s"),
        "sentinel://:12#s3cret@a,b/0?master=m",
    ],
)
def test_a_login_that_is_not_encoded_is_neither_shown_nor_taken_for_a_host(url: str) -> None:
    with pytest.raises(UsageError, match="percent-encode") as caught:
        parse_address(url)
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_named_twice_is_the_same() -> None:
    assert parse_address("redis://h/5?db=5").database == 5
    with pytest.raises(UsageError, match="database 0 and database 5"):
        parse_address("redis://h/0?db=5")


@pytest.mark.parametrize("url", ["amqp://guest:s3cret@rabbit//", "amqps://rabbit", "pyamqp://rabbit"])
def test_rabbitmq_is_refused_by_name(url: str) -> None:
    with pytest.raises(UsageError, match="RabbitMQ, which is not supported") as caught:
        parse_address(url)
    assert "s3cret" not in str(caught.value)


@given(st.text(min_size=1), st.text(min_size=1))
def test_logins_survive_being_percent_encoded(user: str, password: str) -> None:
    login = f"{quote(user, safe='', errors='replace')}:{quote(password, safe='', errors='replace')}@"
    for url in (f"redis://{login}h", f"unix://{login}/s", f"sentinel://{login}h?master=m"):
        assert parse_address(url).login == Login(user, password)


@given(st.text(min_size=1))
def test_any_text_is_a_url_or_refused_in_one_line(text: str) -> None:
    try:
        said = parse_address(text).shown
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


def test_the_password_is_never_shown() -> None:
    for url in ("redis://u:s3cret@h:x", "foo://u:s3cret@h", "redis://u:s3cret@h/db", "sentinel://u:s3cret@h"):
        with pytest.raises(UsageError) as caught:
            parse_address(url)
        assert "s3cret" not in str(caught.value)
    address = parse_address("sentinel://u:s3cret@h?master=m&sentinel_password=s3cret")
    assert "s3cret" not in f"{address} {address!r}"
