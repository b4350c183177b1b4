"""Trusted publishing: a real issuer over HTTP, its identity tokens, and what is no good of them."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from store.accounts import Accounts
from store.audit import AuditFilter, audit_rows
from tests.workers.api.place import Place
from workers.api import oidc
from workers.api.oidc import Minter
from workers.errors import IssuerUnreachableError, UntrustedError
from workers.farm.farm import Farm, open_farm
from workers.trust import Trust, parse_trust

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)

CLAIMS = {"repository": "me/mine", "ref": "refs/heads/main", "sub": "repo:me/mine:main"}


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = (
        jwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else (jwt.algorithms.RSAAlgorithm)
    )
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


class Issuer:
    """An OpenID Connect provider: a configuration, keys, and identity tokens for jobs."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [
            jwk(RSA_KEY, "one", use="sig", alg="RS256"),
            jwk(EC_KEY, "two"),
        ]
        self.changes: dict[str, Any] = {}
        self.bodies: dict[str, bytes] = {}
        self.status = 200
        self.drip = 0.0
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []

    def body(self, path: str) -> bytes:
        if path in self.bodies:
            return self.bodies[path]
        if path.endswith("/openid-configuration"):
            about = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **self.changes}
            return json.dumps(about).encode()
        return json.dumps({"keys": self.keys}).encode()

    def token(
        self, key: Any = RSA_KEY, kid: str | None = "one", algorithm: str = "RS256", **more: Any
    ) -> str:
        """The identity token of a job."""
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "wheelfarm", "iat": now, "nbf": now, "exp": now + 300,
            **CLAIMS, **more,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims, key, algorithm=algorithm, headers=headers)

    def trust(self, **more: Any) -> Trust:
        return parse_trust(self.table(**more))

    def table(self, **more: Any) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "audience": "wheelfarm",
            "claims": {"repository": "me/mine", "ref": "refs/heads/main"},
            "scopes": ["submit"],
            "channels": ["dev/mine"],
            **more,
        }


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            issuer.headers.append(dict(self.headers))
            body = issuer.body(self.path)
            self.send_response(issuer.status)
            if issuer.status in {301, 302}:
                self.send_header("location", f"{issuer.url}/elsewhere")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            for start in range(0, len(body), 64 if issuer.drip else len(body) or 1):
                self.wfile.write(body[start : start + (64 if issuer.drip else len(body))])
                time.sleep(issuer.drip)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as started:
        yield started


@pytest.fixture
def farm(tmp_path: Path, migrated: Path) -> Iterator[Farm]:
    shutil.copytree(migrated, tmp_path / "store")
    with open_farm(Place(tmp_path).settings) as opened:
        yield opened


Mint = Callable[[str], str]


@pytest.fixture
def mint(farm: Farm, issuer: Issuer) -> Mint:
    """What a job does with its identity token: gives the token of the farm that it gets."""
    minter = Minter(farm.store.database, [issuer.trust()])
    return lambda identity: minter.mint(identity, "10.0.0.1")[1].text


def test_a_job_gets_a_token_for_a_quarter_of_an_hour(
    farm: Farm, issuer: Issuer, mint: Mint
) -> None:
    text = mint(issuer.token())
    account = Accounts(farm.store.database).known(text)
    assert account.grant == issuer.trust().grant
    assert (account.name, account.origin) == ("oidc repo:me/mine:main", "minted")
    assert account.expires_at - account.created_at == timedelta(minutes=15)
    (row,) = audit_rows(farm.store.database, AuditFilter(), 10)
    assert (row.action, row.who, row.address) == (
        "token-mint", "oidc repo:me/mine:main", "10.0.0.1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(RSA_KEY, "one", "RS256"), (EC_KEY, "two", "ES256")]
)
def test_its_keys_are_fetched_once(
    issuer: Issuer, mint: Mint, key: Any, kid: str, algorithm: str
) -> None:
    for _ in range(3):
        mint(issuer.token(key, kid, algorithm))
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]
    assert not any("Authorization" in headers for headers in issuer.headers)


