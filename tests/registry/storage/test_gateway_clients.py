"""The gateway as others use it: a Kubo node that finds it by itself, curl, and `ipfs dag import`."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode, running_kubo
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, Serve, pattern

ABSENT = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
WEIGHTS = pattern(3 * CHUNK + 17)


def asked(url: str, cid: str, **headers: str) -> list[dict[str, object]]:
    request = urllib.request.Request(f"{url}/routing/v1/providers/{cid}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        found: list[dict[str, object]] = json.load(answer)["Providers"]
        return found


def test_the_gateway_names_itself_for_what_it_would_serve(store: Store, model: Path, serve: Serve) -> None:
    artifact = store.add(model)
    (store.root.parent / "draft").write_bytes(b"a draft")
    draft = store.add(store.root.parent / "draft")
    url = serve(store, lambda cid: cid == artifact.cid)
    for cid in (artifact.cid, artifact.files[1].cid):
        (found,) = asked(url, cid)
        assert found["Addrs"] == [f"/ip4/127.0.0.1/tcp/{url.rpartition(':')[2]}/http"]
        assert found["Protocols"] == ["transport-ipfs-gateway-http"]
        assert str(found["ID"]).startswith("Qm")
    assert asked(url, draft.cid) == asked(url, ABSENT) == []
    with pytest.raises(urllib.error.HTTPError, match="400"):
        asked(url, "no-cid")


@pytest.mark.parametrize(
    ("host", "scheme", "address"),
    [
        ("10.1.2.3:8480", "", "/ip4/10.1.2.3/tcp/8480/http"),
        ("[fd00::1]:8480", "", "/ip6/fd00::1/tcp/8480/http"),
        ("models.example", "https", "/dns/models.example/tcp/443/https"),
        ("models.example:8443", "https", "/dns/models.example/tcp/8443/https"),
        ("models.example", "", "/dns/models.example/tcp/80/http"),
        ("a_b!", "", ""),
    ],
)
def test_its_address_is_how_the_client_reached_it(
    store: Store, model: Path, serve: Serve, host: str, scheme: str, address: str
) -> None:
    cid, url = store.add(model).cid, serve(store)
    forwarded = {"X-Forwarded-Proto": scheme} if scheme else {}
    assert [found["Addrs"] for found in asked(url, cid, Host=host, **forwarded)] == ([[address]] if address else [])


@pytest.mark.servers
def test_a_kubo_node_pins_from_the_gateway_by_itself(store: Store, model: Path, serve: Serve, tmp_path: Path) -> None:
    artifact, url = store.add(model), serve(store)
    settings = {"Routing.Type": "autoclient", "Routing.DelegatedRouters": [url]}
    with running_kubo(tmp_path / "repository", online=True, settings=settings) as node:
        node.ipfs("--timeout=60s", "pin", "add", artifact.cid)
        assert node.ipfs_bytes("cat", f"{artifact.cid}/sub/weights.bin") == WEIGHTS
        assert node.received_bytes() >= artifact.size_bytes


@pytest.mark.servers
def test_a_foreign_dag_reaches_kubo_as_a_car_over_http(store: Store, serve: Serve, dag: Dag, kubo: KuboNode) -> None:
    root = dag.folder(file=dag.file(b"one ", b"two"), link=dag.symlink(b"file"), doc=dag.json({"a": 1}))
    take(store, dag.car(root))
    car = curl(f"{serve(store)}/ipfs/{root}?format=car")
    assert str(root) in kubo.ipfs("dag", "import", stdin=car)
    assert kubo.ipfs("cat", f"{root}/file") == "one two"


def test_curl_gets_files_and_ranges(store: Store, model: Path, serve: Serve) -> None:
    artifact = store.add(model)
    at = f"{serve(store)}/ipfs/{artifact.cid}"
    assert curl(f"{at}/sub/weights.bin") == WEIGHTS
    for asked_for, wanted in (
        ("0-9", WEIGHTS[:10]),
        (f"{CHUNK - 3}-{CHUNK + 3}", WEIGHTS[CHUNK - 3 : CHUNK + 4]),
        ("-5", WEIGHTS[-5:]),
    ):
        assert curl("-r", asked_for, f"{at}/sub/weights.bin") == wanted
    assert curl("-L", at).startswith(b"<!")
    assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{at}/absent") == b"404"


def curl(*arguments: str) -> bytes:
    done = subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
