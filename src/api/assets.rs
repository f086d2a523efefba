//! The files of the web app: embedded in the binary, or read from a folder. Their names, media types and entity tags. The
//! OpenAPI document is served like one of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The largest file of a folder, in bytes: 16 MiB, because it is held in memory.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The file at `/`.
const INDEX: &str = "index.html";

/// A file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Part of the binary, as it is and compressed with gzip.
    Embedded(&'static [u8], &'static [u8]),
    /// Read from a folder, and shared by all answers.
    Read(Arc<[u8]>),
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The content.
    pub content: Content,
    /// The media type, from the name's extension.
    pub content_type: &'static str,
    /// A hash of the content, for its entity tags.
    pub hash: Cow<'static, str>,
    /// Whether the address names this version of the file: another version has another address.
    pub is_versioned: bool,
}

/// The source of the files.
#[derive(Debug)]
pub enum Assets {
    /// `static/` when the binary was built.
    Embedded,
    /// A folder.
    Folder(Folder),
}

/// A folder, and a cache of its files. A file is read again when its modification time or length has changed.
#[derive(Debug)]
pub struct Folder {
    /// Absolute, without symbolic links.
    path: PathBuf,
    read: Mutex<HashMap<PathBuf, (SystemTime, Asset)>>,
}

macro_rules! file {
    ($name:literal, $hash:literal) => {
        (
            $name,
            $hash,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name)).as_slice(),
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")).as_slice(),
        )
    };
}

/// A file's name, its hash, its bytes, and these compressed.
type Embedded = (&'static str, &'static str, &'static [u8], &'static [u8]);

/// Every file of `static/`. `build.rs` writes the list.
const EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));
/// What the names of the client module's files begin with.
const MODULE: &str = "ordercast";
/// The OpenAPI document.
const OPENAPI: Embedded = include!(concat!(env!("OUT_DIR"), "/openapi.rs"));
/// The version of all these files together, with which the page names the others.
const VERSION: &str = include_str!(concat!(env!("OUT_DIR"), "/version"));

impl Assets {
    /// Serves from a folder.
    ///
    /// # Errors
    /// When the folder or its `index.html` does not exist.
    pub fn folder(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        if folder.join(INDEX).is_file() {
            Ok(Self::Folder(Folder { path: folder, read: Mutex::default() }))
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no {INDEX}")))
        }
    }

    /// The file at a request's path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Asset> {
        let name = match path.strip_prefix('/')? {
            "" => INDEX,
            name => name,
        };
        match self {
            Self::Embedded => embedded(name),
            Self::Folder(folder) => folder.find(name).or_else(|| is_for_programs(name).then(|| embedded(name))?),
        }
    }
}

fn embedded(name: &str) -> Option<Asset> {
    let (is_versioned, name) = match name.split_once('/') {
        Some((version, name)) if is_version(version) => (version == VERSION, name),
        _ => (false, name),
    };
    let (_, hash, bytes, compressed) = EMBEDDED.iter().chain([&OPENAPI]).find(|(own, ..)| *own == name)?;
    // A version is that of the web app alone.
    let is_versioned = is_versioned && name != OPENAPI.0;
    Some(Asset {
        content: Content::Embedded(bytes, compressed),
        content_type: content_type(name),
        hash: Cow::Borrowed(hash),
        is_versioned,
    })
}

/// Whether the file is for programs and pages of others, which find it also beside another web app: the OpenAPI document
/// and the client module.
fn is_for_programs(name: &str) -> bool {
    name == OPENAPI.0 || name.starts_with(MODULE)
}