def test_a_new_key_is_found_after_a_while(
    issuer: Issuer, mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    mint(issuer.token())
    issuer.keys = [jwk(OTHER_KEY, "three")]
    with pytest.raises(UntrustedError, match="no key of the id"):
        mint(issuer.token(OTHER_KEY, "three"))
    assert len(issuer.asked) == 2, "an unknown key is asked for once a minute at most"
    monkeypatch.setattr(oidc, "_AGAIN_SECONDS", 0.0)
    with pytest.raises(UntrustedError):
        mint(issuer.token(OTHER_KEY, "three"))
    issuer_of_mint_waits_no_more(mint, issuer)
    with pytest.raises(UntrustedError, match="no key of the id"):
        mint(issuer.token())


def issuer_of_mint_waits_no_more(mint: Mint, issuer: Issuer) -> None:
    (minter,) = [cell.cell_contents for cell in mint.__closure__ or ()]
    assert isinstance(minter, Minter)
    minter._issuers[issuer.url]._not_before = float("-inf")
    assert mint(issuer.token(OTHER_KEY, "three"))


NOW = int(time.time())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"aud": "pypi"}, "aud is another"),
        ({"aud": None}, "aud is another"),
        ({"aud": ["a", "b"]}, "aud is another"),
        ({"aud": "wheelfarm "}, "aud is another"),
        ({"repository": "me/mine2"}, "repository is another"),
        ({"repository": "ME/MINE"}, "repository is another"),
        ({"repository": None}, "repository is another"),
        ({"repository": ["me/mine"]}, "repository is another"),
        ({"ref": "refs/heads/main2"}, "ref is another"),
        ({"ref": "refs/pull/1/merge"}, "ref is another"),
        ({"exp": NOW - 3_600}, "is over"),
        ({"exp": None}, "is over"),
        ({"exp": "soon"}, "no time"),
        ({"exp": True}, "no time"),
        ({"exp": float("nan")}, "no time"),
        ({"exp": float("inf")}, "no time"),
        ({"nbf": NOW + 3_600}, "not good yet"),
        ({"iat": NOW + 3_600}, "not good yet"),
    ],
)
def test_claims_that_differ_are_not_trusted(
    farm: Farm, issuer: Issuer, mint: Mint, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UntrustedError, match=said):
        mint(encoded(issuer, change))
    assert Accounts(farm.store.database).all() == []


def encoded(issuer: Issuer, change: dict[str, Any]) -> str:
    """A signed token whose claims a library would refuse to write."""
    whole = jwt.decode(issuer.token(), options={"verify_signature": False}) | change
    claims = {name: value for name, value in whole.items() if value is not None}
    return jwt.PyJWS().encode(
        json.dumps(claims).encode(), RSA_KEY, algorithm="RS256", headers={"kid": "one"}
    )


def test_an_audience_among_several_is_enough(issuer: Issuer, mint: Mint) -> None:
    assert mint(issuer.token(aud=["other", "wheelfarm"]))


def _public_pem() -> bytes:
    return RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _by_hand(header: Mapping[str, Any], issuer: Issuer, signature: bytes = b"") -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"iss": issuer.url, "aud": "wheelfarm", "exp": NOW + 3_600, **CLAIMS}
    head, body = json.dumps(header).encode(), json.dumps(claims).encode()
    return ".".join(map(part, (head, body, signature)))


@pytest.mark.parametrize(
    "forge",
    [
        lambda issuer: issuer.token(OTHER_KEY),
        lambda issuer: issuer.token(EC_KEY, "one", "ES256"),
        lambda issuer: issuer.token(RSA_KEY, "two"),
        lambda issuer: issuer.token(kid="no such"),
        lambda issuer: issuer.token(kid=None),
        lambda issuer: issuer.token(algorithm="PS256"),
        lambda issuer: _by_hand({"alg": "none", "kid": "one"}, issuer),
        lambda issuer: _by_hand({"alg": "RS256", "kid": "one"}, issuer, b"x" * 256),
        lambda issuer: _by_hand({"alg": "HS256", "kid": "one"}, issuer, b"x" * 32),
        lambda issuer: _by_hand({"alg": "RS256", "kid": ["one"]}, issuer),
        lambda issuer: issuer.token(iss="http://127.0.0.1:1"),
        lambda issuer: issuer.token(iss=issuer.url + "/"),
        lambda issuer: issuer.token()[:-4] + "AAAA",
        lambda issuer: issuer.token() + ".x",
        lambda _: "a.b.c",
        lambda _: "x",
        lambda _: "..",
        lambda _: "é.é.é",
    ],
)
def test_what_its_issuer_did_not_sign_is_not_believed(
    farm: Farm, issuer: Issuer, mint: Mint, forge: Callable[[Issuer], str]
) -> None:
    with pytest.raises(UntrustedError):
        mint(forge(issuer))
    assert Accounts(farm.store.database).all() == []


def test_a_public_key_is_no_secret_of_hmac(issuer: Issuer, mint: Mint) -> None:
    """The old trick: the token says HS256, and its key is what everybody can read."""
    import hashlib
    import hmac

    unsigned = _by_hand({"alg": "HS256", "kid": "one"}, issuer).rpartition(".")[0]
    mac = hmac.new(_public_pem(), unsigned.encode(), hashlib.sha256).digest()
    with pytest.raises(UntrustedError):
        mint(_by_hand({"alg": "HS256", "kid": "one"}, issuer, mac))


@pytest.mark.parametrize(
    "keys",
    [
        [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "one", "alg": "HS256"}],
        [jwk(RSA_KEY, "one", use="enc")],
        [jwk(SHORT_KEY, "one")],
    ],
)
def test_keys_that_are_not_for_signing_or_too_weak_sign_nothing(
    issuer: Issuer, mint: Mint, keys: list[dict[str, Any]]
) -> None:
    issuer.keys = keys
    key = {"oct": "secretsecretsecretsecret"}.get(keys[0]["kty"], RSA_KEY)
    if keys[0]["n" if "n" in keys[0] else "k"] == jwk(SHORT_KEY, "one")["n"]:
        key = SHORT_KEY
    algorithm = "HS256" if keys[0]["kty"] == "oct" else "RS256"
    with pytest.warns() if key is not RSA_KEY else _no_warning():
        identity = issuer.token(key, "one", algorithm)
    with pytest.raises(UntrustedError):
        mint(identity)


