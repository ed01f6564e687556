"""The HTML of a message, made harmless: for a sandboxed frame with a policy of its own.

Three walls, each of which would do: nh3 leaves no script, form, frame, style sheet or address that runs something; the
frame's sandbox lets nothing run, and gives it no origin; the policy of its answer lets nothing be fetched. Pictures of
the message itself become part of the page. Pictures from elsewhere tell their sender who reads when: they are left out
until somebody asks for them, and are then fetched without a referrer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

import nh3
from starlette.responses import HTMLResponse, Response

from syncd.services.reading import Letter, html, html_part, picture

MAX_NESTED: Final = 1_000  # elements in one another; the time that is needed grows with the square of it
MAX_PICTURES: Final = 4 << 20  # octets of pictures that become part of the page
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:{}; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
_REMOTE: Final = " https: http:"
_TAG_NAMES: Final = """
    a abbr address article aside b bdi bdo big blockquote br caption center cite code col colgroup dd del details dfn
    div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark nav ol p pre q
    s samp section small span strike strong sub summary sup table tbody td tfoot th thead tr tt u ul var wbr
"""
_ATTRIBUTES: Final = {
    "*": {"align", "bgcolor", "color", "dir", "lang", "style", "title", "valign", "width", "height"},
    "a": {"href"},
    "img": {"src", "alt", "border"},
    "font": {"face", "size"},
    "table": {"border", "cellpadding", "cellspacing"},
    "td": {"colspan", "rowspan", "nowrap"},
    "th": {"colspan", "rowspan", "nowrap"},
    "ol": {"start", "type"},
}
_STYLE_NAMES: Final = """
    background-color border border-bottom border-collapse border-color border-left border-radius border-right
    border-spacing border-style border-top border-width box-sizing color direction font font-family font-size
    font-style font-weight height letter-spacing line-height margin margin-bottom margin-left margin-right margin-top
    max-height max-width min-height min-width padding padding-bottom padding-left padding-right padding-top
    text-align text-decoration text-indent text-transform vertical-align white-space width word-break word-wrap
"""  # none of them takes an address
_SCHEMES: Final = {"http", "https", "mailto", "cid", "data"}
_NESTING: Final = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
_COLOUR: Final = re.compile(r"\b(?:rgb|hsl)a?\(", re.IGNORECASE)
_FLAT_NAMES: Final = "area base br col hr img input link meta param wbr p li td th tr dd dt option"  # need no end
_TAGS, _STYLES, _FLAT = (frozenset(names.split()) for names in (_TAG_NAMES, _STYLE_NAMES, _FLAT_NAMES))
_PAGE: Final = (
    '<!doctype html><html><head><meta charset="utf-8"><title>Message</title><style>body {{ margin: 1rem; font: 1rem/1.4'
    " system-ui, sans-serif; background: #fff; color: #1d1f21; overflow-wrap: anywhere }} img {{ max-width: 100%; }}"
    "</style></head><body>{}</body></html>"
)


def frame(found: Letter, *, remote: bool) -> Response | None:
    """Returns the answer for the frame; None where the message has no HTML that can be shown."""
    part = html_part(found)
    raw = "" if part is None else html(found, part)[0]
    if not can_be_shown(raw):
        return None
    headers = {
        "Content-Security-Policy": _POLICY.format(_REMOTE if remote else ""),
        "X-Frame-Options": "SAMEORIGIN",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(_PAGE.format(harmless(raw, found, remote=remote)), headers=headers)


def can_be_shown(raw: str) -> bool:
    """Returns whether there is HTML, and it is not nested so deep that it would take minutes."""
    return bool(raw.strip()) and _nesting(raw) <= MAX_NESTED


def harmless(raw: str, found: Letter, *, remote: bool) -> str:
    """Returns HTML without anything that runs or is fetched; with `remote=True` pictures are fetched."""
    return nh3.clean(
        raw,
        tags=set(_TAGS),
        clean_content_tags={"script", "style", "title", "template", "svg", "math", "textarea", "select", "noscript"},
        attributes=_ATTRIBUTES,
        attribute_filter=_filter(found, remote=remote),
        url_schemes=_SCHEMES,
        filter_style_properties=set(_STYLES),
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
        url_relative="deny",
    )


def _filter(found: Letter, *, remote: bool) -> Callable[[str, str, str], str | None]:
    left = MAX_PICTURES

    def filtered(tag: str, name: str, value: str) -> str | None:
        nonlocal left
        scheme = value.partition(":")[0].strip().lower()
        if name == "href":
            return value if scheme in {"http", "https", "mailto"} else None
        if name != "src":
            return _sound_style(value) if name == "style" else value
        if scheme == "cid":
            shown = picture(found, value.partition(":")[2]) if left > 0 else None
            if shown is None or len(shown[1]) > left:
                return None
            left -= len(shown[1])
            return f"data:{shown[0]};base64,{base64.b64encode(shown[1]).decode()}"
        return value if tag == "img" and remote and scheme in {"http", "https"} else None

    return filtered


def _sound_style(style: str) -> str:
    """Returns the declarations that call no function but a colour's, and hide none behind an escape."""
    return ";".join(it for it in style.split(";") if "\\" not in it and "(" not in _COLOUR.sub("", it))


def has_remote(raw: str) -> bool:
    """Returns whether HTML seems to show pictures from elsewhere."""
    return re.search(r"<img\b[^>]{0,2000}?\bsrc\s*=\s*[\"']?\s*https?:", raw, re.IGNORECASE) is not None


def _nesting(raw: str) -> int:
    """Returns how many elements are in one another at most, as far as tags tell."""
    deepest = depth = 0
    for found in _NESTING.finditer(raw):
        if found[2].lower() not in _FLAT:
            depth = max(0, depth - 1) if found[1] else depth + 1
            deepest = max(deepest, depth)
    return deepest
