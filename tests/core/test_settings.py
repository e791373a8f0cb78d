from __future__ import annotations

from pathlib import Path

import pytest

from citrate.core.errors import ConfigError
from citrate.core.settings import Settings

ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"


def load(folder: Path, toml: str = "", flags: dict[str, object] | None = None, **environ: str) -> Settings:
    if toml:
        (folder / "citrate.toml").write_text(toml)
    return Settings.load({"home": str(folder / "home"), **(flags or {})}, environ, folder)


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    toml = 'key = "file"\nkubo_api = "file"\nrpc_url = "http://file"'
    settings = load(tmp_path, toml, {"key": "flag"}, CITRATE_KEY="env", CITRATE_KUBO_API="env")
    assert (settings.key, settings.kubo_api, settings.rpc_url, settings.network) == (
        "flag",
        "env",
        "http://file",
        "devnet",
    )
    origins = [settings.origin[name] for name in ("key", "kubo_api", "rpc_url", "network")]
    assert origins == ["flag", "environment", str(tmp_path / "citrate.toml"), "default"]


def test_file_is_found_upwards_and_then_in_the_home(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "citrate.toml").write_text('key = "upwards"')
    assert Settings.load({"home": str(tmp_path / "home")}, {}, below).key == "upwards"
    home = tmp_path / "home"
    home.mkdir()
    (home / "citrate.toml").write_text('key = "home"')
    assert Settings.load({"home": str(home)}, {}, tmp_path).key == "home"


def test_a_network_brings_its_own_chain(tmp_path: Path) -> None:
    toml = (
        f'network = "base"\n[networks.base]\nrpc_url = "https://rpc"\nchain_id = 8453\n[addresses]\nacme = "{ADDRESS}"'
    )
    settings = load(tmp_path, toml)
    assert (settings.rpc_url, settings.chain_id, settings.is_devnet) == ("https://rpc", 8453, False)
    assert settings.addresses == {"acme": ADDRESS}
    assert settings.origin["rpc_url"].endswith("[networks.base]")


def test_gateways_are_a_list_or_comma_separated(tmp_path: Path) -> None:
    assert load(tmp_path, CITRATE_GATEWAYS="http://a/, https://b").gateways == ("http://a", "https://b")
    assert load(tmp_path, 'gateways = ["http://c"]').gateways == ("http://c",)


@pytest.mark.parametrize(
    ("toml", "environ"),
    [
        ("key = ", {}),
        ("unknown = 1", {}),
        ('private_key = "0x1"', {}),
        ('network = "nowhere"', {}),
        ('[addresses]\nacme = "0x1"', {}),
        ("networks = 1", {}),
        ("[networks.devnet]\nfoo = 1", {}),
        ("", {"CITRATE_CHAIN_ID": "one"}),
        ("", {"CITRATE_OFFLINE": "maybe"}),
        ("", {"CITRATE_GATEWAYS": "ftp://x"}),
        ("", {"CITRATE_MODEL_REGISTRY": "0x12"}),
        ("", {"CITRATE_CACHE_MAX_GB": "big"}),
    ],
)
def test_wrong_settings_are_refused_with_a_hint(tmp_path: Path, toml: str, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, **environ)
    assert caught.value.hint


@pytest.mark.parametrize("home", ["file", "file/below", "dangling", "/dev/null"])
def test_a_home_that_is_no_folder_is_refused(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="no folder") as caught:
        load(tmp_path, flags={"home": str(tmp_path / home)})
    assert "--home" in caught.value.hint


def test_secrets_are_no_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, CITRATE_PRIVATE_KEY="0x" + "11" * 32, CITRATE_KEY_PASSWORD="hunter2")
    assert "11" * 32 not in repr(settings)
    assert "hunter2" not in repr(settings.shown())


def test_how_transactions_are_sent_and_who_governs_come_from_everywhere(tmp_path: Path) -> None:
    assert load(tmp_path).shown()["confirmations"] == ("", "default")
    toml = f'network = "base"\n[networks.base]\nauthority = "{ADDRESS}"\nconfirmations = 3\nmax_fee_gwei = 1.5'
    settings = load(tmp_path, toml, CITRATE_FINALITY="safe", CITRATE_CONFIRMATIONS="12")
    assert (settings.authority, settings.confirmations, settings.finality) == (ADDRESS, 12, "safe")
    assert settings.max_fee_gwei == 1.5 and settings.origin["max_fee_gwei"].endswith("[networks.base]")
    assert load(tmp_path, toml, {"authority": ADDRESS.lower()}).authority == ADDRESS.lower()


@pytest.mark.parametrize(
    "wrong",
    ['finality = "sure"', "confirmations = -1", "confirmations = true", "max_fee_gwei = -1", 'max_fee_gwei = "inf"',
     'max_fee_gwei = "nan"', 'authority = "0x12"', "cache_max_gb = -2", 'max_rate = "fast"', "max_rate = -1"],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="is not valid") as error:
        load(tmp_path, wrong)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("text", "rate"), [("20MB", 20_000_000), ("1.5 mib", 1_572_864), ("300", 300), ("0", 0)])
def test_a_rate_is_written_as_a_size(tmp_path: Path, text: str, rate: int) -> None:
    assert load(tmp_path, f'max_rate = "{text}"').max_rate == rate
    assert load(tmp_path, "", {"max_rate": text}, CITRATE_MAX_RATE="5GB").max_rate == rate
