"""One upload as it arrives: the audio itself as the body, or a multipart form with a field `file`.

The body is read once, in order, into memory that a budget bounds; a form that breaks a limit is refused at the byte
where it does. What the audio is, and whether it is any, is not looked at here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest, Unprocessable, UnsupportedMedia
from service.limits import ByteBudget, require_small
from service.schemas import shown

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 32
MAX_FIELD_BYTES = 4096
MAX_HEADER_BYTES = 4096  # of one header of one part
RAW_TYPES = ("application/octet-stream", "application/ogg", "video/ogg")


class Upload:
    """`audio`: the bytes of the clip. `fields`: the other fields of the form, in order.

    A context manager: leaving it frees the bytes and gives them back to the budget.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.audio = BytesIO()
        self.fields: list[tuple[str, str]] = []
        self._budget = budget
        self._taken = 0

    @property
    def size(self) -> int:
        """Bytes of the clip."""
        return self._taken

    def write(self, data: bytes) -> None:
        """Append to the clip. Raises TooManyRequests when the budget is used up."""
        self._budget.take(len(data))
        self._taken += len(data)
        self.audio.write(data)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()

    def free(self) -> None:
        """Idempotent."""
        self.audio = BytesIO()
        self._budget.give_back(self._taken)
        self._taken = 0


async def read_upload(content_type: str, chunks: AsyncIterator[bytes], budget: ByteBudget) -> Upload:
    """Read the body to its end. Raises BadRequest, UnsupportedMedia, Unprocessable, TooManyRequests."""
    upload = Upload(budget)
    media_type, options = parse_options_header(content_type)
    kind = media_type.decode("latin-1").strip().lower()
    try:
        if kind == "multipart/form-data":
            await _read_form(upload, options.get(b"boundary", b""), chunks)
        elif kind == "" or kind.startswith("audio/") or kind in RAW_TYPES:
            async for chunk in chunks:
                upload.write(chunk)
        else:
            raise UnsupportedMedia(
                f"a body of type {shown(kind)} is not read: send a multipart form with a field 'file', or the audio "
                "itself with a Content-Type such as audio/wav"
            )
        if not upload.size:
            raise Unprocessable("no audio was sent: the clip has no bytes", code="empty_audio")
        upload.audio.seek(0)
    except BaseException:
        upload.free()
        raise
    return upload


async def _read_form(upload: Upload, boundary: bytes, chunks: AsyncIterator[bytes]) -> None:
    if not boundary:
        raise BadRequest("the multipart Content-Type names no boundary", code="bad_form")
    form = _Form(upload)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_header_size=MAX_HEADER_BYTES)
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"the multipart form is malformed: {shown(str(error))}", code="bad_form") from error
    if not form.ended:
        raise BadRequest("the multipart form ends before its last boundary", code="bad_form")
    if not form.has_file:
        raise Unprocessable("the form has no field 'file' with a clip", code="missing_file")


class _Form:
    """Receives the parser's events and files them into an Upload."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.has_file = False
        self.ended = False
        self._parts = 0
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.part_begin,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        self._parts += 1
        require_small(self._parts, MAX_FIELDS, "fields", "too_many_fields")
        self._disposition = self._value = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise BadRequest("a part of the form has no name", code="bad_form")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = self._name == "file"
        if self._is_file:
            if self.has_file:
                raise BadRequest("the form has more than one field 'file'", code="too_many_files")
            self.has_file = True
        elif b"filename" in options:
            raise BadRequest(f"the clip belongs in a field 'file', not {shown(self._name)}", code="bad_form")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.upload.write(data[start:end])
        else:
            self._value += data[start:end]
            require_small(len(self._value), MAX_FIELD_BYTES, "bytes in one field", "field_too_long")

    def part_end(self) -> None:
        if not self._is_file:
            self.upload.fields.append((self._name, self._value.decode("utf-8", "replace")))

    def end(self) -> None:
        self.ended = True
