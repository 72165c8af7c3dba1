"""Settings: secrets from a variable or a file, never weak, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from topostrata.errors import SettingsError
from topostrata.settings import Settings, load_settings

TOKEN = "0123456789abcdef0123456789abcdef"
VARIABLE = "TOPOSTRATA_API_TOKEN"


def test_no_token_is_no_token() -> None:
    """Where none is set there is none: the API is open then, and for loopback alone."""
    assert Settings().api_secret() is None


def test_a_token_comes_from_its_variable_or_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The end of the line in a file is not part of it."""
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert load_settings().api_secret() == TOKEN
    monkeypatch.delenv(VARIABLE)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv(f"{VARIABLE}_FILE", str(file))
    assert load_settings().api_secret() == TOKEN
    monkeypatch.setenv(VARIABLE, TOKEN)
    with pytest.raises(SettingsError, match=f"{VARIABLE} or {VARIABLE}_FILE, found both"):
        load_settings().api_secret()
    monkeypatch.delenv(VARIABLE)
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings().api_secret()


@pytest.mark.parametrize(
    "weak", ["", "short", TOKEN[:-1], "a" * 64, "ab" * 32, TOKEN + " with spaces", TOKEN + "é", f'"{TOKEN}"']
)
@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_a_weak_token_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weak: str, suffix: str
) -> None:
    """Empty, short, repeated, or what no header can carry: an error, not an open server."""
    if suffix:
        (tmp_path / "token").write_text(weak, encoding="utf-8")
    monkeypatch.setenv(VARIABLE + suffix, str(tmp_path / "token") if suffix else weak)
    with pytest.raises(SettingsError, match=f"{VARIABLE}: expected 32 random characters") as caught:
        load_settings().api_secret()
    assert not weak or weak not in str(caught.value)


def test_secrets_are_masked_where_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever prints the settings prints no secret."""
    monkeypatch.setenv(VARIABLE, TOKEN)
    settings = load_settings()
    assert TOKEN not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_hosts_are_names_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Host header has them, without the port."""
    assert Settings().api_names() == frozenset()
    monkeypatch.setenv("TOPOSTRATA_API_HOSTS", "Archive.example.org, 10.0.0.7,[fe80::1],")
    assert load_settings().api_names() == {"archive.example.org", "10.0.0.7", "[fe80::1]"}


@pytest.mark.parametrize("wrong", ["*", "*.example.org", "http://example.org", "example.org:8321", "a b", "/"])
def test_a_host_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """No wildcard: it would take the check away that names are there for."""
    monkeypatch.setenv("TOPOSTRATA_API_HOSTS", wrong)
    with pytest.raises(SettingsError, match=r"TOPOSTRATA_API_HOSTS: .*without scheme, port or"):
        load_settings()
