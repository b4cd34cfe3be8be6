//! Lists and tar archives of images, whole and damaged.

use std::fs;

use super::{
    super::{
        Verdict,
        folders::damage,
        place::{Dice, Place},
    },
    failed, look, run_and_stop,
};

const BLOCK: usize = 512;

/// A tar archive in the making. Written here, as no library would write what is wrong on purpose.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn file(&mut self, name: &str, content: &[u8]) {
        let size = format!("{:011o}", content.len());
        self.member(name.as_bytes(), b'0', size.as_bytes(), content);
    }

    /// A member with a header that may be wrong but for its sum.
    fn member(&mut self, name: &[u8], kind: u8, size: &[u8], content: &[u8]) {
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name[..name.len().min(100)]);
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, &size[..size.len().min(12)]);
        put(136, b"00000000000\0        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 2 * BLOCK]);
        self.0
    }
}

/// A member that should not be in an archive.
fn odd_member(tar: &mut Tar, dice: &mut Dice, image: &[u8]) -> String {
    let names: [&[u8]; 8] = [
        b"../../outside.png",
        b"/etc/passwd.png",
        b"03-n\nerror: x.png",
        b"caf\xe9.png",
        b".png",
        b"",
        b"a/./b/../03-1.png",
        b"03-1.png",
    ];
    let sizes: [&[u8]; 7] = [
        b"77777777777",
        b"-0000000001",
        b"not octal!!",
        b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\0\0\0\0\0\0\0\0\xff\xff\xff",
        b"00000000000",
    ];
    let name = *dice.choose(&names);
    let well = format!("{:011o}", image.len());
    let record = |text: &str| {
        // A record begins with its own length.
        let length = text.len() + 4;
        format!("{length:02} {text}\n").into_bytes()
    };
    match dice.below(7) {
        0 => {
            let size = *dice.choose(&sizes);
            tar.member(name, b'0', size, image);
            format!("a member of size {:?}", String::from_utf8_lossy(size))
        }
        1 => {
            let kind = *dice.choose(b"1234567gxLKSVMNDA\0\xff");
            tar.member(name, kind, well.as_bytes(), image);
            format!("a member of kind {kind:?}")
        }
        2 => {
            let size = *dice.choose(&sizes);
            tar.member(b"././@LongLink", b'L', size, image);
            tar.file("short.png", image);
            format!("a long name of size {:?}", String::from_utf8_lossy(size))
        }
        3 => {
            let record = record(dice.choose::<&str>(&[
                "size=99999999999999999999",
                "size=18446744073709551615",
                "size=-1",
                "path=../../../up.png",
                "path=",
                "linkpath=/etc",
            ]));
            tar.member(b"pax", b'x', format!("{:011o}", record.len()).as_bytes(), &record);
            tar.file("03-7.png", image);
            tar.file("03-7.cls", b"3");
            String::from_utf8_lossy(&record).trim().to_string()
        }
        4 => {
            tar.member(name, b'0', well.as_bytes(), image);
            format!("{:?} without a label", String::from_utf8_lossy(name))
        }
        5 => {
            let label = *dice.choose::<&[u8]>(&[
                b"3\0",
                b"\xff\xfe",
                b"99999999999999999999",
                b"-1",
                b"",
                b"3 4",
                b"error: x\nerror: y",
            ]);
            tar.file("odd.png", image);
            tar.file("odd.cls", label);
            format!("the label {:?}", String::from_utf8_lossy(label))
        }
        _ => {
            let text = match dice.below(3) {
                0 => "[".repeat(100_000),
                1 => r#"{"label": {"label": 1e999}}"#.into(),
                _ => format!(r#"{{"cls": "{}"}}"#, "x".repeat(100_000)),
            };
            tar.file("odd.png", image);
            tar.file("odd.json", text.as_bytes());
            "an odd description".into()
        }
    }
}

/// Shards that are damaged, or hold what they should not.
pub fn broken_shards(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    if let Err(problem) = place.copy("shards", "odd-shards") {
        return Verdict::Failed(problem);
    }
    let split = *dice.choose(&["train", "train", "val", "test"]);
    let file = place.path("odd-shards").join(format!("{split}-0.tar"));
    let mut content = match fs::read(&file) {
        Ok(content) => content,
        Err(error) => return failed(error),
    };
    let how = match number % 3 {
        0 => damage(&mut content, dice).to_string(),
        1 => {
            // An image in the middle, where the list of members says nothing.
            let at = BLOCK * (1 + 4 * dice.below(20)) + dice.below(200);
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 0xff;
            }
            format!("byte {at} changed")
        }
        _ => {
            let image = content[BLOCK..BLOCK + 300].to_vec();
            let mut tar = Tar(content[..content.len() - 2 * BLOCK].to_vec());
            let how = odd_member(&mut tar, dice, &image);
            content = if dice.below(4) == 0 { tar.0 } else { tar.end() };
            how
        }
    };
    if let Err(error) = fs::write(&file, content) {
        return failed(error);
    }
    let result = match number % 4 {
        3 => look(place, dice, "odd-shards"),
        _ => run_and_stop(place, dice, "odd-shards", number.is_multiple_of(2)),
    };
    result.map(drop).map_err(|problem| format!("{split} shard, {how}: {problem}")).into()
}

/// Changes one line of a list.
fn odd_line(lines: &mut [Vec<u8>], dice: &mut Dice) -> String {
    let at = 1 + dice.below(lines.len() - 1);
    let long = format!("{}.png,3,train", "x".repeat(1 << dice.below(18)));
    let deep = format!("{}a.png,3,train", "../".repeat(3000));
    let line = *dice.choose::<&[u8]>(&[
        b"/dev/zero,3,train",
        b"/dev/full,3,train",
        b"pipe,3,train",
        b".,3,train",
        b"list.csv,3,train",
        b"/etc/passwd,3,train",
        b"../../../../../../etc/shadow,3,train",
        b"caf\xe9\xff.png,3,train",
        b"a\0b.png,3,train",
        b"\"a\nerror: b.png\",3,train",
        b"\"never closed,3,train",
        b"a.png",
        b",,",
        b"a.png,3,train,more",
        b"a.png,3,nowhere",
        b"a.png,99999999999999999999,train",
        b"a.png,\xff,train",
        b"a.png,-1,train",
        long.as_bytes(),
        deep.as_bytes(),
    ]);
    lines[at] = line.to_vec();
    format!("line {at} is {:?}", String::from_utf8_lossy(&line[..line.len().min(60)]))
}

/// Lists that are damaged, or name what is no image.
pub fn broken_lists(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    if let Err(problem) = place.copy("listed", "odd-list") {
        return Verdict::Failed(problem);
    }
    place.run("mkfifo odd-list/pipe");
    let file = place.path("odd-list/list.csv");
    let mut content = match fs::read(&file) {
        Ok(content) => content,
        Err(error) => return failed(error),
    };
    let how = match number % 4 {
        3 => damage(&mut content, dice).to_string(),
        _ => {
            let mut lines: Vec<Vec<u8>> =
                content.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            let how = odd_line(&mut lines, dice);
            content = lines.join(&b'\n');
            how
        }
    };
    if let Err(error) = fs::write(&file, content) {
        return failed(error);
    }
    let data = *dice.choose(&["odd-list", "odd-list/list.csv"]);
    let result = match number % 4 {
        1 => look(place, dice, data),
        _ => run_and_stop(place, dice, data, number.is_multiple_of(2)),
    };
    result.map(drop).map_err(|problem| format!("{data}, {how}: {problem}")).into()
}
