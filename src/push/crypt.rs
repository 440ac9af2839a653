//! Encrypts a payload for one subscription: aes128gcm (RFC 8291 over RFC 8188), and aesgcm (draft 4 of RFC 8291, draft
//! 3 of RFC 8188) for older subscriptions. One record, no padding.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::key::{from_base64, to_base64url};
use super::schedule::Unsent;
use crate::store::push::PushSubscription;

/// Length of an uncompressed point of P-256.
pub(super) const POINT_BYTES: usize = 65;
const AUTH_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Every push service takes a body of this many bytes (RFC 8030, section 7.2); also the record size that is announced.
const RECORD_BYTES: usize = 4096;
/// Largest plaintext: a record less a header of 86 bytes, a delimiter and a tag (17).
const PLAINTEXT_BYTES: usize = RECORD_BYTES - 86 - 17;

/// An encrypted payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// For aesgcm, whose body does not hold them: base64url of the sender's public key and of the salt.
    pub key_and_salt: Option<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Encrypts `plaintext` for the browser that subscribed.
///
/// # Errors
/// The subscription's keys are invalid, or the payload is too long.
pub(super) fn seal(subscription: &PushSubscription, plaintext: &[u8]) -> Result<Sealed, Unsent> {
    let refused = |why: &str| Unsent::refused(format!("cannot encrypt: {why}"));
    let no_point = || refused("expected a point of P-256 in base64url as p256dh");
    let no_random = |_| refused("the system gives no random numbers");
    let random = SystemRandom::new();
    let receiver = from_base64(&subscription.p256dh)
        .filter(|point| point.len() == POINT_BYTES)
        .ok_or_else(no_point)?;
    let auth = from_base64(&subscription.auth)
        .filter(|auth| auth.len() == AUTH_BYTES)
        .ok_or_else(|| refused("expected 16 bytes in base64url as auth"))?;
    if plaintext.len() > PLAINTEXT_BYTES {
        return Err(refused("expected a payload of at most 3,993 bytes"));
    }
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt).map_err(no_random)?;
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(no_random)?;
    let sender = own.compute_public_key().map_err(no_random)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, &receiver);
    agree_ephemeral(own, &peer, |secret| {
        let keys = Keys {
            secret,
            receiver: &receiver,
            sender: sender.as_ref(),
            auth: &auth,
            salt: &salt,
        };
        // An unknown encoding is taken for the standard.
        match subscription
            .content_encoding
            .trim()
            .eq_ignore_ascii_case("aesgcm")
        {
            true => keys.aesgcm(plaintext),
            false => keys.aes128gcm(plaintext),
        }
    })
    .map_err(|_| no_point())
}

/// All that an encryption depends on.
struct Keys<'a> {
    secret: &'a [u8],
    receiver: &'a [u8],
    sender: &'a [u8],
    auth: &'a [u8],
    salt: &'a [u8],
}

impl Keys<'_> {
    fn aes128gcm(&self, plaintext: &[u8]) -> Sealed {
        let info: [&[u8]; 3] = [b"WebPush: info\0", self.receiver, self.sender];
        let input: [u8; 32] = hkdf(self.auth, self.secret, &info);
        let key: [u8; 16] = hkdf(self.salt, &input, &[b"Content-Encoding: aes128gcm\0"]);
        let nonce = hkdf(self.salt, &input, &[b"Content-Encoding: nonce\0"]);
        let mut record = plaintext.to_vec();
        // The delimiter of the last record.
        record.push(2);
        encrypt(&key, nonce, &mut record);
        let mut body = self.salt.to_vec();
        body.extend((RECORD_BYTES as u32).to_be_bytes());
        body.push(self.sender.len() as u8);
        body.extend(self.sender);
        body.append(&mut record);
        Sealed {
            key_and_salt: None,
            body,
        }
    }

    fn aesgcm(&self, plaintext: &[u8]) -> Sealed {
        let input: [u8; 32] = hkdf(self.auth, self.secret, &[b"Content-Encoding: auth\0"]);
        let length = (POINT_BYTES as u16).to_be_bytes();
        let info = |kind: &'static [u8]| -> [&[u8]; 6] {
            [
                kind,
                b"P-256\0",
                &length,
                self.receiver,
                &length,
                self.sender,
            ]
        };
        let key: [u8; 16] = hkdf(self.salt, &input, &info(b"Content-Encoding: aesgcm\0"));
        let nonce = hkdf(self.salt, &input, &info(b"Content-Encoding: nonce\0"));
        // The length of the padding: none.
        let mut body = vec![0, 0];
        body.extend(plaintext);
        encrypt(&key, nonce, &mut body);
        Sealed {
            key_and_salt: Some((to_base64url(self.sender), to_base64url(self.salt))),
            body,
        }
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn hkdf<const N: usize>(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    key.expand(info, Length(N))
        .and_then(|output| output.fill(&mut out))
        .expect("HKDF gives up to 8,160 bytes");
    out
}