@contextmanager
def _no_warning() -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    "harm",
    [
        lambda issuer: setattr(issuer, "status", 500),
        lambda issuer: setattr(issuer, "status", 302),
        lambda issuer: issuer.changes.update(issuer="https://else.example"),
        lambda issuer: issuer.changes.update(jwks_uri="http://127.0.0.1:1/jwks"),
        lambda issuer: issuer.changes.update(jwks_uri="file:///etc/passwd"),
        lambda issuer: issuer.changes.update(jwks_uri=7),
        lambda issuer: issuer.bodies.update({"/jwks": b"x" * (300 << 10)}),
        lambda issuer: issuer.bodies.update({"/jwks": b"{"}),
        lambda issuer: issuer.bodies.update({"/jwks": b"[" * 100_000}),
        lambda issuer: issuer.bodies.update({"/jwks": b"[]"}),
        lambda issuer: issuer.bodies.update({"/jwks": b'{"keys": []}'}),
        lambda issuer: issuer.bodies.update({"/jwks": b'{"keys": 7}'}),
        lambda issuer: issuer.bodies.update({"/jwks": b'{"keys": [{"kty": "RSA"}]}'}),
        lambda issuer: issuer.bodies.update({"/jwks": b"\xff\xfe"}),
    ],
)
def test_an_issuer_that_answers_nonsense_is_not_asked_again_and_again(
    issuer: Issuer, mint: Mint, harm: Callable[[Issuer], object]
) -> None:
    harm(issuer)
    for _ in range(3):
        with pytest.raises(IssuerUnreachableError):
            mint(issuer.token())
    assert len(issuer.asked) <= 2
    assert "/elsewhere" not in issuer.asked


def test_an_issuer_that_is_too_slow_is_left(
    issuer: Issuer, mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_WHOLE_SECONDS", 0.2)
    issuer.bodies["/.well-known/openid-configuration"] = b" " * 20_000
    issuer.drip = 0.01
    with pytest.raises(IssuerUnreachableError, match="too slowly"):
        mint(issuer.token())


def test_an_issuer_that_is_away_is_said(farm: Farm) -> None:
    with running_issuer() as gone:
        pass
    with pytest.raises(IssuerUnreachableError, match="does not answer"):
        Minter(farm.store.database, [gone.trust()]).mint(gone.token(), None)


def test_the_first_trust_that_fits_says_what_is_given(farm: Farm, issuer: Issuer) -> None:
    trusts = [
        issuer.trust(claims={"repository": "me/other"}, scopes=["admin"], channels=["*"]),
        issuer.trust(scopes=["read"], channels=["release"]),
        issuer.trust(scopes=["admin"], channels=["*"]),
    ]
    account, _ = Minter(farm.store.database, trusts).mint(issuer.token(), None)
    assert account.grant == trusts[1].grant
    with pytest.raises(UntrustedError, match="none of the"):
        Minter(farm.store.database, trusts).mint(issuer.token(repository="x/y"), None)


def test_a_job_submits_with_its_token_over_http(
    tmp_path: Path, issuer: Issuer, pack: Callable[[str], Path]
) -> None:
    place = Place(tmp_path)
    table = "\n".join(
        f"{key} = {json.dumps(value)}"
        for key, value in issuer.table(claims=None, channels=["dev/local"]).items()
        if value is not None
    )
    claims = '[trust.claims]\nrepository = "me/mine"\nref = "refs/heads/main"\n'
    (tmp_path / "wheelfarm.toml").write_text(f"[[trust]]\n{table}\n{claims}")
    place.serve()
    try:
        refused = requests.post(f"{place.url}api/oidc/mint", json={"token": "x.y.z"}, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (403, "untrusted")
        huge = requests.post(f"{place.url}api/oidc/mint", json={"token": "x" * 20_000}, timeout=30)
        assert (huge.status_code, huge.json()["code"]) == (400, "malformed")
        said = requests.post(
            f"{place.url}api/oidc/mint", json={"token": issuer.token()}, timeout=30
        )
        assert said.status_code == 200, said.text
        assert said.json().keys() == {"token", "expires_at", "scopes", "channels"}
        assert datetime.fromisoformat(said.json()["expires_at"]) > datetime.now(UTC)
        (tmp_path / "wheelfarm.toml").write_text("")
        code, _, err = place.say("build", pack("pure"), "--dry-run")
        assert (code, "token-needed" in err) == (2, True), err
        code, out, err = place.say(
            "build", pack("pure"), "--dry-run", WHEELFARM_TOKEN=said.json()["token"]
        )
        assert code in {0, 1}, err
        assert "pure==1.0" in out
    finally:
        place.stop_server()
    log = (tmp_path / "server.log").read_text()
    assert said.json()["token"] not in log
    assert "Traceback" not in log
