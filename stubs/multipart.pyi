"""The part of multipart 2.0.1 that Presspass uses; that package has no type information of its own."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Self

class MultipartError(ValueError):
    http_status: int

class ParserError(MultipartError): ...
class StrictParserError(ParserError): ...
class ParserLimitReached(MultipartError): ...
class ParserStateError(MultipartError): ...

class MultipartSegment:
    headerlist: list[tuple[str, str]]
    disposition: str | None
    name: str | None
    filename: str | None
    content_type: str | None
    charset: str | None
    bytes_received: int
    complete: bool
    def __init__(self, headerlist: list[tuple[str, str]]) -> None: ...
    @property
    def size(self) -> int: ...
    def header(self, name: str, default: str | None = ...) -> str | None: ...
    def __getitem__(self, name: str) -> str: ...

class PushMultipartParser:
    boundary: bytes
    content_length: int
    header_charset: str
    max_header_size: int
    max_header_count: int
    max_segment_size: float
    max_segment_count: float
    strict: bool
    closed: bool
    error: MultipartError | None
    def __init__(
        self,
        boundary: str | bytes | bytearray,
        content_length: int = ...,
        max_header_size: int = ...,
        max_header_count: int = ...,
        max_segment_size: float = ...,
        max_segment_count: float = ...,
        header_charset: str = ...,
        strict: bool = ...,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...
    def parse(self, chunk: bytes | bytearray) -> Generator[MultipartSegment | bytes | None, None, None]: ...
    def parse_async(
        self, read: Callable[[int], Awaitable[bytes | bytearray]], chunk_size: int = ...
    ) -> AsyncGenerator[MultipartSegment | bytes | None, None]: ...
    def parse_blocking(
        self, read: Callable[[int], bytes | bytearray], chunk_size: int = ...
    ) -> Generator[MultipartSegment | bytes | None, None, None]: ...
    def close(self, check_complete: bool = ...) -> None: ...

def parse_options_header(
    header: str, options: dict[str, str] | None = ..., unquote: Callable[[str], str] = ...
) -> tuple[str, dict[str, str]]: ...
def parse_content_disposition(value: str) -> tuple[str, str | None, str | None]: ...
