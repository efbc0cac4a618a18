"""Every limit of the server in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bundle.image import ImageLimits
from bundle.schema import NumberRange

_MIB = 2**20

PositiveInt32 = Annotated[int, NumberRange(1, 2**31 - 1)]
"""A count or a size: gRPC's options are 32-bit integers."""
Seconds = Annotated[float, NumberRange(0, 86_400, above_low=True)]
"""A time of up to a day."""


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What one call, one caller and the server as a whole may use. Sizes are in bytes."""

    message_bytes: PositiveInt32 = 16 * _MIB
    """Size of one request message, after decompression."""
    image_bytes: PositiveInt32 = ImageLimits.bytes
    """Size of one encoded image."""
    image_pixels: PositiveInt32 = ImageLimits.pixels
    """Width times height of one image, read from its header."""
    image_side: PositiveInt32 = ImageLimits.side
    """Longer side of one image, in pixels."""
    images_per_call: PositiveInt32 = 32
    """Images in one unary call."""
    texts_per_call: PositiveInt32 = 256
    """Texts in one unary call."""
    text_bytes: PositiveInt32 = 8 * 1024
    """Size of one text, encoded as UTF-8."""
    id_bytes: PositiveInt32 = 256
    """Size of the id that a caller gives an item, encoded as UTF-8."""
    top_concepts: PositiveInt32 = 1_000
    """Named concepts per item."""
    patch_concepts: PositiveInt32 = 64
    """Concepts per call whose maps over the patches are sent."""
    messages_per_chat: PositiveInt32 = 128
    """Messages in one conversation; its images count towards images_per_call."""
    prompt_tokens: PositiveInt32 = 4_096
    """Maximum prompt length in tokens, visual tokens included."""
    new_tokens: PositiveInt32 = 1_024
    """Tokens in one answer."""
    steering_edits: PositiveInt32 = 64
    """Edits per image as the caller writes them; a phrase counts as one edit."""
    chats_in_flight: PositiveInt32 = 64
    """Conversations in flight."""
    queue_images: PositiveInt32 = 512
    """Images admitted and not yet answered."""
    queue_texts: PositiveInt32 = 2_048
    """Texts admitted and not yet answered."""
    queue_s: Seconds = 1.0
    """A new call is refused when more than this much work is ahead of it."""
    default_deadline_s: Seconds = 10.0
    """Deadline of a unary call that sets none."""
    chat_default_deadline_s: Seconds = 60.0
    """Deadline of a conversation that sets none."""
    max_deadline_s: Seconds = 120.0
    """Longest deadline of any call, and the deadline of a stream that sets none."""
    stream_window: PositiveInt32 = 64
    """Items of one stream that are in flight, or answered and not yet read."""
    stream_stall_s: Seconds = 30.0
    """A stream is aborted when its caller reads nothing for this long."""
    calls_in_flight: PositiveInt32 = 1_024
    """Calls in flight; health checks do not count."""
    admin_calls_in_flight: PositiveInt32 = 16
    """Calls in flight on the admin port, beside those of the public port."""
    watches: PositiveInt32 = 256
    """Watches of health on one port."""
    calls_reading: PositiveInt32 = 128
    """Calls whose message is being received at the same time; others wait for their turn."""
    read_s: Seconds = 10.0
    """How long the message of a call may take to arrive once its turn has come."""
    bytes_in_flight: Annotated[int, NumberRange(1, 2**40)] = 512 * _MIB
    """Total size of the request messages in flight."""
    streams_per_connection: Annotated[int, NumberRange(1, 2**24)] = 4_096
    """Calls on one connection. gRPC refuses more without RetryInfo: it is above calls_in_flight."""
    metadata_bytes: PositiveInt32 = 8 * 1024
    """Size of the headers of one call."""
    connection_idle_s: Seconds = 300.0
    """A connection without calls is closed after this long."""
    http_connections: PositiveInt32 = 2_048
    """Connections of the HTTP port. A further one takes the place of one without a call."""
    handshake_s: Seconds = 10.0
    """A connection is closed when its handshake takes longer than this."""
    decode_s: Seconds = 10.0
    """A decode worker is killed when one image takes longer than this."""
    drain_s: Seconds = 30.0
    """How long calls in flight may take to finish after SIGTERM."""

    @property
    def image(self) -> ImageLimits:
        """The limits that the decoder checks."""
        return ImageLimits(bytes=self.image_bytes, pixels=self.image_pixels, side=self.image_side)
