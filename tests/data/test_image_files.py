"""One image file: each mode, orientation and depth against what it stands for, the resize against torchvision's."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from pyro_vae.data.image_files import Picture, Unreadable, as_size, decode, has_colour, size_of

LEVELS = np.array([[0, 1, 128, 129, 256, 257], [32767, 32768, 40000, 65534, 65535, 1000]], np.uint16)
ROUNDED = np.round(LEVELS / 257)


def colours(height=20, width=30, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(height, width):
    """An image that is smooth, as photographs are."""
    return Image.fromarray(colours(6, 6)).resize((width, height), Image.Resampling.BICUBIC)


def pixels(path, size=None, channels=None):
    found = decode(path, size, channels)
    assert isinstance(found, Picture), found
    return np.squeeze(np.moveaxis(found.pixels, 0, -1).astype(int), axis=2 if len(found.pixels) == 1 else ())


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def tiff(path, levels, order, photometric, bits=16, kind=1):
    """Write grey levels as TIFF, in any order of bytes; PIL writes only that of the machine."""
    mark = "<" if order == "II" else ">"
    content = levels.astype(levels.dtype.newbyteorder(mark)).tobytes()
    height, width = levels.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(content)), (339, 3, kind)]
    out = order.encode() + struct.pack(f"{mark}HI", 42, 8 + len(content)) + content + struct.pack(f"{mark}H", len(tags))
    for tag, form, value in tags:
        out += struct.pack(f"{mark}HHI", tag, form, 1)
        out += struct.pack(f"{mark}I", value) if form == 4 else struct.pack(f"{mark}HH", value, 0)
    path.write_bytes(out + struct.pack(f"{mark}I", 0))
    return path


def png_of_16_bits(path, levels, colour_type):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = levels.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.webp", "a.ppm", "without_ending"])
def test_colours_of_lossless_files_stay(tmp_path, name):
    form = {"without_ending": "PNG"}.get(name)
    options = {"lossless": True} if name == "a.webp" else {}
    path = saved(tmp_path, Image.fromarray(colours()), name, format=form, **options)
    np.testing.assert_array_equal(pixels(path), colours())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.pgm"])
def test_grey_files_are_grey(tmp_path, name):
    np.testing.assert_array_equal(
        pixels(saved(tmp_path, Image.fromarray(colours(channels=1)), name)), colours(channels=1)
    )


def test_grey_palettes_have_no_colour(tmp_path):
    found = pixels(saved(tmp_path, Image.fromarray(colours(channels=1)), "a.gif"))
    np.testing.assert_array_equal(found, colours(channels=1)[..., None].repeat(3, -1))
    assert not has_colour(np.moveaxis(found, -1, 0))


def test_jpeg_is_what_pil_decodes(tmp_path):
    path = saved(tmp_path, photo(40, 50), "a.jpg", quality=90)
    np.testing.assert_array_equal(pixels(path), np.asarray(Image.open(path)))


def test_one_bit_is_black_or_white(tmp_path):
    bits = colours(channels=1) > 127
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(bits), "a.png")), 255 * bits)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_are_rounded_to_8(tmp_path, name):
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(LEVELS), name)), ROUNDED)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_16_bits_in_either_order_of_bytes(tmp_path, order):
    np.testing.assert_array_equal(pixels(tiff(tmp_path / "a.tif", LEVELS, order, 1)), ROUNDED)


def test_white_is_zero(tmp_path):
    np.testing.assert_array_equal(pixels(tiff(tmp_path / "a.tif", LEVELS, "II", 0)), 255 - ROUNDED)
    eight = LEVELS.astype(np.uint8)
    np.testing.assert_array_equal(pixels(tiff(tmp_path / "b.tif", eight, "II", 0, bits=8)), 255 - eight.astype(int))


def test_the_white_of_12_bits_is_4095(tmp_path):
    packed = np.frombuffer(bytes.fromhex("FFF000800FFF"), np.uint8).reshape(1, -1)
    path = tiff(tmp_path / "a.tif", packed, "II", 1, bits=12)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<HHII", 256, 4, 1, 6)) + 8] = 4  # four pixels in six bytes
    path.write_bytes(content)
    np.testing.assert_array_equal(pixels(path), [[255, 0, round(0x800 / 4095 * 255), 255]])


@pytest.mark.parametrize("kind", [(np.int16, 16, 2), (np.float32, 32, 3), (np.uint32, 32, 1)])
def test_numbers_without_a_white_are_refused(tmp_path, kind):
    dtype, bits, form = kind
    found = decode(tiff(tmp_path / "a.tif", LEVELS.astype(dtype), "II", 1, bits, form), None, None)
    assert isinstance(found, Unreadable)
    assert "nothing says which of them is white" in found.reason


def test_colours_and_alpha_of_16_bits(tmp_path):
    levels = np.stack([LEVELS, LEVELS[::-1], LEVELS], -1)
    assert abs(pixels(png_of_16_bits(tmp_path / "a.png", levels, 2)) - levels / 257).max() <= 1
    grey, alpha = LEVELS / 257, LEVELS[::-1] / 65535
    found = pixels(png_of_16_bits(tmp_path / "b.png", np.stack([LEVELS, LEVELS[::-1]], -1), 4))
    assert abs(found[..., 0] - (grey * alpha + 255 * (1 - alpha))).max() <= 1.5
    assert not has_colour(np.moveaxis(found, -1, 0))


def test_the_clear_level_of_16_bits_is_white(tmp_path):
    path = saved(tmp_path, Image.fromarray(LEVELS), "a.png", transparency=257)
    np.testing.assert_array_equal(pixels(path), np.where(LEVELS == 257, 255, ROUNDED))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_alpha_is_composited_on_white(tmp_path, name):
    rgba = colours(channels=4)
    rgba[:5, :, 3], rgba[5:10, :, 3] = 0, 255
    path = saved(
        tmp_path, Image.fromarray(rgba), name, **({"lossless": True, "exact": True} if name == "a.webp" else {})
    )
    share = rgba[..., 3:] / 255
    found = pixels(path)
    assert abs(found - (rgba[..., :3] * share + 255 * (1 - share))).max() <= 1
    assert (found[:5] == 255).all()
    np.testing.assert_array_equal(found[5:10], rgba[5:10, :, :3])


def test_grey_with_alpha_stays_grey(tmp_path):
    la = colours(channels=2)
    found = pixels(saved(tmp_path, Image.fromarray(la, "LA"), "a.png"))
    share = la[..., 1] / 255
    assert abs(found - (la[..., 0] * share + 255 * (1 - share))).max() <= 1


def test_palettes(tmp_path):
    image = Image.fromarray(colours(channels=1) % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
    wanted = table[colours(channels=1) % 4]
    np.testing.assert_array_equal(pixels(saved(tmp_path, image, "a.png")), wanted)
    clear = pixels(saved(tmp_path, image, "b.png", transparency=2))
    np.testing.assert_array_equal(clear, _white_at(wanted, 2))
    np.testing.assert_array_equal(pixels(saved(tmp_path, image, "b.gif", transparency=2)), _white_at(wanted, 2))


def _white_at(wanted, clear):
    return np.where((colours(channels=1) % 4 == clear)[..., None], 255, wanted)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk(tmp_path, name):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 0], inks[8:, :, 3] = 255, 100  # cyan above, grey below
    found = pixels(saved(tmp_path, Image.fromarray(inks, "CMYK"), name))
    assert abs(found[:8] - [0, 255, 255]).max() <= 2
    assert abs(found[8:] - 155).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_images_are_turned_as_exif_says(tmp_path, name, orientation):
    upright = np.kron(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), np.ones((16, 16), np.uint8))
    stored = {  # the EXIF standard: where row 0 and column 0 of the file lie in the upright image
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), name, exif=exif)
    assert size_of(path) == upright.shape
    found = pixels(path)
    assert abs((found if found.ndim == 2 else found[..., 0]) - upright).max() <= 3


@pytest.mark.parametrize("shape", [(64, 64), (80, 96), (218, 178), (37, 211), (20, 20), (33, 32)])
@pytest.mark.parametrize("side", [16, 32])
def test_squares_are_resized_as_torchvision_does(tmp_path, shape, side):
    path = saved(tmp_path, photo(*shape), "a.png")
    wanted = Compose([Resize(side), CenterCrop(side)])(Image.open(path))
    found = pixels(path, (side, side))
    assert found.shape == (side, side, 3)
    assert abs(found - np.asarray(wanted)).max() <= 1


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (7, 40)])
def test_rectangles_are_covered(tmp_path, size):
    path = saved(tmp_path, photo(60, 80), "a.png")
    height, width = size
    scale = max(height / 60, width / 80)
    whole = Image.open(path).resize(
        (max(width, int(80 * scale)), max(height, int(60 * scale))), Image.Resampling.BILINEAR
    )
    assert abs(pixels(path, size) - np.asarray(CenterCrop(size)(whole))).max() <= 1


def test_a_resize_is_antialiased(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    path = saved(tmp_path, Image.fromarray(board.astype(np.uint8)), "a.png")
    assert abs(pixels(path, (8, 8))[1:-1, 1:-1] - 127.5).max() <= 1


def test_a_very_long_image_takes_no_memory(tmp_path):
    line = np.repeat(np.arange(256, dtype=np.uint8), 200)[None]
    found = pixels(
        saved(tmp_path, Image.fromarray(line), "a.png"), (512, 512)
    )  # covered, it would have 13 billion pixels
    assert found.shape == (512, 512)
    assert len(np.unique(found)) <= 3  # a column or two around the middle


def test_grey_of_a_colour_is_its_luma(tmp_path):
    path = saved(tmp_path, Image.fromarray(colours()), "a.png")
    luma = colours() @ [0.299, 0.587, 0.114]
    assert abs(pixels(path, channels=1) - luma).max() <= 1


def test_the_first_of_several_images_counts(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (10, 200)]
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
        found = decode(path, None, None)
        assert found.one_of_several, name
        assert abs(found.pixels.astype(int) - 10).max() <= 1
        assert not decode(saved(tmp_path, frames[0], name), None, None).one_of_several, name


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM"])
def test_cut_files_are_not_read(tmp_path, form):
    whole = io.BytesIO()
    Image.fromarray(colours()).save(whole, form)
    for length in (1, 12, len(whole.getvalue()) // 2):
        (tmp_path / "a").write_bytes(whole.getvalue()[:length])
        assert isinstance(decode(tmp_path / "a", None, None), Unreadable), length


def test_reasons(tmp_path):
    def reason(name, content):
        (tmp_path / name).write_bytes(content)
        return decode(tmp_path / name, None, None).reason

    assert reason("a.png", b"") == "empty"
    assert reason("a.txt", b"hello") == "damaged, or not PNG, JPEG, TIFF, BMP, GIF, WebP"
    assert reason("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == reason("a.txt", b"hello")
    assert decode(tmp_path, None, None).reason == "no file"


def test_bombs_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (100, 100)), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    assert "exceeds limit of 8000 pixels" in decode(path, None, None).reason


@pytest.mark.parametrize("size", [32, "32", (32,), "32x32", [32, 32], "32X32", "[32,32]"])
def test_sizes(size):
    assert as_size(size) == (32, 32)


def test_height_comes_first():
    assert as_size("32x48") == as_size((32, 48)) == (32, 48)
    assert as_size(None) is None


@pytest.mark.parametrize(
    "size", [0, -3, "0", "32x", "x", "", "32x48x3", (1, 2, 3), 3.5, "big", (), 10**9, [None], "1e3"]
)
def test_bad_sizes(size):
    with pytest.raises(ValueError, match="size must be the height and width of an image, such as 32 or 32x48; got"):
        as_size(size)
