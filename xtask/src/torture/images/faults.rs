//! Folders of images with files that are broken, odd or in the way.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    super::{
        Verdict,
        folders::damage,
        place::{Dice, Place},
    },
    clear, headers, look, run_and_stop,
};

/// A folder of images that is being broken.
struct Folder<'a> {
    root: &'a Path,
    dice: &'a mut Dice,
}

impl Folder<'_> {
    /// The folder of some class, mostly of training images.
    fn class(&mut self) -> PathBuf {
        let split = *self.dice.choose(&["train", "train", "train", "val", "test"]);
        self.root.join(split).join(format!("{:02}", self.dice.below(10)))
    }

    /// Some image.
    fn image(&mut self) -> io::Result<PathBuf> {
        let mut images: Vec<PathBuf> =
            fs::read_dir(self.class())?.flatten().map(|entry| entry.path()).collect();
        images.retain(|path| path.is_file());
        images.sort();
        let some = images.get(self.dice.below(images.len()));
        some.cloned().ok_or_else(|| io::Error::other("no image is left"))
    }

    /// A name that no image has.
    fn place(&mut self, name: impl AsRef<OsStr>) -> PathBuf {
        self.class().join(name.as_ref())
    }

    /// An image's content, or half of it.
    fn content(&mut self) -> io::Result<Vec<u8>> {
        let content = fs::read(self.image()?)?;
        let whole = self.dice.below(2) == 0;
        Ok(if whole { content } else { content[..content.len() / 2].to_vec() })
    }
}

