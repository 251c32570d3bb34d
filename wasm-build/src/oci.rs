//! `cargo wasm oci`: the module as an image that Istio's agent pulls, in a folder that any registry client can push.
//!
//! One manifest with one `tar+gzip` layer that holds `plugin.wasm`: the form that every Istio since 1.12 takes. The
//! digest depends on the module's bytes alone: no times, no owners, and the layer is stored rather than compressed,
//! so that no compressor's next version changes it (Istio's agent keeps the unpacked module anyway).

use crate::inspect;
use crate::problem::{Outcome, Problem};
use crate::workspace;
use hmac_sha256::Hash;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the module inside its layer; Istio looks for it.
const MODULE: &str = "plugin.wasm";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Name of the image inside the layout.
const TAG: &str = env!("CARGO_PKG_VERSION");

/// A file of the layout, addressed by what it holds.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

/// An image, ready to be written.
struct Image {
    blobs: Vec<Blob>,
    /// Digest of its manifest.
    digest: String,
    index: String,
}

/// Checks the module and writes the layout; prints its digest.
pub fn run(folder: Option<&str>) -> Outcome {
    let module = inspect::checked()?;
    let folder = folder.map_or_else(|| workspace::target().join("oci"), PathBuf::from);
    let image = Image::of(&module);
    image.write(&folder)?;
    let layer: usize = image.blobs.iter().map(|blob| blob.bytes.len()).sum();
    println!("{}: image {TAG}, {layer} bytes, digest sha256:{}", folder.display(), image.digest);
    println!(
        "  push it, e.g. `skopeo copy oci:{}:{TAG} docker://REGISTRY/NAME:{TAG}`, and name it as",
        folder.display()
    );
    println!("  url: oci://REGISTRY/NAME@sha256:{}", image.digest);
    Ok(())
}

// === impl Image ===

impl Image {
    fn of(module: &[u8]) -> Image {
        let tar = tar(module);
        let layer = Blob::of(gzip(&tar));
        // What a build `FROM scratch` says; nothing runs it.
        let config = Blob::of(
            format!(
                r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
                digest(&tar)
            )
            .into_bytes(),
        );
        let manifest = Blob::of(
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{},"layers":[{}]}}"#,
                config.descriptor(CONFIG_TYPE, ""),
                layer.descriptor(LAYER_TYPE, "")
            )
            .into_bytes(),
        );
        let named = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{TAG}"}}"#);
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            manifest.descriptor(MANIFEST_TYPE, &named)
        );
        Image { digest: manifest.digest.clone(), blobs: vec![layer, config, manifest], index }
    }

    /// Replaces the folder, but only one that is a layout already, or empty.
    fn write(&self, folder: &Path) -> Outcome {
        let failed = |error| Problem::doing(folder.display(), error);
        let marker = folder.join("oci-layout");
        if folder.exists() && !marker.exists() && fs::read_dir(folder).map_err(failed)?.next().is_some() {
            return Err(Problem::new(format!(
                "{} holds something else than an image layout; name another folder",
                folder.display()
            )));
        }
        let blobs = folder.join("blobs/sha256");
        if blobs.exists() {
            fs::remove_dir_all(&blobs).map_err(failed)?;
        }
        fs::create_dir_all(&blobs).map_err(failed)?;
        for blob in &self.blobs {
            fs::write(blobs.join(&blob.digest), &blob.bytes).map_err(failed)?;
        }
        fs::write(folder.join("index.json"), &self.index).map_err(failed)?;
        fs::write(marker, r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)
    }
}

// === impl Blob ===

impl Blob {
    fn of(bytes: Vec<u8>) -> Blob {
        Blob { digest: digest(&bytes), bytes }
    }

    fn descriptor(&self, kind: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":{}{more}}}"#,
            self.digest,
            self.bytes.len()
        )
    }
}

fn digest(bytes: &[u8]) -> String {
    Hash::hash(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

// --- Formats ---

/// An archive of one file: its header, its bytes, and the two empty blocks that end an archive.
fn tar(module: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let octal = |value: usize, width: usize| format!("{value:0width$o}\0");
    let field = |text: &str, width: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(width, 0);
        bytes
    };
    let header = |checksum: &str| {
        [
            field(MODULE, 100),
            field(&octal(0o644, 7), 8),
            field(&octal(0, 7), 8),
            field(&octal(0, 7), 8),
            field(&octal(module.len(), 11), 12),
            // The first second of 1970.
            field(&octal(0, 11), 12),
            field(checksum, 8),
            b"0".to_vec(),
            field("", 100),
            b"ustar\x0000".to_vec(),
        ]
        .concat()
    };
    // The checksum is made with blanks in its own place.
    let sum: usize = header("        ").iter().map(|byte| usize::from(*byte)).sum();
    let mut archive = header(&format!("{sum:06o}\0 "));
    archive.resize(BLOCK, 0);
    archive.extend_from_slice(module);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

/// A gzip member of stored blocks.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    // No name, no time, unknown system.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut chunks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(u8::from(chunks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend(crc32(bytes).to_le_bytes());
    // The length modulo 2^32, as the format has it.
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Longer than one stored block.
    fn module() -> Vec<u8> {
        (0..200_000u32).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn the_checksum_is_the_one_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_layer_unpacks_to_the_module_with_ordinary_tools() {
        let folder = std::env::temp_dir().join(format!("hueshift-oci-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut tar = Command::new("tar")
            .args(["-xzf", "-", "-C"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("tar starts");
        let image = Image::of(&module());
        tar.stdin.take().unwrap().write_all(&image.blobs[0].bytes).unwrap();
        assert!(tar.wait().unwrap().success());
        assert_eq!(fs::read(folder.join(MODULE)).unwrap(), module());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_same_module_has_the_same_digest_whenever_and_wherever_it_is_packed() {
        let image = Image::of(&module());
        assert_eq!(image.digest, Image::of(&module()).digest);
        // Held fast: another one means that what is packed differently now needs another tag.
        assert_eq!(image.digest, "3848df3a06ac65a2198ddadbe0ea21e1538e5b389b718214e718e6a6eba041f9");
        let mut other = module();
        other[0] ^= 1;
        assert_ne!(image.digest, Image::of(&other).digest);
    }

    #[test]
    fn all_parts_are_there_under_their_digests_and_only_a_layout_is_replaced() {
        let folder = std::env::temp_dir().join(format!("hueshift-layout-{}", std::process::id()));
        let image = Image::of(&module());
        image.write(&folder).unwrap();
        Image::of(b"another").write(&folder).unwrap();
        image.write(&folder).unwrap();
        assert_eq!(fs::read_dir(folder.join("blobs/sha256")).unwrap().count(), 3);
        for blob in &image.blobs {
            assert_eq!(
                digest(&fs::read(folder.join("blobs/sha256").join(&blob.digest)).unwrap()),
                blob.digest
            );
        }
        let index = fs::read_to_string(folder.join("index.json")).unwrap();
        assert!(index.contains(&format!("sha256:{}", image.digest)), "{index}");
        fs::remove_file(folder.join("oci-layout")).unwrap();
        assert!(image.write(&folder).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
