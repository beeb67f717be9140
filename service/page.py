"""The page at /, the API description at /docs, and the files they are made of.

Everything that can be served is read and named here, once, so that no path from a caller ever reaches the file
system: our own files under `service/static`, and the few third-party ones that `make install` brings with npm. Where
those are absent the page says which and what to do; the API does not depend on them.
The page may load from its own origin only (Content-Security-Policy); the one nonce is for the style sheet that the
waveform library puts into its shadow root. Knows nothing of audio.
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Literal

from starlette.responses import Response

STATIC = Path(__file__).resolve().parent / "static"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".flac": "audio/flac",
}
COMPRESSED = (".css", ".js", ".svg")

# The style sheet is written in parts and sent as one file, in this order.
STYLES = ("theme", "frame", "controls", "sources", "continue", "take", "finding", "chart")

# What the page and /docs load, and where npm puts it.
THIRD_PARTY = {
    "vendor/wavesurfer.js": "wavesurfer.js/dist/wavesurfer.esm.js",
    "vendor/regions.js": "wavesurfer.js/dist/plugins/regions.esm.js",
    "vendor/spectrogram.js": "wavesurfer.js/dist/plugins/spectrogram.esm.js",
    "vendor/swagger-ui.js": "swagger-ui-dist/swagger-ui-bundle.js",
    "vendor/swagger-ui.css": "swagger-ui-dist/swagger-ui.css",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class StaticFile:
    """One file in memory."""

    body: bytes
    suffix: str

    @cached_property
    def compressed(self) -> bytes | None:
        return gzip.compress(self.body, 6, mtime=0) if self.suffix in COMPRESSED else None

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:20]}"'

    def answer(self, headers: Mapping[str, str]) -> Response:
        """200 or 304. Browsers keep the file but ask each time, so a new deployment is seen at once."""
        own = {**_HEADERS, "ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if self.etag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        body = self.body
        if self.compressed is not None and "gzip" in headers.get("accept-encoding", ""):
            body = self.compressed
            own["Content-Encoding"] = "gzip"
        return Response(body, headers={**own, "Content-Type": MEDIA_TYPES[self.suffix]})


class Page:
    """The page and its files, from `root`. `missing`: third-party files that are not installed."""

    def __init__(self, root: Path = STATIC) -> None:
        own = [
            path
            for path in sorted(root.glob("*")) + sorted(root.glob("clips/*"))
            if path.suffix in MEDIA_TYPES and path.suffix != ".css"
        ]
        found = {path.relative_to(root).as_posix(): path for path in own}
        found |= {name: root / "node_modules" / path for name, path in THIRD_PARTY.items()}
        self.missing = tuple(name for name, path in found.items() if not path.is_file())
        self.files = {
            name: StaticFile(path.read_bytes(), path.suffix)
            for name, path in found.items()
            if name not in self.missing
        }
        style = b"\n".join((root / f"{name}.css").read_bytes() for name in STYLES)
        self.files["style.css"] = StaticFile(style, ".css")
        self._pages = {
            name: (root / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "docs")
        }

    def html(self, name: Literal["index", "docs"], headers: Mapping[str, str]) -> Response:
        """A page itself; never cached, because of its nonce."""
        nonce = secrets.token_urlsafe(16)
        text = self._pages[name].replace("{nonce}", nonce).replace("{missing}", escape(self._notice()))
        body = text.encode()
        own = {
            **_HEADERS,
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": _POLICY.format(nonce=nonce),
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in headers.get("accept-encoding", ""):
            body = gzip.compress(body, 6)
            own["Content-Encoding"] = "gzip"
        return Response(body, headers=own)

    def file(self, name: str, headers: Mapping[str, str]) -> Response | None:
        """A file by its path below /static/; None if there is no such file."""
        file = self.files.get(name)
        return None if file is None else file.answer(headers)

    def _notice(self) -> str:
        if not self.missing:
            return ""
        return (
            f"This page needs files that are not installed here: {', '.join(self.missing)}. Run “make install” where "
            "npm can reach its registry, then start the service again. The API works all the same."
        )
