//! Prepares the web app: takes the comments out of its scripts and style sheets, compresses its files, and names a
//! version that changes with any of them. Prepares the OpenAPI document in the same way.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The page, which names the other files.
const INDEX: &str = "index.html";
/// The OpenAPI document. In the repository it has the name of cargo's variable instead of the version.
const OPENAPI: &str = "src/api/openapi.json";
const OWN_VERSION: &str = "CARGO_PKG_VERSION";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = root.join("static");
    let output = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed={OPENAPI}");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().into_string().expect("names of files in static/ are UTF-8");
            Ok((name, fs::read(entry.path())?))
        })
        .collect::<io::Result<_>>()?;
    files.sort();
    let version =
        format!("{:016x}", files.iter().fold(OFFSET, |hash, (name, bytes)| fnv(fnv(hash, name.as_bytes()), bytes)));
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).filter(|name| name != INDEX).collect();
    let mut list = String::new();
    for (name, bytes) in &mut files {
        if name == INDEX {
            let page = String::from_utf8(std::mem::take(bytes)).expect("the page is UTF-8");
            *bytes = with_version(page, &names, &version).into_bytes();
        } else if name.ends_with(".js") || name.ends_with(".css") {
            let text = String::from_utf8(std::mem::take(bytes)).expect("scripts and style sheets are UTF-8");
            *bytes = without_comments(&text).into_bytes();
        }
        writeln!(list, "    {},", embed(&output, name, bytes)?).expect("a String takes all");
    }
    fs::write(output.join("assets.rs"), format!("&[\n{list}]\n"))?;
    let document = without_spaces(&fs::read_to_string(root.join(OPENAPI))?);
    let document = document.replace(OWN_VERSION, &env::var(OWN_VERSION).expect("cargo sets it"));
    fs::write(output.join("openapi.rs"), embed(&output, "openapi.json", document.as_bytes())?)?;
    fs::write(output.join("version"), version)
}

/// Writes a file for `include_bytes!`, as it is and compressed; returns its entry in the list.
fn embed(output: &Path, name: &str, bytes: &[u8]) -> io::Result<String> {
    fs::write(output.join(name), bytes)?;
    fs::write(output.join(format!("{name}.gz")), compress(bytes)?)?;
    Ok(format!("file!({name:?}, \"{:016x}\")", fnv(OFFSET, bytes)))
}

/// A JSON text without the white space between its tokens.
fn without_spaces(json: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    json.chars()
        .filter(|&letter| {
            let is_kept = is_string || !letter.is_ascii_whitespace();
            is_string ^= letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            is_kept
        })
        .collect()
}

/// The page with the version in front of each name of another file: `href="style.css"` becomes `href="VERSION/style.css"`.
fn with_version(mut page: String, names: &[String], version: &str) -> String {
    for name in names {
        for attribute in ["href", "src"] {
            page = page.replace(&format!("{attribute}=\"{name}\""), &format!("{attribute}=\"{version}/{name}\""));
        }
    }
    page
}

/// A script or style sheet without the lines that are comments, empty lines and indentation. A comment behind code
/// stays, and code never follows the end of a comment in the same line. No text of more than one line depends on its spaces.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("/*") {
            let mut last = line;
            while !last.ends_with("*/") {
                last = lines.next().expect("a comment has an end");
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// With gzip (RFC 1952). Its header has no time and no name, so the same file gives the same bytes.
fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a with 64 bits: enough to distinguish versions of a file.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
