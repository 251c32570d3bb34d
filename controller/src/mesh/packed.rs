//! A checkpoint as the text of an object's field: compressed, because an object is small and every proxy adds counters.
//!
//! What was written plainly is read as well.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Begins what is compressed; plain JSON never does.
const MARK: &str = "z1:";
/// Middle way between size and time: a checkpoint is written every ten seconds.
const LEVEL: u8 = 6;
/// Most bytes that are unpacked, whatever a field claims.
const MOST: usize = 16 * 1024 * 1024;

/// The text.
pub fn pack(bytes: &[u8]) -> String {
    format!("{MARK}{}", STANDARD.encode(compress_to_vec(bytes, LEVEL)))
}

/// The bytes; `None`: it is damaged.
pub fn unpack(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix(MARK) {
        Some(packed) => decompress_to_vec_with_limit(&STANDARD.decode(packed).ok()?, MOST).ok(),
        None => Some(text.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_smaller_and_reads_back() {
        let long = r#"{"requests":4711,"errors":0},"#.repeat(3_000);
        let packed = pack(long.as_bytes());
        assert!(packed.len() < long.len() / 20, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), long.as_bytes());
        assert_eq!(unpack("{\"version\":1}").unwrap(), b"{\"version\":1}", "written before");
        assert_eq!((unpack("z1:!"), unpack("z1:AAAA")), (None, None));
    }
}
