//! Keys, hashes and signatures. Randomness is the system's; nothing here is ever logged.
//!
//! Source: HMAC, RFC 2104; test vectors RFC 4231.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

const KEY_PREFIX: &str = "clawcall_sk_";

/// An API key: `clawcall_sk_` and 256 random bits in hexadecimal. Shown once; only its hash is kept.
pub(super) fn new_api_key() -> String {
    api_key(&random())
}

/// The API key made of these bits.
pub(super) fn api_key(bits: &[u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", hex(bits))
}

/// What the store keeps of an API key; `None` if `text` cannot be one.
pub(super) fn key_hash(text: &str) -> Option<[u8; 32]> {
    let bits = text.strip_prefix(KEY_PREFIX)?;
    let plausible = bits.len() == 64 && bits.bytes().all(|b| b.is_ascii_hexdigit());
    plausible.then(|| sha256(text.as_bytes()))
}

/// 256 random bits from the system.
#[expect(
    clippy::disallowed_methods,
    reason = "the service is an edge: keys come from the system's randomness"
)]
pub(super) fn random() -> [u8; 32] {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).expect("the system has randomness; without it no key may be issued");
    bits
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// HMAC-SHA256 of the concatenated `parts` (RFC 2104).
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new();
    inner.update(block.map(|b| b ^ 0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(block.map(|b| b ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// Whether two texts are equal, in time that depends only on their lengths.
pub(super) fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// The service's own secret: read from `path`, or made there (readable by the owner alone) the first time.
///
/// # Errors
/// When the file cannot be read or written, or does not hold 32 bytes.
pub(super) fn load_or_create(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "expected 32 bytes; restore or remove it")
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let secret = random();
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            Ok(secret)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4231 §4.3 (case 2) and §4.7 (case 6: a key longer than a block).
    #[test]
    fn hmac_gives_the_rfc_4231_vectors() {
        let mac = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mac = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&mac), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_key_is_256_bits_and_never_twice_the_same() {
        let (a, b) = (new_api_key(), new_api_key());
        assert_ne!(a, b);
        assert_eq!(a.len(), "clawcall_sk_".len() + 64);
        assert!(key_hash(&a).is_some());
        for wrong in ["", "clawcall_sk_", "clawcall_sk_12", &a[1..], &format!("{a}0"), &a.replace('_', "-")] {
            assert_eq!(key_hash(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_made_once_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        let first = load_or_create(&path).expect("made");
        assert_eq!(load_or_create(&path).expect("read"), first);
        fs::write(&path, b"short").expect("written");
        assert!(load_or_create(&path).is_err());
    }

    #[test]
    fn equality_needs_every_byte() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abd"));
        assert!(!equal("abc", "ab"));
    }
}
