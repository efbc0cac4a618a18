"""Every limit of the server in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bundle.image import ImageLimits

_MIB = 2**20

_MOST = {"bytes_in_flight": 2**40, "streams_per_connection": 2**24}
_MOST_OF_OTHERS = 2**31 - 1
"""Highest count or size: gRPC's options are 32-bit integers."""
_MOST_S = 86_400
"""Longest time: a day."""


def check_range(name: str, value: float, lowest: float, highest: float) -> None:
    """Raises ValueError naming the field for a number outside of its range; NaN is outside."""
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: must be {lowest:,} to {highest:,}")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What one call, one caller and the server as a whole may use. Sizes are in bytes."""

    message_bytes: int = 16 * _MIB
    """Size of one request message, after decompression."""
    image_bytes: int = ImageLimits.bytes
    """Size of one encoded image."""
    image_pixels: int = ImageLimits.pixels
    """Width times height of one image, read from its header."""
    image_side: int = ImageLimits.side
    """Longer side of one image, in pixels."""
    images_per_call: int = 32
    """Images in one unary call."""
    texts_per_call: int = 256
    """Texts in one unary call."""
    text_bytes: int = 8 * 1024
    """Size of one text, encoded as UTF-8."""
    id_bytes: int = 256
    """Size of the id that a caller gives an item, encoded as UTF-8."""
    top_concepts: int = 1_000
    """Named concepts per item."""
    patch_concepts: int = 64
    """Concepts per call whose maps over the patches are sent."""
    messages_per_chat: int = 128
    """Messages in one conversation; its images count towards images_per_call."""
    prompt_tokens: int = 4_096
    """Maximum prompt length in tokens, visual tokens included."""
    new_tokens: int = 1_024
    """Tokens in one answer."""
    steering_edits: int = 64
    """Edits per image as the caller writes them; a phrase counts as one edit."""
    chats_in_flight: int = 64
    """Conversations in flight."""
    queue_images: int = 512
    """Images admitted and not yet answered."""
    queue_texts: int = 2_048
    """Texts admitted and not yet answered."""
    queue_s: float = 1.0
    """A new call is refused when more than this much work is ahead of it."""
    default_deadline_s: float = 10.0
    """Deadline of a unary call that sets none."""
    chat_default_deadline_s: float = 60.0
    """Deadline of a conversation that sets none."""
    max_deadline_s: float = 120.0
    """Longest deadline of any call, and the deadline of a stream that sets none."""
    stream_window: int = 64
    """Items of one stream that are in flight, or answered and not yet read."""
    stream_stall_s: float = 30.0
    """A stream is aborted when its caller reads nothing for this long."""
    calls_in_flight: int = 1_024
    """Calls in flight; health checks do not count."""
    admin_calls_in_flight: int = 16
    """Calls in flight on the admin port, beside those of the public port."""
    calls_reading: int = 128
    """Calls whose message is being received at the same time; others wait for their turn."""
    read_s: float = 10.0
    """How long the message of a call may take to arrive once its turn has come."""
    bytes_in_flight: int = 512 * _MIB
    """Total size of the request messages in flight."""
    streams_per_connection: int = 4_096
    """Calls on one connection. gRPC refuses more without RetryInfo: it is above calls_in_flight."""
    metadata_bytes: int = 8 * 1024
    """Size of the headers of one call."""
    connection_idle_s: float = 300.0
    """A connection without calls is closed after this long."""
    handshake_s: float = 10.0
    """A connection is closed when its handshake takes longer than this."""
    decode_s: float = 10.0
    """A decode worker is killed when one image takes longer than this."""
    drain_s: float = 30.0
    """How long calls in flight may take to finish after SIGTERM."""

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = f"limits.{field.name}", getattr(self, field.name)
            if isinstance(field.default, float):
                if not 0 < value <= _MOST_S:
                    raise ValueError(f"{name}: must be greater than 0 and at most {_MOST_S:,}")
            else:
                most = _MOST.get(field.name, _MOST_OF_OTHERS)
                check_range(name, value, 1, most)

    @property
    def image(self) -> ImageLimits:
        """The limits that the decoder checks."""
        return ImageLimits(bytes=self.image_bytes, pixels=self.image_pixels, side=self.image_side)
