"""KeyRing: names, hashes, rights and limits out of a file, read again when it has changed."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import stat
import tomllib
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.server import keys as keys_module
from bloomery.server.allowance import Limits
from bloomery.server.keys import PREFIX, KeyRing, add_key, read_keys, reading_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_key_is_found_by_name_and_only_its_hash_is_kept(path: Path):
    alice = add_key(path, "alice", rights=("inspect",), limits=Limits(requests_per_minute=5))
    bob = add_key(path, "bob")
    ring = KeyRing(path)
    found = ring.find(alice)
    assert found is not None and (found.name, found.rights) == ("alice", frozenset({"inspect"}))
    assert found.allowance.limits == Limits(requests_per_minute=5)
    assert (ring.find(bob) or found).name == "bob"
    for wrong in ("", PREFIX, alice[:-1], alice + "x", alice.upper(), "\udce9"):
        assert ring.find(wrong) is None
    text = path.read_text()
    assert alice not in text and alice.removeprefix(PREFIX) not in text
    table = tomllib.loads(text)["alice"]
    assert table["hash"] == hmac.new(bytes.fromhex(table["salt"]), alice.encode(), hashlib.sha256).hexdigest()
    assert table["salt"] != tomllib.loads(text)["bob"]["salt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(alice) >= 40 and not ring.open


def test_every_key_is_compared_whichever_fits(path: Path, monkeypatch):
    first, *_ = (add_key(path, name) for name in ("a", "b", "c"))
    ring, compared = KeyRing(path), []
    compare = hmac.compare_digest
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda a, b: compared.append(1) or compare(a, b))
    for key in (first, "wrong"):
        compared.clear()
        ring.find(key)
        assert len(compared) == 3


def test_the_owners_key_has_every_right(path: Path):
    ring = KeyRing(owner_key="sesame")
    owner = ring.find("sesame")
    assert owner is not None and owner.name == "owner" and owner.rights == {"inspect", "admin"}
    assert ring.find("sesam") is None and not ring.open
    assert KeyRing().open and KeyRing().find("") is None


def test_a_changed_file_is_read_again_and_allowances_stay(path: Path, monkeypatch):
    monkeypatch.setattr(keys_module, "_LOOK_SECONDS", 0.0)
    alice, bob = (add_key(path, name, limits=Limits(requests_per_minute=2)) for name in ("alice", "bob"))
    ring = KeyRing(path)
    before = ring.find(alice)
    assert before is not None
    before.allowance.begin()
    carol = add_key(path, "carol")
    after = ring.find(alice)
    assert ring.find(carol) is not None
    assert after is not None and after.allowance is before.allowance
    path.write_text("[alice" + path.read_text().split("[alice")[1].split("\n[bob")[0])
    assert ring.find(bob) is None and ring.find(alice) is not None  # revoked
    path.write_text("broken")
    assert ring.find(alice) is not None  # a typing mistake locks nobody out
    path.unlink()
    assert ring.find(alice) is not None


def test_json_is_read_too(path: Path, tmp_path: Path):
    key = add_key(path, "alice")
    other = tmp_path / "keys.json"
    other.write_text(json.dumps(tomllib.loads(path.read_text())))
    assert KeyRing(other).find(key) is not None
    with pytest.raises(ConfigError, match="JSON"):
        add_key(other, "bob")


GOOD = {"salt": "0" * 32, "hash": "0" * 64}


@pytest.mark.parametrize(
    "tables",
    [[], {"a": 1}, {"a b": GOOD}, {"owner": GOOD}, {"anonymous": GOOD}, {"": GOOD}, {"a": {}},
     {"a": GOOD | {"hash": "xyz"}}, {"a": GOOD | {"salt": ""}}, {"a": GOOD | {"rights": ["root"]}},
     {"a": GOOD | {"requests_per_minute": 0}}, {"a": GOOD | {"tokens_per_minute": "9"}}, {"a": GOOD | {"limit": 1}},
     {"a": GOOD | {"key": "blm-secret"}}],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, tables):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(tables))
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert "\n" not in caught.value.one_line()


def test_files_that_are_none(tmp_path: Path, path: Path):
    for make in (lambda p: None, lambda p: p.write_bytes(b"\xff"), lambda p: p.write_text("x ="), lambda p: p.mkdir()):
        path = tmp_path / f"keys{len(list(tmp_path.iterdir()))}.toml"
        make(path)
        with pytest.raises(ConfigError):
            KeyRing(path)
    empty = tmp_path / "empty.toml"
    empty.touch()
    with pytest.raises(ConfigError, match="holds no key"):
        KeyRing(empty)
    add_key(empty, "a")
    with pytest.raises(ConfigError, match="already"):
        add_key(empty, "a")
    for name in ("", "a b", "../x", "a]\n[b", "x" * 65, "owner", "é"):
        with pytest.raises(ConfigError):
            add_key(empty, name)


def test_a_second_reader_of_a_keys_file_is_known(tmp_path: Path):
    path = tmp_path / "keys.toml"
    add_key(path, "a")
    with reading_keys(path) as first:
        with reading_keys(path) as second, reading_keys(path) as third:
            add_key(path, "b")  # nobody waits for anybody
            assert (first, second, third) == (False, True, True)
        with reading_keys(path) as again:
            assert again
    with reading_keys(path) as later:
        assert not later
    with path.open() as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        with reading_keys(path) as beside:
            assert beside
    with pytest.raises(ConfigError), reading_keys(tmp_path / "none.toml"):
        pass
