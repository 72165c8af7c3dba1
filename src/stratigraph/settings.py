"""What can be set from outside: ``STRATIGRAPH_*`` in the environment. Arguments beat the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stratigraph.errors import SettingsError

PREFIX = "STRATIGRAPH_"
_SHORTEST_SECRET = 8  # as Neo4j itself asks for
_COMMON_SECRETS = {"password", "neo4jneo4j", "12345678", "changeme", "changeit", "letmein1"}
# Read by the tests alone, so that a developer's environment does not fail the check for unknown keys.
_OTHERS = ("STRATIGRAPH_REFERENCE_TOPOLOGIES", "STRATIGRAPH_TEST_")


class Settings(BaseSettings):
    """Every setting with its default; ``stratigraph doctor`` shows those in force."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    store: str = Field(".stratigraph", description="path of an embedded archive, or the URI of a Neo4j server")
    engine_idle_seconds: float = Field(60.0, ge=0, description="how long the embedded engine outlives its last user")
    engine_memory: str = Field("1g", pattern=r"^\d+[mg]$", description="heap of the embedded engine")
    neo4j_user: str = Field("neo4j", min_length=1, description="user on a Neo4j server")
    neo4j_password: SecretStr | None = Field(None, description="password on a Neo4j server")
    neo4j_password_file: Path | None = Field(None, description="file that holds the password")
    neo4j_database: str = Field("neo4j", min_length=1, description="database on a Neo4j server")
    neo4j_ca_file: Path | None = Field(None, description="certificates to trust on a Neo4j server reached by +s://")
    query_timeout_s: float = Field(10.0, gt=0, le=600, description="longest a user's Cypher query may take, seconds")
    query_rows: int = Field(1000, ge=1, le=1_000_000, description="most rows a user's Cypher query gives")
    max_body_bytes: int = Field(64 * 2**20, ge=1024, description="largest body of a REST request, bytes")

    def neo4j_secret(self) -> str:
        """The password, from the setting or its file; an error where there is none, or one that anybody would try."""
        file = self.neo4j_password_file
        if file is not None and self.neo4j_password is not None:
            raise SettingsError("expected STRATIGRAPH_NEO4J_PASSWORD or STRATIGRAPH_NEO4J_PASSWORD_FILE, found both")
        if file is not None:
            try:
                secret = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise SettingsError(f"STRATIGRAPH_NEO4J_PASSWORD_FILE: {file} cannot be read: {reason}") from None
        else:
            secret = self.neo4j_password.get_secret_value() if self.neo4j_password else ""
        if not secret:
            raise SettingsError(
                "a Neo4j server needs a password, found none",
                hint="set STRATIGRAPH_NEO4J_PASSWORD or STRATIGRAPH_NEO4J_PASSWORD_FILE",
            )
        if len(secret) < _SHORTEST_SECRET or secret.lower() in _COMMON_SECRETS:
            raise SettingsError(
                f"the password of the Neo4j server: expected {_SHORTEST_SECRET} characters or more and not a common "
                f"word, found one that anybody would try"
            )
        return secret


def load_settings() -> Settings:
    """The settings in force; unknown ``STRATIGRAPH_*`` names and values that are not allowed are errors."""
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
