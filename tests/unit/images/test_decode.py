"""Every mode and format comes out as Pillow's own RGB; what is broken raises."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from gen_eval.images.decode import decode, quiet_pillow, to_rgb

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow_rgb(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def palette_image(**info):
    image = Image.fromarray(RGB).quantize(16)
    image.info.update(info)
    return image


CASES = {
    "rgb png": (encode(Image.fromarray(RGB)), None),
    "rgb jpeg": (encode(Image.fromarray(RGB), "JPEG"), None),
    "progressive jpeg": (encode(Image.fromarray(RGB), "JPEG", progressive=True), None),
    "webp": (encode(Image.fromarray(RGB), "WEBP", lossless=True), None),
    "bmp": (encode(Image.fromarray(RGB), "BMP"), None),
    "tiff": (encode(Image.fromarray(RGB), "TIFF"), None),
    "gray": (encode(Image.fromarray(RGB[:, :, 0])), "gray to RGB"),
    "bilevel": (encode(Image.fromarray(RGB[:, :, 0]).convert("1")), "gray to RGB"),
    "gray jpeg": (encode(Image.fromarray(RGB[:, :, 0]), "JPEG"), "gray to RGB"),
    "gray alpha": (encode(Image.fromarray(RGB).convert("LA")), "gray to RGB, alpha dropped"),
    "rgba": (encode(Image.fromarray(np.dstack([RGB, RGB[:, :, :1]]))), "RGBA to RGB, alpha dropped"),
    "colour key": (encode(Image.fromarray(RGB), transparency=(1, 2, 3)), "alpha dropped"),
    "palette": (encode(palette_image()), "palette to RGB"),
    "palette with one transparent": (
        encode(palette_image(), transparency=3),
        "palette to RGB, alpha dropped",
    ),
    "palette with alpha": (
        encode(palette_image(), transparency=bytes(range(0, 160, 10))),
        "palette to RGB, alpha dropped",
    ),
    "cmyk": (encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "CMYK to RGB"),
    "gif": (encode(palette_image(), "GIF"), "palette to RGB"),
}


@pytest.mark.parametrize(("data", "note"), CASES.values(), ids=CASES.keys())
def test_pixels_are_pillows(data, note):
    pixels, found = decode(data)
    np.testing.assert_array_equal(pixels, pillow_rgb(data))
    assert found == note
    assert pixels.dtype == np.uint8
    assert pixels.shape == (13, 17, 3)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 120, 250)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    pixels, note = decode(data)
    np.testing.assert_array_equal(pixels, pillow_rgb(data))
    assert note.startswith("first frame of 3")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels, note = decode(encode(Image.fromarray(ramp), kind))
    expected = np.rint(ramp / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels, np.stack([expected] * 3, axis=2))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert note == "16-bit scaled to 8, gray to RGB"


def test_big_endian_16_bits():
    image = Image.frombytes("I;16B", (2, 1), b"\xff\xff\x80\x80")
    assert to_rgb(image)[0][0, :, 0].tolist() == [255, 128]


def test_other_modes_in_memory():
    image = Image.fromarray(RGB).convert("YCbCr")
    pixels, note = to_rgb(image)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    assert note == "YCbCr to RGB"


def test_mode_i_is_taken_as_16_bits():
    pixels, note = to_rgb(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.int32)))
    assert pixels[0, :, 0].tolist() == [0, 1, 255]
    assert "16-bit" in note


@pytest.mark.parametrize("value", [-1, 65536])
def test_mode_i_beyond_16_bits_is_refused(value):
    data = encode(Image.fromarray(np.array([[0, value]], dtype=np.int32)), "TIFF")
    with pytest.raises(ValueError, match="beyond 16 bits"):
        decode(data)


def test_float_pixels_are_refused():
    with pytest.raises(ValueError, match="floats"):
        decode(encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("kept", [0.2, 0.6])
def test_cut_short_raises(kind, kept):
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, kind)
    with pytest.raises(Exception):  # noqa: B017, PT011 - Pillow has no common exception
        decode(data[: int(len(data) * kept)])


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "0 bytes"), (b"hello, world", "begins with b'hello, w'")]
)
def test_what_is_no_image(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_postscript_never_reaches_ghostscript():
    with pytest.raises(ValueError, match="not a PNG"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


def test_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encode(Image.fromarray(RGB), "JPEG", exif=exif))[0].shape == (13, 17, 3)


def test_large_images_are_quiet(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    data = encode(Image.fromarray(RGB))
    with pytest.raises(Image.DecompressionBombWarning):
        decode(data)
    with quiet_pillow():
        assert decode(data)[0].shape == (13, 17, 3)


def test_quiet_pillow_leaves_the_filters_as_they_were():
    before = list(warnings.filters)
    with quiet_pillow():
        with quiet_pillow():
            pass
        with pytest.raises(UserWarning):
            warnings.warn("others are heard", stacklevel=1)
    assert warnings.filters == before


def test_quiet_pillow_outlives_the_filters_of_the_caller():
    with warnings.catch_warnings():
        quiet = quiet_pillow()
        quiet.__enter__()
    quiet.__exit__(None, None, None)


def test_a_pillow_image_is_left_as_it_is():
    image = palette_image(transparency=bytes(16))
    to_rgb(image)
    assert image.mode == "P"
    assert image.info["transparency"] == bytes(16)


def png_16_bit_colour(values):
    """A 16-bit RGB PNG of one row, which Pillow reads but cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    row = b"\0" + b"".join(struct.pack(">HHH", v, v, v) for v in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_is_counted_and_within_one_of_scaling():
    values = [0, 255, 384, 32767, 33023, 65279, 65535]
    pixels, note = decode(png_16_bit_colour(values))
    assert note == "16-bit colour to its high bytes"
    assert np.abs(pixels[0, :, 0] - np.array(values) / 257).max() <= 1
