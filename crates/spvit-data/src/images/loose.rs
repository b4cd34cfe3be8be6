//! Images that nobody has labelled: files by name, and those in folders.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::DataError;
use crate::images::catalogue::MAX_FILE;
use crate::images::decode::decode;
use crate::images::walk::has_image_ending;
use crate::pixels::Pixels;
use crate::source::ImageSource;

/// Images without labels. Each is a class of its own, so that a batch says which of them it holds even where others
/// are broken.
#[derive(Clone, Debug)]
pub struct LooseImages {
    paths: Vec<PathBuf>,
    channels: usize,
}

impl LooseImages {
    /// The most images of one source.
    pub const MOST: usize = 4096;

    /// All image files among `places`: files as they are named, whatever their names end in, and those below folders
    /// that are named as images are, sorted. In sources of at most [`MOST`](Self::MOST) images of `channels` channels.
    ///
    /// # Errors
    ///
    /// [`DataError`] that names a place that is not there or cannot be read, or has no images.
    pub fn find(places: &[PathBuf], channels: usize) -> Result<Vec<Self>, DataError> {
        let mut paths = Vec::new();
        for place in places {
            let failed = |cause| DataError::io("read", place, cause);
            if !place.metadata().map_err(failed)?.is_dir() {
                paths.push(place.clone());
                continue;
            }
            let before = paths.len();
            for entry in WalkDir::new(place).follow_links(true).sort_by_file_name() {
                // A folder that cannot be entered, or a link in a circle, has no images.
                let Ok(entry) = entry else { continue };
                if entry.file_type().is_file() && has_image_ending(entry.path()) {
                    paths.push(entry.into_path());
                }
            }
            if paths.len() == before {
                return Err(DataError::Image {
                    name: place.display().to_string(),
                    problem: "expected an image, or a folder with JPEG, PNG or WebP files".into(),
                });
            }
        }
        Ok(paths.chunks(Self::MOST).map(|own| Self { paths: own.to_vec(), channels }).collect())
    }

    /// The file of image `index`.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.paths.get(index).map(PathBuf::as_path)
    }
}

/// A file's bytes, as many as it says it has: links may lead to files of the system that never end. Of what is named
/// and no file, such as another program's output, as many as an image may have.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    let most = if metadata.is_file() { metadata.len() } else { u64::MAX };
    let mut content = Vec::new();
    // Without this, opening is enough for some of them to wait.
    if most > 0 {
        fs::File::open(path)?.take(most.min(MAX_FILE + 1)).read_to_end(&mut content)?;
    }
    Ok(content)
}

impl ImageSource for LooseImages {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn classes(&self) -> usize {
        self.paths.len()
    }

    fn size(&self) -> Option<[usize; 2]> {
        None
    }

    fn label(&self, index: usize) -> Option<u16> {
        u16::try_from(index).ok().filter(|_| index < self.paths.len())
    }

    fn name(&self, index: usize) -> String {
        self.path(index).map_or_else(|| format!("image {index}"), |path| path.display().to_string())
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        let Some(path) = self.path(index) else {
            let expected = format!("less than {}", self.paths.len());
            return Err(DataError::option("image", expected, index));
        };
        let image = |problem: String| DataError::Image { name: self.name(index), problem };
        let content = read(path).map_err(|error| image(error.to_string()))?;
        if content.len() as u64 > MAX_FILE {
            return Err(image(format!("expected at most {MAX_FILE} bytes, found more")));
        }
        decode(&content, self.channels).map_err(image)
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        self.paths.iter().for_each(|path| feed(path.as_os_str().as_encoded_bytes()));
    }
}
