"""What can be set from outside: ``TOPOSTRATA_*`` in the environment. Arguments beat the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topostrata.errors import InvalidInputError, SettingsError
from topostrata.projections import projection_in

PREFIX = "TOPOSTRATA_"
DEFAULT_STORE = ".topostrata"
_SHORTEST_SECRET = 8  # as Neo4j itself asks for
_SHORTEST_TOKEN = 32  # long enough that it cannot be guessed, and that one hash of it is enough to store
_LEAST_VARIED_TOKEN = 8  # different characters; a random one has more
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a Bearer header can carry (RFC 6750, section 2.1)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_COMMON_SECRETS = {"password", "neo4jneo4j", "12345678", "changeme", "changeit", "letmein1"}
# Only the tests read these; they are known here, so that the check for unknown names accepts them.
_OTHERS = ("TOPOSTRATA_REFERENCE_TOPOLOGIES", "TOPOSTRATA_CASES", "TOPOSTRATA_TEST_")


class Settings(BaseSettings):
    """Every setting with its default; ``topostrata doctor`` shows those in force."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    store: str = Field(DEFAULT_STORE, description="path of an embedded archive, or the URI of a server or service")
    engine_idle_seconds: float = Field(60.0, ge=0, description="how long the embedded engine outlives its last user")
    engine_memory: str | None = Field(
        None,
        pattern=r"^\d+[mg]$",
        description="heap of the embedded engine, such as 2g; default: a quarter of the machine's or container's "
        "memory, at least 128m and at most 1g",
    )
    engine_java_options: str = Field(
        "",
        description="further options of the embedded engine's Java; with -XX:TieredStopAtLevel=1 it starts sooner, "
        "and works half as fast from then on",
    )
    neo4j_user: str = Field("neo4j", min_length=1, description="user on a Neo4j server")
    neo4j_password: SecretStr | None = Field(None, description="password on a Neo4j server")
    neo4j_password_file: Path | None = Field(None, description="file that holds the password")
    neo4j_database: str = Field("neo4j", min_length=1, description="database on a Neo4j server")
    neo4j_ca_file: Path | None = Field(None, description="certificates to trust on a Neo4j server reached by +s://")
    query_timeout_s: float = Field(10.0, gt=0, le=600, description="longest a user's Cypher query may take, seconds")
    query_rows: int = Field(1000, ge=1, le=1_000_000, description="most rows a user's Cypher query gives")
    memory_bytes: int | None = Field(
        None,
        ge=2**20,
        description="most memory that reading a snapshot or matching two networks may take, bytes; "
        "default: half of the machine's",
    )
    max_body_bytes: int = Field(64 * 2**20, ge=1024, description="largest body of a REST request, bytes")
    request_timeout_s: float = Field(
        20.0,
        gt=0,
        le=600,
        description="how long REST waits for a head, for more of a body, and for an answer to be taken",
    )
    stop_timeout_s: int = Field(
        10, ge=0, le=600, description="how long answers under way have when REST is stopped, before they are cut off"
    )
    api_token: SecretStr | None = Field(None, description="token that every REST request must show")
    api_token_file: Path | None = Field(None, description="file that holds the token")
    api_tokens_file: Path | None = Field(
        None,
        description="file of the tokens that `topostrata token` makes; default: tokens.json of an embedded archive",
    )
    mode: Literal["online", "offline", "disabled"] = Field("online", description="how a training job records its runs")
    spool: Path = Field(Path(".topostrata-spool"), description="directory in which snapshots of a training job wait")
    spool_bytes: int = Field(
        8 * 2**30, ge=2**16, description="largest file of a spool, bytes; what is new is refused then"
    )
    queue_bytes: int = Field(256 * 2**20, ge=2**20, description="most memory of snapshots not yet on the disk, bytes")
    projection: str = Field(
        "all", description='connections of a training job\'s runs that Cypher can see: all, none, LAYERS or "last N"'
    )
    api_hosts: str = Field("", description="names that REST answers to besides those of loopback, separated by commas")

    @field_validator("api_hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        wrong = [name for name in _split(value) if not _HOST.fullmatch(name)]
        if wrong:
            raise ValueError("expected names such as archive.example.org, without scheme, port or *")
        return value

    @field_validator("engine_java_options")
    @classmethod
    def _options(cls, value: str) -> str:
        if wrong := [word for word in value.split() if not word.startswith("-")]:
            raise ValueError(f"expected options separated by spaces, each with - in front, found {wrong[0]}")
        return value

    @field_validator("projection")
    @classmethod
    def _projection(cls, value: str) -> str:
        try:
            projection_in(value)
        except InvalidInputError as error:
            raise ValueError(error.message) from None
        return value

    def api_names(self) -> frozenset[str]:
        """The names of ``api_hosts``, as a request's Host header has them."""
        return frozenset(_split(self.api_hosts))

    def api_secret(self) -> str | None:
        """The token of the REST API, from the setting or its file; None if none is set, an error for a weak one."""
        secret = self._secret("api_token")
        if secret is None:
            return None
        if len(secret) < _SHORTEST_TOKEN:
            weakness = f"{len(secret)} characters" if secret else "none"
        elif len(set(secret)) < _LEAST_VARIED_TOKEN:
            weakness = "a few characters over and over"
        elif not _TOKEN.fullmatch(secret):
            weakness = "others among them"
        else:
            return secret
        raise SettingsError(
            f"TOPOSTRATA_API_TOKEN: expected {_SHORTEST_TOKEN} random characters or more of A-Z a-z 0-9 - . _ ~ + /, "
            f"found {weakness}",
            hint="`openssl rand -hex 32` makes one",
        )

    def neo4j_secret(self) -> str:
        """The password, from the setting or its file; an error if there is none or if it is easily guessed."""
        secret = self._secret("neo4j_password")
        if not secret:
            raise SettingsError(
                "a Neo4j server needs a password, found none",
                hint="set TOPOSTRATA_NEO4J_PASSWORD or TOPOSTRATA_NEO4J_PASSWORD_FILE",
            )
        if len(secret) < _SHORTEST_SECRET or secret.lower() in _COMMON_SECRETS:
            raise SettingsError(
                f"the password of the Neo4j server: expected {_SHORTEST_SECRET} characters or more and not a common "
                f"word, found one that anybody would try"
            )
        return secret

    def _secret(self, name: str) -> str | None:
        """A secret from its setting or its file; None where neither is set."""
        variable, value, file = PREFIX + name.upper(), getattr(self, name), getattr(self, f"{name}_file")
        if file is None:
            return None if value is None else str(value.get_secret_value())
        if value is not None:
            raise SettingsError(f"expected {variable} or {variable}_FILE, found both")
        if others_can_read(file):
            raise SettingsError(
                f"{variable}_FILE: expected a file that only its owner can read, found {file}, which others can",
                hint=f"chmod 600 {file}",
            )
        try:
            text: str = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"{variable}_FILE: {file} cannot be read: {reason}") from None
        return text.strip()


def others_can_read(path: Path) -> bool:
    """Whether other accounts of this machine can read a secret; what is mounted for a container alone they cannot."""
    try:
        if not path.stat().st_mode & 0o044 or path.resolve().is_relative_to("/run/secrets"):
            return False
        return all(folder.stat().st_mode & 0o011 for folder in path.resolve().parents)
    except OSError:  # whoever reads it says what is wrong
        return False


def _split(names: str) -> list[str]:
    return [name.strip().lower() for name in names.split(",") if name.strip()]


def load_settings() -> Settings:
    """The settings in force; unknown ``TOPOSTRATA_*`` names and values that are not allowed are errors."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in os.environ
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.startswith(_OTHERS)
    )
    if unknown:
        raise SettingsError(f"unknown settings {', '.join(unknown)}", hint=f"known are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{name}: {first['msg']}, found {first['input']!r}") from None
