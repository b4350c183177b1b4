from dataclasses import fields
from pathlib import Path

import pytest

from store.channel import RELEASE, UPSTREAM, parse_channel
from store.provenance import Recipe
from workers.errors import SettingsError
from workers.settings import (
    ChannelRules,
    NamedTarget,
    RetentionRules,
    UpstreamRules,
    load_settings,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STORE", "CACHE", "DATABASE", "BLOBS", "INDEX_URL"):
        monkeypatch.delenv(f"WHEELFARM_{name}", raising=False)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_the_store_is_the_option_then_the_environment_then_the_file_then_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().store == tmp_path / "data" / "wheelfarm"
    Path("wheelfarm.toml").write_text('store = "here"')
    assert load_settings().store == tmp_path / "here"
    monkeypatch.setenv("WHEELFARM_STORE", str(tmp_path / "env"))
    assert load_settings().store == tmp_path / "env"
    assert load_settings(store=Path("option")).store == tmp_path / "option"


def test_the_cache_is_the_environment_then_the_file_then_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WHEELFARM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_settings().cache == tmp_path / "cache" / "wheelfarm"
    Path("wheelfarm.toml").write_text('cache = "here"')
    assert load_settings().cache == tmp_path / "here"
    monkeypatch.setenv("WHEELFARM_CACHE", str(tmp_path / "env"))
    assert load_settings().cache == tmp_path / "env"


def test_the_blobs_are_the_environment_then_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().blobs is None
    Path("wheelfarm.toml").write_text('blobs = "s3://wheat/file"')
    assert load_settings().blobs == "s3://wheat/file"
    monkeypatch.setenv("WHEELFARM_BLOBS", "s3://wheat/env")
    assert load_settings().blobs == "s3://wheat/env"


def test_the_database_is_the_environment_then_the_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().database is None
    Path("wheelfarm.toml").write_text('database = "postgresql://u:file-secret@host/wheels"')
    assert load_settings().database == "postgresql://u:file-secret@host/wheels"
    monkeypatch.setenv("WHEELFARM_DATABASE", "postgresql://u:env-secret@host/wheels")
    assert load_settings().database == "postgresql://u:env-secret@host/wheels"
    assert "secret" not in repr(load_settings())


def test_targets_and_recipes_are_read_whole(tmp_path: Path) -> None:
    Path("wheelfarm.toml").write_text(
        """
        index-url = "https://index.example/simple"
        epoch = 2
        [targets.mac]
        spec = "macos-11.0-arm64:cp311"
        sdk = "MacOSX.sdk"
        python = "/usr/bin/python3.11"
        [recipes.Python_LDAP]
        env = { LDAP = "1" }
        build-constraints = ["setuptools<80"]
        timeout-seconds = 60
        """
    )
    settings = load_settings()
    assert settings.index_url == "https://index.example/simple"
    assert settings.epoch == 2
    spec = "macos-11.0-arm64:cp311"
    assert settings.targets["mac"] == NamedTarget(
        spec=spec, sdk=Path("MacOSX.sdk"), python=Path("/usr/bin/python3.11")
    )
    recipe = settings.recipe("python-ldap")
    assert recipe.env == {"LDAP": "1"}
    assert recipe.build_constraints == ("setuptools<80",)
    assert recipe.timeout_seconds == 60
    assert settings.recipe("other") == Recipe()


def test_a_salt_is_for_a_package_and_a_target_and_several_add_up() -> None:
    place = "cp313-manylinux_2_36_x86_64-7f3c9a12be04"
    Path("wheelfarm.toml").write_text(
        f"""
        [[salts]]
        package = "Num_Py"
        salt = "one"
        [[salts]]
        fingerprint = "{place}"
        salt = "two"
        """
    )
    settings = load_settings()
    assert settings.salt("num-py", place) == "one\ntwo"
    assert settings.salt("num-py", "other") == "one"
    assert settings.salt("scipy", place) == "two"
    assert settings.salt("scipy", "other") == ""


def test_a_channel_has_its_own_rules_or_those_of_its_kind() -> None:
    Path("wheelfarm.toml").write_text(
        """
        [channels."dev/*"]
        keep-days = 30
        quota-mib = 1
        [channels."dev/me"]
        keep-versions = 2
        """
    )
    settings = load_settings()
    assert settings.channel("dev/me") == ChannelRules(keep_versions=2)
    assert settings.channel("dev/you").keep_days == 30
    assert settings.channel("release") == ChannelRules()
    quotas = [settings.quota(name) for name in ("dev/me", "dev/you", "release")]
    assert quotas == [None, 1 << 20, None]


def test_the_environment_beats_the_files_index(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wheelfarm.toml").write_text('index-url = "https://file.example/"')
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/")
    assert load_settings().index_url == "https://pip.example/"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sotre = 'x'", "sotre: unknown key"),
        ("store = 1", "store: must be of type str"),
        ("epoch = true", "epoch: must be of type int"),
        ("targets = 1", "targets: must be of type dict"),
        ("[targets]\nmac = 1", "targets.mac: must be a table"),
        ("[targets.mac]\nheaders = 'x'", "targets.mac.spec: is missing"),
        ("[targets.mac]\nspce = 'x'", "targets.mac.spce: unknown key"),
        ("[recipes.x]\nenv = { A = 1 }", "recipes.x.env: must be a table of strings"),
        ("[recipes.x]\nbuild-constraints = 'a'", "recipes.x.build-constraints: must be a list"),
        ("[recipes.x]\ntimeout-seconds = -1", "recipes.x.timeout-seconds: must be a positive"),
        ("salts = 1", "salts: must be of type list"),
        ("salts = [1]", "salts[0]: must be a table"),
        ("[[salts]]\npackage = 'x'", "salts[0].salt: must be a line"),
        ("[[salts]]\nsalt = ''", "salts[0].salt: must be a line"),
        ('[[salts]]\nsalt = "a\\nb"', "salts[0].salt: must be a line"),
        ("[[salts]]\nsalt = 'x'\nfingerprint = 'cp313'", "salts[0].fingerprint: not a finger"),
        ("[[salts]]\nsalt = 'x'\ntarget = 'mac'", "salts[0].target: unknown key"),
        ("[channels.mine]\nkeep-days = 1", "channels.mine: not a channel"),
        ("[channels.release]\nkeep-days = 0", "channels.release.keep-days: must be a positive"),
        ("[channels.release]\nkeep = 'all'", "channels.release.keep: unknown key"),
        ("[retention]\nlocks = 'x'", "retention.locks: must be a list"),
        ("[[[", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(text: str, sentence: str) -> None:
    Path("wheelfarm.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert sentence in str(caught.value)


def test_a_named_file_must_exist() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(file=Path("absent.toml"))


def test_every_key_is_documented() -> None:
    text = DOCUMENT.read_text()
    keys = [
        "store",
        "cache",
        "database",
        "blobs",
        "blob-redirects",
        "accel-prefix",
        "index-url",
        "epoch",
        "salts",
        "salt",
        "package",
        "fingerprint",
        "spec",
        "python",
        "headers",
        "sdk",
    ]
    for record in (Recipe, ChannelRules, RetentionRules):
        keys += [each.name.replace("_", "-") for each in fields(record)]
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_channels_inherit_in_the_order_that_is_written() -> None:
    Path("wheelfarm.toml").write_text(
        '[channels.release]\ninherit = ["upstream"]\n'
        '[channels."dev/*"]\ninherit = ["dev/team", "release"]\n'
        '[channels."dev/me"]\nkeep-days = 3\n'
    )
    inheritance = load_settings().inheritance
    chains = {
        name: inheritance.chain(parse_channel(name))
        for name in ("release", "dev/you", "dev/team", "dev/me", "upstream")
    }
    assert chains == {
        "release": ("release", "upstream"),
        "dev/you": ("dev/you", "dev/team", "release"),
        "dev/team": ("dev/team", "release"),
        "dev/me": ("dev/me",),
        "upstream": ("upstream",),
    }
    assert not inheritance.pulls(RELEASE)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[channels.release]\ninherit = ["dev/me"]', "channels.release.inherit"),
        ('[channels.upstream]\ninherit = ["release"]', "channels.upstream.inherit"),
        ('[channels."dev/me"]\ninherit = ["dev/me"]', "channels.dev/me.inherit"),
        ('[channels."dev/me"]\ninherit = ["nowhere"]', "channels.dev/me.inherit"),
        ('[channels."dev/me"]\ninherit = "release"', "channels.dev/me.inherit"),
        ('[upstream]\nallow = ["a b"]', "upstream.allow"),
        ('[upstream]\ndeny = "numpy"', "upstream.deny"),
        ("[upstream]\nmin-age-days = -1", "upstream.min-age-days"),
        ('[upstream]\npull-through = "yes"', "upstream.pull-through"),
        ('[upload]\nchannel = "upstream"', "upload.channel"),
    ],
)
def test_what_no_channel_and_no_index_may_is_refused_where_it_stands(text: str, place: str) -> None:
    Path("wheelfarm.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.path == place


def test_the_rules_of_upstream_are_read_and_their_names_normalised() -> None:
    assert load_settings().upstream == UpstreamRules()
    Path("wheelfarm.toml").write_text(
        '[upstream]\nallow = ["Acme_Tool", "*"]\ndeny = ["bad.*"]\nlocal = ["acme-*"]\n'
        'min-age-days = 7\nindex-url = "https://index.example/simple/"\npull-through = true\n'
    )
    found = load_settings()
    assert found.upstream == UpstreamRules(
        allow=("acme-tool", "*"),
        deny=("bad-*",),
        local=("acme-*",),
        min_age_days=7,
        index_url="https://index.example/simple/",
        pull_through=True,
    )
    assert found.inheritance.pulls(UPSTREAM)


def test_every_key_of_upstream_is_documented() -> None:
    text = DOCUMENT.read_text()
    names = [each.name.replace("_", "-") for each in fields(UpstreamRules)]
    assert [name for name in names if f"| `{name}` |" not in text] == []