fn encrypt(key: &[u8; 16], nonce: [u8; NONCE_BYTES], record: &mut Vec<u8>) {
    let key = UnboundKey::new(&AES_128_GCM, key).expect("16 bytes are a key");
    LessSafeKey::new(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), record)
        .expect("4,096 bytes are not too many");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        from_base64(text).expect("base64")
    }

    /// The example of RFC 8291, section 5, with the values of its appendix A. Its private keys are left out: an
    /// independent implementation in `tests/push.rs` shows that both sides agree on the secret.
    #[test]
    fn the_example_of_rfc_8291_comes_out() {
        let keys = Keys {
            secret: &bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"),
            receiver: &bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            sender: &bytes(
                "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
            ),
            auth: &bytes("BTBZMqHH6r4Tts7J_aSIgg"),
            salt: &bytes("DGv6ra1nlYgDCS1FRnbzlw"),
        };
        let sealed = keys.aes128gcm(b"When I grow up, I want to be a watermelon");
        assert_eq!(
            to_base64url(&sealed.body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl\
             7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
        assert_eq!(sealed.key_and_salt, None);
    }

    #[test]
    fn a_payload_that_does_not_fit_and_keys_that_are_none_are_refused() {
        let subscription = |p256dh: &str, auth: &str| PushSubscription {
            p256dh: p256dh.to_owned(),
            auth: auth.to_owned(),
            content_encoding: "aes128gcm".to_owned(),
            ..PushSubscription::default()
        };
        let point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let auth = "BTBZMqHH6r4Tts7J_aSIgg";
        let good = subscription(point, auth);
        let full = seal(&good, &[b'x'; 3993]).expect("fits");
        assert_eq!(full.body.len(), 4096);
        let why = |sealed: Result<Sealed, Unsent>| sealed.expect_err("refused").why;
        assert!(why(seal(&good, &[b'x'; 3994])).contains("3,993"));
        let off_the_curve = point.replace('C', "D");
        for (bad, word) in [
            (subscription("", auth), "p256dh"),
            (subscription(&point[..80], auth), "p256dh"),
            (subscription(&off_the_curve, auth), "p256dh"),
            (subscription(point, "BTBZMqHH6r4"), "auth"),
            (subscription(point, "?"), "auth"),
        ] {
            assert!(why(seal(&bad, b"x")).ends_with(word));
        }
    }

    #[test]
    fn every_push_has_a_key_and_a_salt_of_its_own() {
        let subscription = PushSubscription {
            p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
                .to_owned(),
            auth: "BTBZMqHH6r4Tts7J_aSIgg".to_owned(),
            content_encoding: "AESGCM".to_owned(),
            ..PushSubscription::default()
        };
        let one = seal(&subscription, b"x").expect("seal");
        let two = seal(&subscription, b"x").expect("seal");
        let ((key, salt), (other_key, other_salt)) = (
            one.key_and_salt.expect("headers"),
            two.key_and_salt.expect("headers"),
        );
        assert_ne!(key, other_key);
        assert_ne!(salt, other_salt);
        assert_ne!(one.body, two.body);
    }
}
