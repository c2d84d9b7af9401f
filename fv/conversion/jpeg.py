"""The structure of a JPEG file, read without decoding it: size, process, orientation and end.

Source: ITU-T T.81 (1992), annex B; JEITA CP-3451 (Exif 2.3), sections 4.5 and 4.6.
"""

import dataclasses
import re
import struct

START = b"\xff\xd8\xff"
ADOBE = b"Adobe"  # names the segment that says how CMYK is stored
CMYK = 4  # components
UPRIGHT = 1  # EXIF orientation
MAX_SIDE = 65_500  # pixels, of libjpeg; the format itself allows 65,535

_FILL = b"\xff\xff"  # any number of 0xFF may stand before a marker
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, one per coding process
_PLAIN_SOF = (0xC0, 0xC1, 0xC2)  # Huffman-coded baseline, extended sequential, progressive
_SEQUENTIAL_SOF = (0xC0, 0xC1)
_WHOLE_SCAN = b"\x00\x3f\x00"  # first and last coefficient, and bit positions, of a sequential scan
_JFIF, _JFIF_MAJOR = b"JFIF\0", 1
_APP0, _APP1, _SOS, _EOI = 0xE0, 0xE1, 0xDA, 0xD9
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # not stuffing, restart or fill
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_IFD_ENTRY_BYTES = 12
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # EXIF types BYTE, SHORT, LONG


@dataclasses.dataclass(frozen=True)
class Head:
    """The header of a JPEG.

    Attributes:
      width: in pixels, before the orientation is applied; so is `height`.
      bits: of a sample.
      components: colour channels, 1 to 4.
      plain: whether every decoder reads it: 8-bit Huffman baseline or progressive, grey or of three
        components.
      orientation: of its first EXIF segment, 1 (upright) to 8.
      scan: the byte where its first scan begins.
      repairs: (byte, bytes to put there) of header fields that strict decoders refuse and that no
        decoder needs.
    """

    width: int
    height: int
    bits: int
    components: int
    plain: bool
    orientation: int
    scan: int
    repairs: tuple[tuple[int, bytes], ...] = ()


def read_head(data: bytes) -> Head:
    """Reads the segments before the first scan.

    Raises:
      ValueError: not a JPEG, or cut short before its frame header.
    """
    frame, orientation, at = None, None, 2  # behind the marker of the start
    repairs: list[tuple[int, bytes]] = []
    try:
        while True:
            while data[at : at + 2] == _FILL:
                at += 1
            if data[at] != 0xFF:
                raise ValueError(f"damaged header at byte {at}")
            marker, length = struct.unpack_from(">BH", data, at + 1)
            end = at + 2 + length
            payload = data[at + 4 : end]
            if marker in _SOF:
                frame = (*struct.unpack_from(">BHHB", payload), marker)
            elif marker == _APP1 and payload.startswith(_EXIF) and orientation is None:
                orientation = read_orientation(payload)
            elif marker == _APP0 and payload.startswith(_JFIF):
                if payload[len(_JFIF)] != _JFIF_MAJOR:
                    repairs.append((at + 4 + len(_JFIF), bytes([_JFIF_MAJOR])))
            elif marker in (_SOS, _EOI):
                break
            at = end
    except (struct.error, IndexError):
        frame = None
    if frame is None:
        raise ValueError("cut short in its header")
    bits, height, width, components, process = frame
    plain = process in _PLAIN_SOF and bits == 8 and components in (1, 3)
    # Some phones write scan parameters that only a progressive JPEG has.
    if marker == _SOS and process in _SEQUENTIAL_SOF and not payload.endswith(_WHOLE_SCAN):
        repairs.append((end - len(_WHOLE_SCAN), _WHOLE_SCAN))
    return Head(width, height, bits, components, plain, orientation or UPRIGHT, at, tuple(repairs))


def repair(data: bytes, head: Head) -> bytes:
    """The file with the repairs of its header."""
    repaired = bytearray(data)
    for at, field in head.repairs:
        repaired[at : at + len(field)] = field
    return bytes(repaired)


def find_end(data: bytes, scan: int) -> int:
    """The byte behind the end of a sound JPEG. Phones store videos and further pictures there.

    Raises:
      ValueError: there is no end marker.
    """
    # Nearly every file ends here, and a search is faster than a walk through the scans.
    if data.find(_END, scan) + len(_END) == len(data):
        return len(data)
    at = scan
    while marker := _MARKER.search(data, at):
        if marker[0] == _END:
            return marker.end()
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    raise ValueError("no end marker")


def is_cmyk_without_adobe(data: bytes) -> bool:
    """Whether a file is a CMYK JPEG without Adobe's segment.

    TensorFlow takes its ink for not inverted; other decoders take it for inverted. A damaged JPEG
    gives False.
    """
    if not data.startswith(START) or ADOBE in data:
        return False
    try:
        return read_head(data).components == CMYK
    except ValueError:
        return False


def read_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 (upright) to 8; upright where no tag holds such an integer.

    The data may begin with the name of its JPEG segment.
    """
    tiff = exif
    while tiff.startswith(_EXIF):
        tiff = tiff.removeprefix(_EXIF)
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, ifd)
        for at in range(ifd + 2, ifd + 2 + entries * _IFD_ENTRY_BYTES, _IFD_ENTRY_BYTES):
            tag, type, count = struct.unpack_from(order + "HHI", tiff, at)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _INTEGERS[type], tiff, at + 8)
                return value if count == 1 and 1 <= value <= 8 else UPRIGHT
    except (struct.error, KeyError):
        pass
    return UPRIGHT
