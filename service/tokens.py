"""Tokens of the REST service: who may do what, until when. A file keeps their hashes, never themselves.

A token is 256 random bits: one hash of it is enough, as there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal, get_args

from topostrata.errors import ConflictError, InvalidInputError, NotFoundError, SettingsError
from topostrata.settings import Settings, others_can_read
from topostrata.store.engine_files import FileLock

Scope = Literal["read", "write", "query", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FORMAT = 1
_PATIENCE_S = 10.0  # for whoever is changing the file
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
AGE_PATTERN = r"([1-9][0-9]{0,3})([hdwy])"
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. ``scopes``: ``admin`` may do everything, ``query`` may ask in Cypher."""

    json_names: ClassVar = {"digest": None}

    name: str
    digest: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def state(self) -> Literal["valid", "expired", "revoked"]:
        """Whether it still counts."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "valid"

    def may(self, scope: Scope) -> bool:
        """Whether it lets its bearer do what needs this scope."""
        return self.state == "valid" and (scope in self.scopes or "admin" in self.scopes)


def digest_of(token: str | bytes) -> str:
    """The hash by which a token is known."""
    return hashlib.sha256(token if isinstance(token, bytes) else token.encode()).hexdigest()


def tokens_path(settings: Settings, store: str | None) -> Path:
    """Where the tokens of a service on that store are kept.

    Raises ``SettingsError`` for a server, beside which there is no place of its own, where the setting is not there.
    """
    if settings.api_tokens_file is not None:
        return settings.api_tokens_file
    place = store or settings.store
    if "://" in place:
        raise SettingsError(
            "tokens: expected a file to keep them in, found none, as the archive is on a server",
            hint="set TOPOSTRATA_API_TOKENS_FILE to one that only this account can read",
        )
    return Path(place).expanduser() / "tokens.json"


def lifetime(text: str) -> timedelta:
    """How long: ``12h``, ``30d``, ``8w``, ``1y``; at most a century."""
    match = re.fullmatch(AGE_PATTERN, text)
    hours = 0 if match is None else int(match[1]) * _HOURS[match[2]]
    if not 0 < hours <= 100 * _HOURS["y"]:
        raise InvalidInputError(
            f"expires: expected hours, days, weeks or years such as 30d, at most 100y, found {text[:80]!r}"
        )
    return timedelta(hours=hours)


class TokenFile:
    """The tokens in a file that only its owner can read; it is replaced whole, so that readers see all or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def tokens(self) -> list[Token]:
        """All of them, by name; none where there is no file.

        Raises ``SettingsError`` where others can read the file, or where it is damaged.
        """
        return sorted(self._read().values(), key=lambda token: token.name)

    def find(self, digest: str) -> Token | None:
        """The token of that hash, as the file has it now."""
        return self._read().get(digest)

    def create(self, name: str, scopes: Iterable[Scope], *, expires: timedelta | None = None) -> str:
        """Make a token and give it: it is shown this once.

        Raises ``ConflictError`` where there is a valid one of that name, ``InvalidInputError`` for a name or scope that
        is none.
        """
        wanted = tuple(scope for scope in SCOPES if scope in set(scopes))
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInputError(
                f"token: expected a name of letters, digits, '.', '_' and '-', at most 64, found {name[:80]!r}"
            )
        if not wanted or set(scopes) - set(SCOPES):
            raise InvalidInputError(
                f"token: expected scopes among {', '.join(SCOPES)}, found {', '.join(scopes) or 'none'}"
            )
        secret = f"ts_{secrets.token_urlsafe(32)}"
        with self._changing() as tokens:
            if any(token.name == name and token.state == "valid" for token in tokens):
                raise ConflictError(f"token {name!r}: expected none of this name, found one", hint="revoke it first")
            now = datetime.now(UTC).replace(microsecond=0)
            token = Token(name, digest_of(secret), wanted, now, None if expires is None else now + expires)
            self._write([*(known for known in tokens if known.name != name), token])
        return secret

    def revoke(self, name: str) -> None:
        """Let a token count no longer, from the next request on. Raises ``NotFoundError`` where there is none."""
        with self._changing() as tokens:
            if not any(token.name == name and token.revoked_at is None for token in tokens):
                raise NotFoundError(
                    f"token {name!r}: expected one of this name, found none",
                    hint="`topostrata token ls`, GET /v1/tokens",
                )
            now = datetime.now(UTC).replace(microsecond=0)
            self._write([replace(token, revoked_at=now) if token.name == name else token for token in tokens])

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens, while nobody else changes them: what two write at once would be lost for one of them."""
        self._read()  # what cannot be read is said before anything is made beside it
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
            free = lock.wait_exclusive(time.monotonic() + _PATIENCE_S)
        except OSError as error:
            raise SettingsError(f"{self.path}: expected a place to write, found: {error.strerror}") from error
        if not free:
            raise ConflictError(
                f"{self.path}: expected a file that nobody else is changing, found one that somebody is"
            )
        try:
            yield list(self._read().values())
        finally:
            lock.release()

    def _read(self) -> dict[str, Token]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._mark, self._tokens = None, {}
            return self._tokens
        except OSError as error:
            raise SettingsError(f"{self.path}: expected a file of tokens, found: {error.strerror}") from error
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if mark != self._mark:
            if others_can_read(self.path):
                raise SettingsError(
                    f"{self.path}: expected a file that only its owner can read, found one that others can",
                    hint=f"chmod 600 {self.path}",
                )
            self._tokens = {token.digest: token for token in self._parsed()}
            self._mark = mark
        return self._tokens

    def _parsed(self) -> list[Token]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if document["format"] == FORMAT:
                return [
                    Token(
                        str(entry["name"]),
                        str(entry["digest"]),
                        tuple(scope for scope in SCOPES if scope in entry["scopes"]),
                        datetime.fromisoformat(entry["created_at"]),
                        _time(entry["expires_at"]),
                        _time(entry["revoked_at"]),
                    )
                    for entry in document["tokens"]
                ]
            version = str(document["format"])[:20]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{self.path}: expected a file of tokens, found a damaged one") from error
        raise SettingsError(f"{self.path}: expected tokens of format {FORMAT}, found {version}")

    def _write(self, tokens: Iterable[Token]) -> None:
        entries = [
            {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(token).items()}
            for token in tokens
        ]
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"format": FORMAT, "tokens": entries}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self.path)
        except OSError as error:
            raise SettingsError(f"{self.path}: expected a place to write, found: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
