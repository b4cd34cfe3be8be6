//! Files that claim to be larger than they are, or are larger than they look.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::super::place::Dice;

/// Sides at which decoders and memory end.
const SIDES: [u32; 10] =
    [0, 1, 11_585, 16_383, 65_500, 65_501, 65_535, 1 << 24, (1 << 31) - 1, u32::MAX];

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&length[..], kind, content, &crc.sum().to_be_bytes()].concat()
}

fn deflated(zeros: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let piece = [0; 1 << 16];
    for start in (0..zeros).step_by(piece.len()) {
        let _ = encoder.write_all(&piece[..piece.len().min(zeros - start)]);
    }
    encoder.finish().unwrap_or_default()
}

/// A grey PNG that says it has these sides and holds so many zeros; `extra` comes before them.
fn png(width: u32, height: u32, zeros: usize, extra: &[u8]) -> Vec<u8> {
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let head = [&sides[..], &[8, 0, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &head)[..],
        extra,
        &chunk(b"IDAT", &deflated(zeros)),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

/// A file with a header that claims some size, and next to nothing behind it.
pub fn claiming(dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let (width, height) = (*dice.choose(&SIDES), *dice.choose(&SIDES));
    let small = |side: u32| side.min(65_535) as u16;
    match dice.below(7) {
        0 => ("png", png(width, height, 1000, &[])),
        1 => {
            // Baseline or progressive, of 1, 3 or 4 components, and a scan of nothing.
            let (kind, parts) = (*dice.choose(&[0xc0, 0xc2]), *dice.choose(&[1u8, 3, 4]));
            let mut file = vec![0xff, 0xd8, 0xff, kind, 0, 8 + 3 * parts, 8];
            file.extend([small(height).to_be_bytes(), small(width).to_be_bytes()].concat());
            file.push(parts);
            (1..=parts).for_each(|part| file.extend([part, 0x11, 0]));
            file.extend([0xff, 0xda, 0, 6 + 2 * parts, parts]);
            (1..=parts).for_each(|part| file.extend([part, 0]));
            file.extend([0, 63, 0, 0, 0, 0xff, 0xd9]);
            ("jpg", file)
        }
        2 => {
            // Lossy, 14 bits a side.
            let mut frame = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a];
            frame.extend(
                [small(width) & 0x3fff, small(height) & 0x3fff].map(u16::to_le_bytes).concat(),
            );
            frame.extend([0; 20]);
            ("webp", riff(b"VP8 ", &frame))
        }
        3 => {
            let bits = (width & 0x3fff) | ((height & 0x3fff) << 14);
            let frame = [&[0x2f][..], &bits.to_le_bytes(), &[0; 20]].concat();
            ("webp", riff(b"VP8L", &frame))
        }
        4 => {
            // A canvas of 24 bits a side.
            let mut canvas = vec![0x02, 0, 0, 0];
            canvas.extend(&width.to_le_bytes()[..3]);
            canvas.extend(&height.to_le_bytes()[..3]);
            ("webp", riff(b"VP8X", &canvas))
        }
        5 => {
            let sides = [small(width), small(height)].map(u16::to_le_bytes).concat();
            let frame = [&[0x2c, 0, 0, 0, 0][..], &sides, &[0, 2, 1, 0, 0, 0x3b]].concat();
            ("gif", [b"GIF89a", &sides[..], &[0x80, 0, 0, 0, 0, 0, 9, 9, 9], &frame].concat())
        }
        _ => {
            let mut head = vec![b'B', b'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0];
            head.extend([width, height].map(u32::to_le_bytes).concat());
            // One plane; 1 to 32 bits a pixel; plain or run lengths.
            let bits = *dice.choose(&[1, 4, 8, 24, 32]);
            head.extend([1, 0, bits, 0, dice.below(4) as u8, 0, 0, 0]);
            head.extend([0; 60]);
            ("bmp", head)
        }
    }
}

fn riff(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| (bytes as u32).to_le_bytes();
    let chunk = [kind, &length(content.len())[..], content].concat();
    [b"RIFF", &length(4 + chunk.len())[..], b"WEBP", &chunk].concat()
}

/// A PNG that is far larger unpacked: in its pixels, its texts or its profile.
pub fn bomb(dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        // As many pixels as are read; it is an image.
        0 => png(8_000, 8_000, 8_001 * 8_000, &[]),
        // More than there should be.
        1 => png(28, 28, 200_000_000, &[]),
        2 => {
            let text = [b"Comment\0\0", &deflated(200_000_000)[..]].concat();
            png(28, 28, 29 * 28, &chunk(b"zTXt", &text))
        }
        _ => {
            let profile = [b"profile\0\0", &deflated(200_000_000)[..]].concat();
            png(28, 28, 29 * 28, &chunk(b"iCCP", &profile))
        }
    }
}
