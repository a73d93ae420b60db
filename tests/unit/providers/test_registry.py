from __future__ import annotations

import os
from pathlib import Path

import httpx
import orjson
import pytest
from samples import TOOLS

from swarmq.errors import EnvironmentFault, PermanentModelError, UsageError
from swarmq.models.messages import system, user
from swarmq.providers.registry import Models
from swarmq.providers.windows import DEFAULT_WINDOW_TOKENS, context_window_tokens
from swarmq.settings import EndpointSettings, Settings

SCRIPT = "conversations: [{match: hello, turns: [{text: hi}]}]"
ANSWER = {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def settings(**endpoints: EndpointSettings) -> Settings:
    return Settings(endpoints=endpoints)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return f"scripted:{path}"


@pytest.mark.parametrize("spec", ["", "gpt-5", "openai:", ":gpt-5", "openai: "])
def test_a_model_without_an_endpoint_or_name_is_told_the_form(spec: str) -> None:
    with pytest.raises(UsageError, match="write ENDPOINT:NAME; endpoints are anthropic, openai, scripted:FILE"):
        Models(settings()).check(spec)


def test_an_unknown_endpoint_is_told_the_known_ones() -> None:
    models = Models(settings(mine=EndpointSettings(base_url="http://localhost:1/v1")))
    models.check("mine:any")
    with pytest.raises(UsageError, match=r"'yours': known are anthropic, mine, openai, .*; add \[endpoints.yours\]"):
        models.check("yours:any")


async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(settings())
    with pytest.raises(EnvironmentFault, match="'openai': set the variable OPENAI_API_KEY"):
        models.check("openai:gpt-5")
    with pytest.raises(EnvironmentFault, match="ANTHROPIC_API_KEY"):
        await models.open("anthropic:claude-sonnet-5")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e9")
    with pytest.raises(EnvironmentFault, match="OPENAI_API_KEY holds characters that no key has"):
        models.check("openai:gpt-5")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    models.check("openai:gpt-5")


@pytest.mark.parametrize(
    ("spec", "url", "auth", "limit"),
    [
        ("openai:gpt-5", "https://api.openai.com/v1/chat/completions", "authorization", "max_completion_tokens"),
        ("anthropic:claude-sonnet-5", "https://api.anthropic.com/v1/messages", "x-api-key", "max_tokens"),
    ],
)
async def test_the_built_in_endpoints(
    spec: str, url: str, auth: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        content = {"content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}
        return httpx.Response(200, json={**ANSWER, **content})

    monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-1")
    model = await Models(settings(), lambda: httpx.MockTransport(handler)).open(spec)
    conversation = model.conversation(TOOLS)
    conversation.append(system("s"))
    conversation.append(user("u"))
    completion = await conversation.complete(max_output_tokens=9, temperature=None, timeout_seconds=5)
    assert completion.message.text == "ok"
    assert model.name == spec
    request = seen[0]
    assert str(request.url) == url
    assert request.headers[auth] == ("Bearer sk-1" if auth == "authorization" else "sk-1")
    payload = orjson.loads(request.content)
    assert (payload["model"], payload[limit]) == (spec.partition(":")[2], 9)


async def test_a_named_endpoints_headers_and_window_win() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"content": [], "stop_reason": "end_turn"})

    endpoint = EndpointSettings(
        dialect="anthropic",
        base_url="http://gateway.example/",
        context_window_tokens=32_000,
        headers={"Anthropic-Version": "2026-10-21", "X-Team": "a"},
    )
    model = await Models(settings(gate=endpoint), lambda: httpx.MockTransport(handler)).open("gate:vendor/model:8b")
    assert model.context_window_tokens == 32_000
    conversation = model.conversation(())
    conversation.append(user("u"))
    await conversation.complete(max_output_tokens=9, temperature=None, timeout_seconds=5)
    assert str(seen[0].url) == "http://gateway.example/v1/messages"
    assert seen[0].headers.get_list("anthropic-version") == ["2026-10-21"]
    assert (seen[0].headers["x-team"], "x-api-key" in seen[0].headers) == ("a", False)
    assert orjson.loads(seen[0].content)["model"] == "vendor/model:8b"


async def test_what_one_conversation_learns_all_know() -> None:
    bodies: list[dict[str, object]] = []
    told = "Function tools with reasoning_effort are not supported for m. Set reasoning_effort to 'none'."

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        if "reasoning_effort" not in bodies[-1]:
            return httpx.Response(400, json={"error": {"message": told, "param": "reasoning_effort"}})
        return httpx.Response(200, json=ANSWER)

    models = Models(settings(mine=EndpointSettings(base_url="http://x/v1")), lambda: httpx.MockTransport(handler))
    for _ in range(2):
        conversation = (await models.open("mine:m")).conversation(TOOLS)
        conversation.append(user("u"))
        await conversation.complete(max_output_tokens=9, temperature=None, timeout_seconds=5)
    assert [body.get("reasoning_effort") for body in bodies] == [None, "none", "none"]


async def test_a_server_that_refuses_the_concession_too_is_not_asked_again() -> None:
    told = "tools with reasoning_effort are not supported"
    mock = httpx.MockTransport(lambda _: httpx.Response(400, json={"error": {"message": told}}))
    models = Models(settings(mine=EndpointSettings(base_url="http://x/v1")), lambda: mock)
    conversation = (await models.open("mine:m")).conversation(TOOLS)
    conversation.append(user("u"))
    with pytest.raises(PermanentModelError, match="mine: HTTP 400"):
        await conversation.complete(max_output_tokens=9, temperature=None, timeout_seconds=5)


def test_a_script_has_to_be_there_and_to_parse(tmp_path: Path) -> None:
    models = Models(settings())
    models.check(write(tmp_path / "good.yaml", SCRIPT))
    with pytest.raises(UsageError, match="absolute path"):
        models.check("scripted:good.yaml")
    with pytest.raises(UsageError, match="No such file"):
        models.check(f"scripted:{tmp_path}/none.yaml")
    with pytest.raises(UsageError, match=r"bad.yaml: conversations.0.turns.0.txet: no such field"):
        models.check(write(tmp_path / "bad.yaml", "conversations: [{match: a, turns: [{txet: b}]}]"))
    with pytest.raises(UsageError, match="Is a directory"):
        models.check(f"scripted:{tmp_path}")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_script_is_served_over_http_once_per_file(tmp_path: Path, dialect: str) -> None:
    models = Models(settings())
    spec = write(tmp_path / "script.yaml", f"dialect: {dialect}\n{SCRIPT}")
    model = await models.open(spec)
    assert await models.open(spec) is model
    assert (model.name, model.context_window_tokens) == (spec, DEFAULT_WINDOW_TOKENS)
    assert await say(models, spec, "hello") == "hi"
    with pytest.raises(PermanentModelError, match="scripted: HTTP 400: no conversation of the script matches 'bye'"):
        await say(models, spec, "bye")
    await models.aclose()


async def test_a_script_that_was_edited_is_read_again(tmp_path: Path) -> None:
    models = Models(settings())
    spec = write(tmp_path / "script.yaml", SCRIPT)
    assert await say(models, spec, "hello") == "hi"
    write(tmp_path / "script.yaml", SCRIPT.replace("hi", "ho"))
    os.utime(tmp_path / "script.yaml", ns=(1, 1))
    assert await say(models, spec, "hello") == "ho"
    await models.aclose()


async def test_closing_stops_the_servers_and_opening_starts_them_again(tmp_path: Path) -> None:
    models = Models(settings())
    spec = write(tmp_path / "script.yaml", SCRIPT)
    before = (await models.open(spec)).conversation(())
    before.append(user("hello"))
    await models.aclose()
    assert await say(models, spec, "hello") == "hi"
    await models.aclose()
    await before.aclose()


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-sonnet-4-5-20250929", 200_000),
        ("anthropic/claude-opus-5-5", 1_000_000),
        ("gpt-5.6-sol", 272_000),
        ("GPT-4o-mini", 128_000),
        ("llama-of-my-own", DEFAULT_WINDOW_TOKENS),
    ],
)
def test_windows(model: str, tokens: int) -> None:
    assert context_window_tokens(model) == tokens


async def say(models: Models, spec: str, text: str) -> str:
    conversation = (await models.open(spec)).conversation(())
    conversation.append(user(text))
    try:
        completion = await conversation.complete(max_output_tokens=100, temperature=None, timeout_seconds=5)
    finally:
        await conversation.aclose()
    return completion.message.text
