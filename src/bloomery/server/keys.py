"""KeyRing: several API keys with names, from a file that holds only their salted hashes.

    [alice]                          # the name: who it is in the ledger and the audit log
    salt = "..."                     # hex
    hash = "..."                     # HMAC-SHA256 of the key under the salt, hex
    rights = ["inspect", "admin"]    # optional, as are the limits
    requests_per_minute = 60
    tokens_per_minute = 100000
    concurrent_requests = 4

TOML, or JSON where the name ends so. Keys are made here with 256 random bits, which nobody can try out: a slow hash
would only let strangers keep the server busy. The file is read again when it has changed, so that a key is revoked by
deleting its table. What a key has used of its limits is known to one process alone: `reading_keys` tells whether there
are several. This module does not know HTTP.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.config import from_dict
from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.server.allowance import Allowance, Limits
from bloomery.server.tenant import ANONYMOUS, RIGHTS, Tenant

log = logging.getLogger("bloomery.server")
OWNER = "owner"
"""The name of whoever has the one key of the environment; every right, no limit."""
PREFIX = "blm-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{32,128}")
_MAX_FILE_BYTES = 4 * 1024 * 1024
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class KeyEntry:
    """One table of a keys file. ConfigError for what is no hash, or no right."""

    salt: str
    hash: str
    rights: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.salt) or not re.fullmatch(r"[0-9a-f]{64}", self.hash):
            raise ConfigError("salt and hash should be hex digits", hint="a key is made with `bloomery keys`")
        for right in self.rights:
            if right not in RIGHTS:
                raise ConfigError(f"unknown right {right!r:.40}", hint="known: " + ", ".join(RIGHTS))

    @property
    def limits(self) -> Limits:
        return Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
        )

    def fits(self, key: bytes) -> bool:
        """Whether this is the hash of a key, in a time that does not depend on how much of it is."""
        return hmac.compare_digest(_hash(self.salt, key), self.hash)


class KeyRing:
    """Thread-safe. Without a file and an owner's key, everybody is anonymous (`open` is True)."""

    def __init__(self, path: str | Path | None = None, *, owner_key: str = "") -> None:
        """ConfigError for a file that cannot be read, or has no key."""
        self._path = Path(path) if path else None
        self._lock = threading.Lock()
        self._held: dict[str, tuple[KeyEntry, Tenant]] = {}
        if owner_key:
            salt = secrets.token_hex(16)
            entry = KeyEntry(salt=salt, hash=_hash(salt, owner_key.encode()), rights=RIGHTS)
            self._owner = [(entry, Tenant(name=OWNER, rights=frozenset(RIGHTS)))]
        else:
            self._owner = []
        self._version: tuple[int, ...] = ()
        self._looked = time.monotonic()
        if self._path is not None:
            self._version = _version(self._path)
            self._take(read_keys(self._path))
            if not self._held and not self._owner:
                raise ConfigError(f"{self._path} holds no key", hint=f"bloomery keys {self._path} --new NAME")

    @property
    def open(self) -> bool:
        return self._path is None and not self._owner

    def find(self, key: str) -> Tenant | None:
        """Whose key it is. Every key is compared, whichever fits."""
        self._look_again()
        given, found = key.encode("utf-8", "surrogateescape"), None
        for entry, tenant in [*self._owner, *self._held.values()]:
            if entry.fits(given):
                found = tenant
        return found

    def _look_again(self) -> None:
        if self._path is None or time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        with self._lock:
            self._looked = time.monotonic()
            try:
                version = _version(self._path)
                if version != self._version:
                    self._version = version
                    self._take(read_keys(self._path))
            except BloomeryError as error:
                log.error("the keys stay as they were: %s", error.one_line())

    def _take(self, entries: Mapping[str, KeyEntry]) -> None:
        """New entries; who keeps their limits keeps what they have used of them."""
        held = {}
        for name, entry in entries.items():
            before = self._held.get(name)
            same = before is not None and before[0].limits == entry.limits
            allowance = before[1].allowance if same and before is not None else Allowance(entry.limits)
            held[name] = (entry, Tenant(name=name, rights=frozenset(entry.rights), allowance=allowance))
        self._held = held


def read_keys(path: Path) -> dict[str, KeyEntry]:
    """The entries of a keys file by name. ConfigError, in one line, for whatever is wrong with it."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_FILE_BYTES:,} bytes")
        text = path.read_text("utf-8")
        tables: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        hint = f"bloomery keys {path} --new NAME"
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # TOML, JSON and UTF-8 errors
        raise ConfigError(f"{path} is damaged: {str(error) or type(error).__name__:.200}") from error
    entries = {}
    for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
        if not isinstance(table, dict):
            raise ConfigError(f"{path} should hold one table for each key")
        check_name(name)
        entries[name] = from_dict(KeyEntry, table, where=name)
        _ = entries[name].limits  # checks them
    return entries


@contextmanager
def reading_keys(path: str | Path) -> Iterator[bool]:
    """While a server runs: whether another one has this keys file already, as far as the file system can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        yield not _alone(descriptor)
    finally:
        os.close(descriptor)


def _alone(descriptor: int) -> bool:
    """Share the file from now on; whether nobody else does (a file system without locks knows of nobody)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    except OSError:
        return True
    with suppress(OSError):  # a server does not wait for whoever keeps the file to himself
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return alone


def add_key(path: Path, name: str, *, rights: tuple[str, ...] = (), limits: Limits | None = None) -> str:
    """Make a key, append its table to a TOML file (made, for its owner's eyes only, where there is none), and return
    the key, which is written nowhere. ConfigError for a name that is taken or not a name, or a JSON file."""
    check_name(name)
    if path.suffix == ".json":
        raise ConfigError(f"{path} is JSON, to which nothing can be appended", hint="name a .toml file")
    known = read_keys(path) if path.exists() else {}
    if name in known:
        raise ConfigError(f"{path} has a key {name!r} already", hint="delete its table to revoke it")
    limits = limits or Limits()
    key, salt = PREFIX + secrets.token_urlsafe(32), secrets.token_hex(16)
    KeyEntry(salt=salt, hash=_hash(salt, key.encode()), rights=rights)
    lines = [f"[{name}]", f'salt = "{salt}"', f'hash = "{_hash(salt, key.encode())}"']
    lines += [f"rights = {json.dumps(list(rights))}"] if rights else []
    for field in ("requests_per_minute", "tokens_per_minute", "concurrent_requests"):
        lines += [f"{field} = {value}"] if (value := getattr(limits, field)) is not None else []
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(("\n" if known else "") + "\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    return key


def check_name(name: str) -> None:
    """ConfigError for what cannot be the name of a key."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r:.80} is no name for a key", hint="letters, digits, - and _, 64 at most")
    if name in (OWNER, ANONYMOUS):
        raise ConfigError(f"{name!r} is a name that the server keeps for itself", hint="choose another")


def _hash(salt: str, key: bytes) -> str:
    return hmac.new(bytes.fromhex(salt), key, hashlib.sha256).hexdigest()


def _version(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    return (found.st_mtime_ns, found.st_size, found.st_ino)
