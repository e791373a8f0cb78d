"""The pages that are made here: the list of a folder, and the preview of a document. Nothing in them can run."""

from __future__ import annotations

import html
import urllib.parse

from citrate.registry.cid import CODECS, Cid
from citrate.registry.dagcbor import Ipld
from citrate.registry.gateway.request import Wanted
from citrate.registry.reader import Entry

POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-top-navigation-by-user-activation"
_STYLE = "body{font-family:system-ui;margin:2rem}td{padding:.1rem 1rem .1rem 0}code{color:#666}"
_PREVIEW_CHARS = 20_000


def listing(wanted: Wanted, cid: str, entries: list[Entry]) -> bytes:
    """The page of a folder without an ``index.html``."""
    here = wanted.url_path
    rows = [_row(here, entry) for entry in entries]
    if wanted.names:
        rows.insert(0, f'<tr><td><a href="{here}..">..</a></td><td></td><td></td></tr>')
    return _page(wanted, f"Index of {_crumbs(wanted)}", cid, f"<table>\n{''.join(rows)}</table>")


def _row(here: str, entry: Entry) -> str:
    name = html.escape(entry.name)
    quoted = urllib.parse.quote(entry.name, safe="")
    own = f"/ipfs/{entry.cid}?filename={urllib.parse.quote(quoted, safe='')}"
    return (
        f'<tr><td><a href="{here}{quoted}">{name}</a></td><td>{entry.tsize}</td>'
        f'<td><a class="ipfs-hash" translate="no" href="{own}"><code>{entry.cid}</code></a></td></tr>\n'
    )


def _crumbs(wanted: Wanted) -> str:
    at, out = f"/ipfs/{wanted.root}", f'/ipfs/<a href="/ipfs/{wanted.root}">{wanted.root}</a>'
    for name in wanted.names:
        at += "/" + urllib.parse.quote(name, safe="")
        out += f'/<a href="{at}">{html.escape(name)}</a>'
    return out


def document(wanted: Wanted, cid: Cid, value: Ipld) -> bytes:
    """The page of a document of DAG-CBOR or DAG-JSON: its codec, its links, and what it holds."""
    links = "".join(
        f'<tr><td><a href="{wanted.url_path}{_quoted(path)}">{html.escape(path)}</a></td>'
        f"<td><code>{link}</code></td></tr>\n"
        for path, link in _links(value, "")
    )
    body = f"<p>{CODECS[cid.codec]}</p><table>{links}</table><pre>{html.escape(repr(value)[:_PREVIEW_CHARS])}</pre>"
    return _page(wanted, html.escape(wanted.shown), str(cid), body)


def _quoted(path: str) -> str:
    return urllib.parse.quote(path, safe="/", errors="surrogateescape")


def _links(value: Ipld, path: str) -> list[tuple[str, Cid]]:
    if isinstance(value, Cid):
        return [(path, value)]
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, item in items for found in _links(item, f"{path}/{key}".lstrip("/"))]
    return []


def _page(wanted: Wanted, heading: str, cid: str, body: str) -> bytes:
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(wanted.shown)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{heading}</h1><p><code>{cid}</code></p>\n{body}\n</body></html>\n"
    )
    return page.encode(errors="backslashreplace")  # of a document's text that is no UTF-8
