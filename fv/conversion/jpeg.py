"""The head of a JPEG file, read without decoding: size, coding process, EXIF orientation.

Source: ITU-T T.81 (1992), annex B; JEITA CP-3451 (Exif 2.3), sections 4.5 and 4.6.
"""

import dataclasses
import struct

START = b"\xff\xd8\xff"
MAX_SIDE = 65_500  # pixels, of libjpeg; the format itself allows 65,535
_FILL = b"\xff\xff"  # any number of 0xFF may stand before a marker
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, one per coding process
_PLAIN_SOF = (0xC0, 0xC1, 0xC2)  # Huffman-coded baseline, extended sequential, progressive
_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9
_ORIENTATION_TAG = 0x0112
_IFD_ENTRY_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Head:
    """What the head of a JPEG says.

    `plain` is 8-bit Huffman baseline or progressive, grey or of three components; `orientation` is EXIF's, 1 (upright) to 8.
    """

    width: int
    height: int
    plain: bool
    orientation: int


def read_head(data: bytes) -> Head:
    """Reads the segments up to the frame header and the EXIF segment before the first scan.

    Raises:
      ValueError: not a JPEG, or cut short before its frame header.
    """
    frame, orientation, at = None, 1, 2
    try:
        while True:
            while data[at : at + 2] == _FILL:
                at += 1
            marker, length = _segment(data, at)
            payload = data[at + 4 : at + 2 + length]
            if marker in _SOF:
                frame = (*struct.unpack_from(">BHHB", payload), marker)
            elif marker == _APP1 and payload.startswith(b"Exif\0\0"):
                orientation = _orientation(payload[6:])
            elif marker in (_SOS, _EOI):
                break
            at += 2 + length
    except (struct.error, IndexError):
        frame = None
    if frame is None:
        raise ValueError("cut short in its header")
    bits, height, width, components, marker = frame
    plain = marker in _PLAIN_SOF and bits == 8 and components in (1, 3)
    return Head(width, height, plain, orientation)


def _segment(data: bytes, at: int) -> tuple[int, int]:
    """The marker at byte `at` and its segment's length."""
    if data[at] != 0xFF:
        raise ValueError(f"damaged header at byte {at}")
    marker, length = struct.unpack_from(">BH", data, at + 1)
    return marker, length


def _orientation(tiff: bytes) -> int:
    """Orientation from an EXIF segment, 1 where it has none or is damaged."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, ifd)
        for index in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, ifd + 2 + index * _IFD_ENTRY_BYTES)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