type Fault = fn(&mut Folder<'_>) -> io::Result<()>;

const FAULTS: [(&str, Fault); 30] = [
    ("cut", |folder| {
        let image = folder.image()?;
        let length = fs::metadata(&image)?.len() as usize;
        File::options().write(true).open(image)?.set_len(folder.dice.below(length) as u64)
    }),
    ("damaged", damaged),
    ("damaged again", damaged),
    ("zeros", |folder| {
        let image = folder.image()?;
        let length = fs::metadata(&image)?.len() as usize;
        fs::write(image, vec![0; length])
    }),
    ("a wrong ending", |folder| {
        let ending =
            *folder.dice.choose(&["jpg", "png", "webp", "gif", "bmp", "txt", "cls", "PNG", ""]);
        let image = folder.image()?;
        fs::rename(&image, image.with_extension(ending))
    }),
    ("no image", |folder| {
        let text =
            *folder.dice.choose(&["<html>404</html>", "\u{feff}text", "BM", "GIF89a", "RIFF"]);
        fs::write(folder.place("text.png"), text)
    }),
    ("claims", claims),
    ("claims again", claims),
    ("a bomb", |folder| fs::write(folder.place("bomb.png"), headers::bomb(folder.dice))),
    ("empty", |folder| fs::write(folder.image()?, "")),
    ("an empty folder called an image", |folder| fs::create_dir(folder.place("empty.png"))),
    ("a folder called an image", |folder| {
        let inner = folder.place("full.png");
        fs::create_dir(&inner)?;
        fs::write(inner.join("x.png"), folder.content()?)
    }),
    ("a pipe", |folder| pipe(&folder.place("pipe.png"))),
    ("a socket", |folder| {
        // A socket's path may have 107 bytes.
        let here = folder.root.parent().unwrap_or(folder.root).join("s");
        let _ = fs::remove_file(&here);
        UnixListener::bind(&here).and_then(|_| fs::rename(here, folder.place("socket.jpg")))
    }),
    ("a name that is no text", |folder| {
        fs::write(folder.place(OsStr::from_bytes(b"caf\xe9 \xff.png")), folder.content()?)
    }),
    ("lines in a name", |folder| {
        fs::write(folder.place("a\nerror: b\r\x1b[31m\u{9b}c.png"), folder.content()?)
    }),
    ("a class of an odd name", |folder| {
        for split in ["train", "val", "test"] {
            let split = folder.root.join(split);
            let name = OsStr::from_bytes(b"01\xff\nerror: x");
            fs::rename(split.join("01"), split.join(name))?;
        }
        Ok(())
    }),
    ("links in circles", |folder| {
        let class = folder.class();
        symlink(folder.root, class.join("root"))?;
        symlink(&class, class.join("back.png"))?;
        symlink("itself.png", class.join("itself.png"))
    }),
    ("links to nothing and devices", |folder| {
        let class = folder.class();
        symlink("nothing", class.join("nothing.png"))?;
        symlink("/dev/zero", class.join("zero.png"))?;
        symlink("/proc/self/mem", class.join("memory.png"))?;
        symlink("/proc/kmsg", class.join("log.png"))
    }),
    ("a link to another image", |folder| {
        let image = folder.image()?;
        symlink(image, folder.place("linked.png"))
    }),
    ("an unreadable file", |folder| forbid(&folder.image()?)),
    ("an unreadable folder", |folder| {
        let inner = folder.place("secret");
        fs::create_dir(&inner)?;
        fs::write(inner.join("x.png"), folder.content()?)?;
        forbid(&inner)
    }),
    ("a class without images", |folder| {
        let class = folder.class();
        fs::remove_dir_all(&class)?;
        fs::create_dir(class)
    }),
    ("a class that one split lacks", |folder| fs::remove_dir_all(folder.class())),
    ("a file of 2 GiB", |folder| File::create(folder.place("large.png"))?.set_len(1 << 31)),
    ("deep folders", |folder| {
        let depth = 60 + folder.dice.below(20);
        let deep = folder.place(["d"; 80][..depth].join("/"));
        fs::create_dir_all(&deep)?;
        fs::write(deep.join("x.png"), folder.content()?)
    }),
    ("a name of 255 bytes", |folder| {
        fs::write(folder.place(format!("{}.png", "n".repeat(251))), folder.content()?)
    }),
    ("damaged names of classes", |folder| {
        let names: Vec<u8> =
            (0..folder.dice.below(300)).map(|_| folder.dice.below(256) as u8).collect();
        fs::write(folder.root.join("class_names.txt"), names)
    }),
    ("times that cannot be", |folder| {
        let image = File::open(folder.image()?)?;
        let class = File::open(folder.class())?;
        class.set_modified(UNIX_EPOCH + Duration::from_secs(9_000_000_000))?;
        image.set_modified(UNIX_EPOCH - Duration::from_secs(2_000_000_000))
    }),
    ("things that others leave", |folder| {
        let class = folder.class();
        fs::create_dir_all(class.join("__MACOSX"))?;
        for name in ["__MACOSX/x.png", ".DS_Store", "._x.png", "Thumbs.db"] {
            fs::write(class.join(name), "not for us")?;
        }
        pipe(&folder.root.join("list.csv"))?;
        fs::create_dir(folder.root.join("shard.tar"))
    }),
];

fn damaged(folder: &mut Folder<'_>) -> io::Result<()> {
    let image = folder.image()?;
    let mut content = fs::read(&image)?;
    damage(&mut content, folder.dice);
    fs::write(image, content)
}

fn claims(folder: &mut Folder<'_>) -> io::Result<()> {
    let (ending, content) = headers::claiming(folder.dice);
    fs::write(folder.place(format!("claims-{}.{ending}", content.len())), content)
}

fn pipe(path: &Path) -> io::Result<()> {
    let made = Command::new("mkfifo").arg(path).output()?;
    if made.status.success() { Ok(()) } else { Err(io::Error::other("no pipe could be made")) }
}

fn forbid(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o000))
}

/// Three faults of a folder at once: what is read of it is read, and the rest told.
pub fn broken_folders(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    clear(place, "odd");
    if let Err(problem) = place.copy("pictures", "odd") {
        return Verdict::Failed(problem);
    }
    let root = place.path("odd");
    let mut what = Vec::new();
    for turn in 0..3 {
        // One after the other in a short run, any three in a long one.
        let fault = match number < FAULTS.len() / 3 {
            true => 3 * number + turn,
            false => dice.below(FAULTS.len()),
        };
        let (name, fault) = FAULTS[fault];
        what.push(match fault(&mut Folder { root: &root, dice }) {
            Ok(()) => name.to_string(),
            // Another fault took what this one needs.
            Err(error) => format!("{name} ({error})"),
        });
    }
    let result = match number % 4 {
        3 => look(place, dice, "odd"),
        _ => run_and_stop(place, dice, "odd", number.is_multiple_of(2)),
    };
    clear(place, "odd");
    let what = what.join(", ");
    result.map(drop).map_err(|problem| format!("{what}: {problem}")).into()
}
