#!/usr/bin/env python3
"""Writes what is linked into the binary of a target: packaging/dependencies.py TARGET C_COMPILER FOLDER

sbom.cdx.json: the components, with versions, licences and SHA-256 of crates, in CycloneDX 1.5.
DEPENDENCIES.txt: the licence texts of all components, each text once.
rust-standard-library.html: the same for Rust's standard library, as Rust ships it.
Fails when a text is missing. Needs SOURCE_DATE_EPOCH; writes the same bytes for the same dependencies.
"""

import collections
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
LICENCE_FILES = ("LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
# Debian's package base-files has them.
LGPL = pathlib.Path("/usr/share/common-licenses/LGPL-2.1")
GPL = pathlib.Path("/usr/share/common-licenses/GPL-3")

Part = collections.namedtuple("Part", "name version purl licence texts sha256", defaults=[None])


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def crates(target):
    """The crates that are linked, without those that run during the build, and which of them needs which."""
    cargo = os.environ.get("CARGO", "cargo")
    metadata = json.loads(output(cargo, "metadata", "--format-version=1", "--locked", "--filter-platform", target))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    runs_in_build = {
        key for key, package in packages.items() if any("proc-macro" in part["kind"] for part in package["targets"])
    }
    own, needs = metadata["resolve"]["root"], {}
    waiting = [own]
    while waiting:
        crate = waiting.pop()
        if crate not in needs:
            linked = [d["pkg"] for d in nodes[crate]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
            needs[crate] = [dependency for dependency in linked if dependency not in runs_in_build]
            waiting += needs[crate]
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}

    def part(package):
        name, version = package["name"], package["version"]
        folder = pathlib.Path(package["manifest_path"]).parent
        files = (file for file in folder.iterdir() if file.is_file())
        texts = sorted(file for file in files if file.name.upper().startswith(LICENCE_FILES))
        licence = package["license"].replace("/", " OR ")
        return Part(name, version, f"pkg:cargo/{name}@{version}", licence, texts, sums[name, version])

    return own, {crate: part(packages[crate]) for crate in needs}, needs


def sqlite(parts):
    """SQLite's C code, which is in the public domain, is in the crate that binds it."""
    crate = next(part for part in parts if part.name == "libsqlite3-sys")
    header = (crate.texts[0].parent / "sqlite3" / "sqlite3.h").read_text()
    version = re.search(r'^#define SQLITE_VERSION +"(.+)"', header, re.MULTILINE).group(1)
    # The text in the place of a licence ends with the line of asterisks.
    return Part("sqlite", version, f"pkg:generic/sqlite@{version}", "blessing", [header.split("*****")[0]])


def c_library(target, compiler):
    """The C library, which is linked statically: musl as Rust ships it, or glibc and GCC's runtime."""
    gcc = output(compiler, "-dumpfullversion").strip()
    note = f"Parts of GCC's runtime library, {gcc}, under the GNU General Public License, version 3 or later, with the "
    note += "GCC Runtime Library Exception, version 3.1, which permits to link them into this program."
    yield Part("libgcc", gcc, f"pkg:generic/gcc@{gcc}", "GPL-3.0-or-later WITH GCC-exception-3.1", [note, GPL])
    if "musl" in target:
        library = pathlib.Path(output("rustc", "--print", "target-libdir", "--target", target).strip())
        version = re.search(rb"\0(1\.2\.\d+)\0", (library / "self-contained" / "libc.a").read_bytes()).group(1).decode()
        texts = sorted((ROOT / "target" / "dist-deps").glob("*/usr/share/doc/musl-dev/copyright"))
        yield Part("musl", version, f"pkg:generic/musl@{version}", "MIT", texts[:1])
    else:
        macros = subprocess.run(
            [compiler, "-E", "-dM", "-"], input="#include <features.h>", check=True, capture_output=True, text=True
        ).stdout
        version = ".".join(re.search(rf"__{name}__ (\d+)", macros).group(1) for name in ("GLIBC", "GLIBC_MINOR"))
        note = f"The GNU C Library, version {version}, under the GNU Lesser General Public License, version 2.1 or later, "
        note += "is linked statically. With the sources of Ordercast, `make dist` links another version of it."
        yield Part("glibc", version, f"pkg:generic/glibc@{version}", "LGPL-2.1-or-later", [note, LGPL])


def sbom(own, parts, others, needs):
    def component(part):
        item = {"type": "library", "bom-ref": part.purl, "name": part.name, "version": part.version}
        if part.sha256:
            item["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
        return item | {"licenses": [{"expression": part.licence}], "purl": part.purl}

    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    root = component(parts[own]) | {"type": "application"}
    graph = {parts[crate].purl: sorted(parts[need].purl for need in needs[crate]) for crate in needs}
    graph[parts[own].purl] += [part.purl for part in others]
    listed = sorted((part for crate, part in parts.items() if crate != own), key=lambda part: part.purl)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": root},
        "components": [component(part) for part in listed + others],
        "dependencies": [{"ref": purl, "dependsOn": graph[purl]} for purl in sorted(graph)],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}"} | document, indent=1) + "\n"


def texts(parts):
    """Each text once, below the names of all components that have it."""
    sharers = collections.defaultdict(list)
    for part in sorted(parts):
        if not part.texts:
            sys.exit(f"the licence text of {part.name} {part.version} ({part.licence}) is missing")
        for text in part.texts:
            text = text if isinstance(text, str) else text.read_text()
            sharers[text.strip()].append(f"{part.name} {part.version} ({part.licence})")
    line = "=" * 80
    return "\n\n".join(f"{line}\n" + "\n".join(names) + f"\n{line}\n\n{text}" for text, names in sharers.items()) + "\n"


def main():
    target, compiler, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    own, parts, needs = crates(target)
    rust = re.search(r"rustc (\S+)", output("rustc", "--version")).group(1)
    share = pathlib.Path(output("rustc", "--print", "sysroot").strip()) / "share" / "doc" / "rust"
    note = "The licence texts of Rust's standard library are in rust-standard-library.html."
    std = Part("rust-std", rust, f"pkg:generic/rust-std@{rust}", "MIT OR Apache-2.0", [note])
    others = [sqlite(parts.values()), std, *c_library(target, compiler)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sbom.cdx.json").write_text(sbom(own, parts, others, needs))
    (folder / "DEPENDENCIES.txt").write_text(texts([part for crate, part in parts.items() if crate != own] + others))
    shutil.copyfile(share / "COPYRIGHT-library.html", folder / "rust-standard-library.html")


if __name__ == "__main__":
    main()