/// Whether a part of a path has the form of a version. A page of another version, as during an upgrade, gets the present
/// files.
fn is_version(part: &str) -> bool {
    part.len() == VERSION.len() && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Folder {
    /// A file of the folder. Neither `..` nor a symbolic link leads out of it.
    fn find(&self, name: &str) -> Option<Asset> {
        let is_plain = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
        };
        if !name.split('/').all(is_plain) {
            return None;
        }
        let path = fs::canonicalize(self.path.join(name)).ok().filter(|path| path.starts_with(&self.path))?;
        let facts = fs::metadata(&path).ok().filter(|facts| facts.is_file() && facts.len() <= MAX_FILE_BYTES)?;
        let changed = facts.modified().ok()?;
        // Locked while reading, so that concurrent requests for one file read it once.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, Asset { content: Content::Read(bytes), .. })) = read.get(&path)
            && *at == changed
            && bytes.len() as u64 == facts.len()
        {
            return read.get(&path).map(|(_, asset)| asset.clone());
        }
        let mut bytes = Vec::new();
        File::open(&path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
        let asset = Asset {
            hash: Cow::Owned(format!("{:016x}", hash(&bytes))),
            content: Content::Read(bytes.into()),
            content_type: content_type(name),
            is_versioned: false,
        };
        read.insert(path, (changed, asset.clone()));
        Some(asset)
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// FNV-1a with 64 bits: enough to distinguish versions of a file.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_static_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, EMBEDDED.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn the_root_is_the_page_and_tags_differ_by_content() {
        let page = Assets::Embedded.find("/").unwrap();
        assert_eq!(Some(&page), Assets::Embedded.find("/index.html").as_ref());
        assert!(page.content_type.starts_with("text/html"));
        assert_ne!(page.hash, Assets::Embedded.find("/app.js").unwrap().hash);
        assert_eq!(Assets::Embedded.find("/nothing.js"), None);
    }

    #[test]
    fn the_page_names_every_other_file_by_its_version() {
        let Some(Asset { content: Content::Embedded(page, _), .. }) = Assets::Embedded.find("/") else { panic!() };
        let page = std::str::from_utf8(page).unwrap();
        for attribute in ["href=\"", "src=\""] {
            for (_, rest) in page.match_indices(attribute).map(|(at, found)| page.split_at(at + found.len())) {
                let name = rest.split('"').next().unwrap();
                if !name.starts_with('#') {
                    let asset = Assets::Embedded.find(&format!("/{name}")).unwrap_or_else(|| panic!("{name}"));
                    assert!(asset.is_versioned, "{name}");
                }
            }
        }
        let plain = Assets::Embedded.find("/app.js").unwrap();
        let other = Assets::Embedded.find("/0123456789abcdef/app.js").unwrap();
        assert_eq!((plain.is_versioned, other.is_versioned), (false, false));
        assert_eq!(plain, other);
        for path in ["/0123456789abcde/app.js", "/0123456789abcdef/", "/0123456789abcdef/0123456789abcdef/app.js"] {
            assert_eq!(Assets::Embedded.find(path), None, "{path}");
        }
    }

    #[test]
    fn a_folder_cannot_be_left() {
        let folder = std::env::temp_dir().join(format!("ordercast-assets-{}", std::process::id()));
        let inside = folder.join("inside");
        fs::create_dir_all(inside.join("sub")).unwrap();
        fs::write(folder.join("secret.txt"), "secret").unwrap();
        fs::write(inside.join("index.html"), "page").unwrap();
        fs::write(inside.join("sub/a.css"), "css").unwrap();
        fs::write(inside.join(".hidden"), "hidden").unwrap();
        std::os::unix::fs::symlink(folder.join("secret.txt"), inside.join("link.txt")).unwrap();
        let assets = Assets::folder(&inside).unwrap();
        let page = || assets.find("/").unwrap().content;
        assert_eq!(page(), Content::Read(b"page".as_slice().into()));
        fs::write(inside.join("index.html"), "another page").unwrap();
        assert_eq!(page(), Content::Read(b"another page".as_slice().into()));
        assert_eq!(assets.find("/sub/a.css").unwrap().content_type, "text/css; charset=utf-8");
        for path in
            ["/../secret.txt", "/sub/../../secret.txt", "/link.txt", "/.hidden", "/sub", "//", "/%2e%2e/secret.txt"]
        {
            assert_eq!(assets.find(path), None, "{path}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_is_read_again_when_its_time_or_its_length_has_changed() {
        let folder = std::env::temp_dir().join(format!("ordercast-assets-again-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("index.html");
        let write = |content: &str, seconds: u64| {
            fs::write(&path, content).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        write("one", 100);
        let assets = Assets::folder(&folder).unwrap();
        let content = || match assets.find("/").unwrap().content {
            Content::Read(bytes) => bytes,
            Content::Embedded(..) => panic!("the file was not read"),
        };
        let first = content();
        assert!(Arc::ptr_eq(&first, &content()), "an unchanged file was read again");
        write("two", 200);
        assert_eq!(*content(), *b"two");
        write("three", 200);
        assert_eq!(*content(), *b"three");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn each_extension_has_its_media_type() {
        for (names, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.js a.mjs", "text/javascript; charset=utf-8"),
            ("a.css a.b.css", "text/css; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.jpg a.jpeg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.ico", "image/x-icon"),
            ("a.woff2", "font/woff2"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a a.JS css", "application/octet-stream"),
        ] {
            for name in names.split(' ') {
                assert_eq!(content_type(name), expected, "{name}");
            }
        }
    }
}
