"""What the public conformance suite asks of a path gateway: listing, cache, symlinks, ranges, names, URIs, CORS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from tests.registry.storage.conformance_site import RAW, Site, served_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def test_a_folder_is_listed_under_a_path_that_ends_with_a_slash(site: Site) -> None:
    assert site.get(f"{site.root}/odd/sub dir").headers["location"] == f"/ipfs/{site.root}/odd/sub%20dir/"
    page = site.get(f"{site.root}/odd/sub dir/")
    assert page.headers["etag"].startswith('"DirIndex-')
    assert page.headers["etag"].endswith(f'_CID-{site.subdir}"')
    assert page.headers["cache-control"] == "public, max-age=604800, stale-while-revalidate=2678400"
    assert page.headers["x-ipfs-roots"] == f"{site.root},{site.odd},{site.subdir}"
    assert "Index of" in page.text
    here = f"/ipfs/{site.root}/odd/sub%20dir"
    assert f'<a href="{here}">sub dir</a>' in page.text
    assert f'<a href="{here}/..">..</a>' in page.text
    assert f'<a href="{here}/ascii.txt">ascii.txt</a>' in page.text
    assert f'href="/ipfs/{site.ascii}?filename=ascii.txt"' in page.text
    assert ">..<" not in site.get(f"{site.root}/").text
    assert site.get(f"{site.root}/i-do-not-exist").status_code == 404


def test_an_index_stands_for_its_folder(site: Site) -> None:
    page = site.get(f"{site.root}/page/")
    assert page.content == b"<p>index</p>"
    assert page.headers["etag"] == f'"{site.page}"'
    assert page.headers["cache-control"] == "public, max-age=29030400, immutable"
    assert page.headers["x-ipfs-path"] == f"/ipfs/{site.root}/page/"
    assert page.headers["x-ipfs-roots"] == f"{site.root},{site.page}"


@pytest.mark.parametrize("tag", ['"{0}"', 'W/"{0}"', '"fake", "other", "{0}"', "*"])
@pytest.mark.parametrize(
    ("path", "target"),
    [("subdir/ascii.txt", "ascii"), ("page/", "page"), ("subdir/", "subdir"), ("document", "document")],
)
def test_who_has_it_already_is_told_so(site: Site, tag: str, path: str, target: str) -> None:
    cid = getattr(site, target)
    answer = site.get(f"{site.root}/{path}", If_None_Match=tag.format(cid))
    assert (answer.status_code, answer.content) == (304, b"")


def test_the_etag_of_a_page_is_known_again(site: Site) -> None:
    for path, headers in ((f"{site.root}/subdir/", {}), (f"{site.document}/", {"Accept": "text/html"})):
        tag = site.get(path, **headers).headers["etag"]
        assert site.get(path, If_None_Match=tag, **headers).status_code == 304
        assert site.get(path, If_None_Match="W/" + tag, **headers).status_code == 304


def test_only_if_cached_is_412_for_what_is_not_here(site: Site) -> None:
    for method in ("GET", "HEAD"):
        absent = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"
        assert site.get(absent, method, Cache_Control="only-if-cached").status_code == 412
        assert site.get(f"{site.root}/page/?format=json", method, Cache_Control="only-if-cached").status_code == 200


def test_a_symbolic_link_is_its_target_and_is_not_followed(site: Site) -> None:
    answer = site.get(f"{site.root}/bar")
    assert (answer.content, answer.headers["content-type"]) == (b"foo", "inode/symlink")


def test_many_ranges_are_answered_with_the_first(site: Site) -> None:
    for path, headers in ((f"{site.root}/subdir/ascii.txt", {}), (f"{site.ascii}", {"Accept": RAW})):
        answer = site.get(path, Range="bytes=6-16,0-4", **headers)
        assert (answer.status_code, answer.content) == (206, b"application")
        assert answer.headers["content-range"] == "bytes 6-16/31"
    assert site.get(f"{site.ascii}", Range="bytes=-9999").content == b"hello application/vnd.ipld.raw\n"
    assert site.get(f"{site.ascii}", Range="bytes=99999-,0-1").content == b"he"
    assert site.get(f"{site.ascii}", Range="bytes=0-1", If_Range='"other"').status_code == 200


SPELLINGS = (
    "Portugal%252C%2BEspa%C3%B1a%3DPeninsula%20Ib%C3%A9rica.txt",
    "Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
    "Portugal%252C%2bEspa%c3%b1a%3dPeninsula%20Ib%c3%a9rica%2etxt",
    "x%2F..%2FPortugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_has_one_address_however_it_is_spelled(site: Site, spelling: str) -> None:
    answer = site.get(f"{site.odd}/{spelling}")
    assert answer.content == b"2"
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.odd}/{SPELLINGS[0]}"
    assert "x-ipfs-path" not in answer.headers  # no header may hold those characters


def test_the_address_of_a_cid_is_that_of_its_usual_form(site: Site) -> None:
    old = Cid(0, cids.DAG_PB, cids.SHA2_256, site.odd.digest)
    answer = site.get(f"{old}/a%23b%3Fc.txt?format=json&filename=x")
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.odd}/a%23b%3Fc.txt"
    assert answer.headers["x-ipfs-path"] == f"/ipfs/{old}/a#b?c.txt"
    upper = str(site.odd).upper()
    assert site.get(f"{upper}/a%23b%3Fc.txt").content == b"1"


HARD = "sub%20dir/file%21%27%28%29%2A~.txt"


@pytest.mark.parametrize(
    ("asked", "address", "content"),
    [
        ("{ascii}", "{ascii}", b"hello application/vnd.ipld.raw\n"),
        ("{nested}/sub%20dir/", "{nested}/sub%20dir/", b""),
        ("{nested}/" + HARD, "{nested}/" + HARD, b"every byte but the unreserved is encoded"),
        ("{nested}/sub%20dir/file!'()*%7e.txt", "{nested}/" + HARD, b"every byte but the unreserved is encoded"),
        ("{slashed}/a/b.txt", "{slashed}/a/b.txt", b"b.txt inside a"),
        ("{slashed}/a%2Fb.txt", "{slashed}/a/b.txt", b"b.txt inside a"),
        ("{slashed}/a%2fb.txt?format=raw", "{slashed}/a/b.txt", b"b.txt inside a"),
    ],
)
def test_what_is_served_has_the_address_of_ipip_548(site: Site, asked: str, address: str, content: bytes) -> None:
    cids_by_name = {name: str(getattr(site, name)) for name in ("ascii", "nested", "slashed")}
    answer = site.get(asked.format(**cids_by_name))
    assert answer.status_code == 200
    assert answer.headers["ipfs-uri"] == f"ipfs://{address.format(**cids_by_name)}"
    assert content in answer.content


@pytest.mark.parametrize("path", ["", "/sub%20dir"])
def test_a_redirect_to_the_slash_has_the_address_that_was_asked_for(site: Site, path: str) -> None:
    answer = site.get(f"{site.nested}{path}")
    assert (answer.status_code, answer.headers["location"]) == (301, f"/ipfs/{site.nested}{path}/")
    assert answer.headers["ipfs-uri"] == f"ipfs://{site.nested}{path}"


def test_scripts_of_any_page_may_read(site: Site) -> None:
    for method in ("GET", "OPTIONS"):
        answer = site.get("bafkqabtimvwgy3yk/", method)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        for name, values in {
            "access-control-allow-methods": ("GET", "HEAD", "OPTIONS"),
            "access-control-allow-headers": ("Content-Type", "Range", "User-Agent", "X-Requested-With"),
            "access-control-expose-headers": ("Content-Range", "Content-Length", "X-Ipfs-Roots", "Ipfs-Uri"),
        }.items():
            assert set(values) <= set(answer.headers.get_list(name, split_commas=True))
