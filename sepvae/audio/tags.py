"""Tags of audio files: what a recording says about itself, read from any input and put into bytes for the outputs."""

from __future__ import annotations

import base64
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
from av.container import InputContainer

from sepvae.audio.decoders.base import FAILURES
from sepvae.audio.decoders.ffmpeg import OPTIONS
from sepvae.audio.surround import MASK_FIELD

logger = logging.getLogger(__name__)

PROVENANCE = "SEPVAE"
"""Name of the field that tells how a stem was made."""

_MAX_TEXT, _MAX_COVER = 10_000, 10 << 20  # characters of a field, bytes of a picture: no bombs are handed on

# name here, which is ffmpeg's -> ID3v2.4 frame, Vorbis comment, RIFF INFO chunk
_FIELDS = {
    "title": ("TIT2", "TITLE", "INAM"),
    "artist": ("TPE1", "ARTIST", "IART"),
    "album": ("TALB", "ALBUM", "IPRD"),
    "album_artist": ("TPE2", "ALBUMARTIST", None),
    "composer": ("TCOM", "COMPOSER", None),
    "performer": ("TPE3", "PERFORMER", None),
    "track": ("TRCK", "TRACKNUMBER", "IPRT"),
    "disc": ("TPOS", "DISCNUMBER", None),
    "date": ("TDRC", "DATE", "ICRD"),
    "genre": ("TCON", "GENRE", "IGNR"),
    "comment": ("COMM", "COMMENT", "ICMT"),
    "copyright": ("TCOP", "COPYRIGHT", "ICOP"),
    "publisher": ("TPUB", "ORGANIZATION", None),
    "isrc": ("TSRC", "ISRC", None),
    "bpm": ("TBPM", "BPM", None),
    "language": ("TLAN", "LANGUAGE", "ILNG"),
}
_ALIASES = {
    "tsrc": "isrc",
    "tbpm": "bpm",
    "organization": "publisher",
    "year": "date",
    "tracknumber": "track",
}
_NO_LANGUAGE = ("language", "und")  # what mp4 says of a track of which nobody knows it
_PICTURES = {"mjpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}


@dataclass(frozen=True)
class Tags:
    """What a file says about its recording.

    Args:
        fields: texts by ffmpeg's names: title, artist, album, track, date, ...
        cover: picture; empty for none.
        cover_type: its MIME type.
        provenance: how a stem was made; empty for a recording.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    cover: bytes = b""
    cover_type: str = ""
    provenance: str = ""

    def for_stem(self, stem: str, provenance: str) -> Tags:
        """Return the tags of one stem: the title names it."""
        fields = dict(self.fields)
        if "title" in fields:
            fields["title"] += f" ({stem})"
        return replace(self, fields=fields, provenance=provenance)


NO_TAGS = Tags()


def read_tags(path: Path) -> Tags:
    """Read the tags of a file in any format; one that cannot be read has none."""
    try:
        with av.open(f"file:{path}", container_options=OPTIONS, metadata_errors="replace") as container:
            found: dict[str, str] = {}
            for stream in container.streams.audio[:1]:
                found |= stream.metadata  # in Ogg the tags are those of a stream, elsewhere those of the file
            found |= container.metadata
            cover, cover_type = _cover(container)
    except FAILURES as error:
        logger.debug("%s: no tags can be read (%s)", path, error)
        return NO_TAGS
    texts: dict[str, str] = {}
    provenance = ""
    for name, text in found.items():
        name = _ALIASES.get(name.lower(), name.lower())
        if name in (PROVENANCE.lower(), "encoder") and text.startswith("{"):
            provenance = text
        elif name in _FIELDS and 0 < len(text) <= _MAX_TEXT and (name, text) != _NO_LANGUAGE:
            texts[name] = text.replace("\0", "/")
    return Tags({name: texts[name] for name in _FIELDS if name in texts}, cover, cover_type, provenance)


def _cover(container: InputContainer) -> tuple[bytes, str]:
    """The first picture that is attached to a file, and its MIME type; both empty if there is none."""
    for stream in container.streams.video:
        context = stream.codec_context  # None for a codec that ffmpeg does not know
        kind = None if context is None else _PICTURES.get(context.name)
        if kind is None or "attached_pic" not in str(stream.disposition.name or ""):
            continue
        for packet in container.demux(stream):
            if 0 < packet.size <= _MAX_COVER:
                return bytes(packet), kind
            break
    return b"", ""


def id3(tags: Tags) -> bytes:
    """Tags as ID3v2.4, for mp3 and wav; nothing for no tags."""
    frames = b""
    for name, text in tags.fields.items():
        language = b"und\0" if name == "comment" else b""
        frames += _id3_frame(_FIELDS[name][0], b"\3" + language + text.encode("utf-8", "replace"))
    if tags.provenance:
        frames += _id3_frame("TXXX", b"\3" + PROVENANCE.encode() + b"\0" + tags.provenance.encode())
    if tags.cover:
        frames += _id3_frame("APIC", b"\3" + tags.cover_type.encode() + b"\0\3\0" + tags.cover)
    return b"ID3\4\0\0" + _synchsafe(len(frames)) + frames if frames else b""


def _id3_frame(name: str, content: bytes) -> bytes:
    return name.encode() + _synchsafe(len(content)) + b"\0\0" + content


def _synchsafe(size: int) -> bytes:
    """A size with seven bits in each byte."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def vorbis_comment(vendor: str, tags: Tags, *, picture: bool, channel_mask: int | None = None) -> bytes:
    """Tags as a Vorbis comment, for FLAC, Ogg Vorbis and Opus.

    Args:
        vendor: name of the encoder.
        tags: what to write.
        picture: put the cover in too, as Ogg needs it; FLAC has a block for it.
        channel_mask: speakers of the channels, which FLAC tells here (RFC 9639, section 8.6.2); None for none.
    """
    texts = [f"{_FIELDS[name][1]}={text}" for name, text in tags.fields.items()]
    if tags.provenance:
        texts.append(f"{PROVENANCE}={tags.provenance}")
    if channel_mask is not None:
        texts.append(f"{MASK_FIELD}=0x{channel_mask:04X}")
    if picture and tags.cover:
        texts.append("METADATA_BLOCK_PICTURE=" + base64.b64encode(flac_picture(tags)).decode())
    entries = [text.encode("utf-8", "replace") for text in (vendor, *texts)]
    entries = [struct.pack("<I", len(entry)) + entry for entry in entries]
    return entries[0] + struct.pack("<I", len(texts)) + b"".join(entries[1:])


def flac_picture(tags: Tags) -> bytes:
    """The cover as the content of a FLAC picture block; its sizes are left to the reader."""
    kind = tags.cover_type.encode()
    head = struct.pack(">II", 3, len(kind)) + kind + struct.pack(">I", 0) + bytes(16)
    return head + struct.pack(">I", len(tags.cover)) + tags.cover


def riff_chunks(tags: Tags) -> bytes:
    """Tags as chunks at the end of a wav file: INFO for all that know it, ID3 for what INFO lacks."""
    entries = [(_FIELDS[name][2], text) for name, text in tags.fields.items()]
    entries.append(("ISFT", tags.provenance))
    info = b"".join(
        _chunk(kind, text.encode("utf-8", "replace") + b"\0") for kind, text in entries if kind and text
    )
    chunks = _chunk("LIST", b"INFO" + info) if info else b""
    if tags.fields or tags.cover:
        chunks += _chunk("id3 ", id3(replace(tags, provenance="")))
    return chunks


def _chunk(name: str, content: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
