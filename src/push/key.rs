//! Base64 as it is found in settings and subscriptions, and the private key as the application stores it: base64 of a
//! 16-byte IV and AES-256-CBC ciphertext under the SHA-256 of `JWT_SECRET`, or the key itself in plain.

use aes::Aes256;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, KeyIvInit};
use sha2::{Digest, Sha256};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
/// Length of the IV in front of a ciphertext.
const IV_BYTES: usize = 16;

/// Base64url without padding.
pub(super) fn to_base64url(bytes: &[u8]) -> String {
    URL.encode(bytes)
}

/// Base64 in either alphabet, padded or not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    URL.decode(text).or_else(|_| PLAIN.decode(text)).ok()
}

/// What a stored private key may be, the likeliest first: what it decrypts to, then the value itself. About one plain
/// key in 250 happens to decrypt to something, so the caller has to try each.
pub(super) fn candidates(stored: &str, jwt_secret: &str) -> Vec<Vec<u8>> {
    let texts = [decrypt(stored, jwt_secret), Some(stored.to_owned())];
    texts
        .into_iter()
        .flatten()
        .filter_map(|text| from_base64(&text))
        .collect()
}

fn decrypt(stored: &str, jwt_secret: &str) -> Option<String> {
    let bytes = PLAIN.decode(stored.trim()).ok()?;
    let (iv, ciphertext) = bytes.split_at_checked(IV_BYTES)?;
    if ciphertext.is_empty() {
        return None;
    }
    let key = Sha256::digest(jwt_secret.as_bytes());
    let plain = cbc::Decryptor::<Aes256>::new_from_slices(&key, iv)
        .ok()?
        .decrypt_padded_vec_mut::<Pkcs7>(ciphertext)
        .ok()?;
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    /// The private key of RFC 8291, section 5.
    const KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
    /// php -r 'echo base64_encode(str_repeat("\x11", 16) . openssl_encrypt(KEY, "aes-256-cbc",
    /// hash("sha256", SECRET, true), OPENSSL_RAW_DATA, str_repeat("\x11", 16)));'
    const ENCRYPTED: &str =
        "EREREREREREREREREREREb3/KQW5c7tWUCB2BkMGG99ZFxTmVIi387xRD51yejIOdwqALIiss/yMR+nDSa3fbQ==";

    #[test]
    fn an_encrypted_key_is_decrypted_as_php_encrypted_it() {
        assert_eq!(
            candidates(ENCRYPTED, SECRET)[0],
            from_base64(KEY).expect("base64")
        );
        let wrong = candidates(ENCRYPTED, "another secret, also of 32 bytes");
        assert!(!wrong.contains(&from_base64(KEY).expect("base64")));
    }

    #[test]
    fn anything_else_is_the_key_itself() {
        let key = from_base64(KEY).expect("base64");
        assert_eq!(candidates(KEY, SECRET).last(), Some(&key));
        // 16 bytes or fewer once decoded; no whole block.
        assert_eq!(decrypt("AAAAAAAAAAAAAAAAAAAAAA==", SECRET), None);
        assert_eq!(decrypt("AAAAAAAAAAAAAAAAAAAAAAAA", SECRET), None);
        assert_eq!(decrypt("", SECRET), None);
        assert!(candidates("no base64!", SECRET).is_empty());
    }

    #[test]
    fn both_alphabets_are_read_with_and_without_padding() {
        for text in ["-_8", "-_8=", "+/8=", "+/8", " +/8= \n"] {
            assert_eq!(from_base64(text), Some(vec![0xfb, 0xff]), "{text:?}");
        }
        assert_eq!(from_base64("a"), None);
        assert_eq!(to_base64url(&[0xfb, 0xff]), "-_8");
    }
}
