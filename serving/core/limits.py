"""Every limit of the server in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bundle.image import ImageLimits

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What one call, one caller and the server as a whole may use. Sizes in bytes."""

    message_bytes: int = 16 * _MIB
    """One request message, after decompression."""
    image_bytes: int = 8 * _MIB
    """One encoded image."""
    image_pixels: int = 40_000_000
    """Width times height of an image, read from its header."""
    image_side: int = 16_384
    """The longer side of an image."""
    images_per_call: int = 32
    """Images in one unary call."""
    texts_per_call: int = 256
    """Texts in one unary call."""
    text_bytes: int = 8 * 1024
    """One text in UTF-8."""
    id_bytes: int = 256
    """One id that a caller gives an item, in UTF-8."""
    top_concepts: int = 1_000
    """Named concepts an item."""
    patch_concepts: int = 64
    """Concepts whose maps over the patches one call may ask for."""
    messages_per_chat: int = 128
    """Messages of one conversation; its images are bounded as those of any call."""
    prompt_tokens: int = 4_096
    """Tokens that a conversation may be for the language model, its images included."""
    new_tokens: int = 1_024
    """Tokens of one answer."""
    steering_edits: int = 64
    """Edits of one image, as the caller writes them: a phrase is one."""
    chats_in_flight: int = 64
    """Conversations that are being answered."""
    queue_images: int = 512
    """Images admitted and not answered yet."""
    queue_texts: int = 2_048
    """Texts admitted and not answered yet."""
    queue_s: float = 2.0
    """Seconds of work ahead of a new call beyond which it is refused."""
    default_deadline_s: float = 10.0
    """The deadline of a unary call that names none."""
    chat_default_deadline_s: float = 60.0
    """The deadline of a conversation that names none."""
    max_deadline_s: float = 120.0
    """No call lasts longer, whatever deadline it names; streams that name none get this."""
    stream_window: int = 64
    """Items of one stream that are in work or not read by the caller yet."""
    stream_stall_s: float = 30.0
    """A stream whose caller reads nothing for so long is aborted."""
    calls_in_flight: int = 1_024
    """Calls in all; health checks do not count."""
    bytes_in_flight: int = 512 * _MIB
    """Request messages of all calls in work."""
    streams_per_connection: int = 100
    """HTTP/2 streams that one connection may have open."""
    metadata_bytes: int = 8 * 1024
    """The headers of one call."""
    connection_idle_s: float = 300.0
    """A connection without calls is closed after so long."""
    handshake_s: float = 10.0
    """A connection that has not said hello by then is closed."""
    decode_s: float = 10.0
    """A worker that takes longer for one image is killed."""
    drain_s: float = 30.0
    """How long calls in flight may take to end after SIGTERM."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"limits.{field.name}: must be greater than 0")

    @property
    def image(self) -> ImageLimits:
        """Those that the decoder checks."""
        return ImageLimits(bytes=self.image_bytes, pixels=self.image_pixels, side=self.image_side)
