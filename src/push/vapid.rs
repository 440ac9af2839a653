//! The install's VAPID identity: its key pair, and the tokens it signs for push services (RFC 8292, ES256).

use std::collections::HashMap;
use std::sync::Mutex;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Serialize;

use super::PushSettings;
use super::crypt::{POINT_BYTES, Sealed};
use super::key::{candidates, from_base64, to_base64url};
use super::schedule::Unsent;
use crate::platform::threads::lock;

/// How long a token is good for, in seconds; RFC 8292 allows a day.
const TOKEN_SECONDS: u64 = 12 * 3600;
/// How long a token is used, in seconds: the rest makes up for clocks that differ.
const USE_SECONDS: u64 = 6 * 3600;
/// Tokens that are cached; with subscriptions at more push services, tokens are signed more often.
const MOST_TOKENS: usize = 256;

const NO_PAIR: &str = "push_vapid_private_key does not belong to push_vapid_public_key, or was encrypted under another JWT_SECRET";

/// An install that may push.
pub(super) struct Identity {
    pair: EcdsaKeyPair,
    public: String,
    subject: String,
    random: SystemRandom,
    /// By the push service, each with when it was signed.
    tokens: Mutex<HashMap<String, (String, u64)>>,
}

#[derive(Serialize)]
struct VapidClaims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

impl Identity {
    /// From the settings.
    ///
    /// # Errors
    /// The keys are invalid, or not a pair.
    pub(super) fn new(settings: &PushSettings, jwt_secret: &str) -> Result<Self, Unsent> {
        let public = from_base64(&settings.public_key)
            .filter(|point| point.len() == POINT_BYTES)
            .ok_or_else(|| {
                Unsent::refused("push_vapid_public_key is no point of P-256 in base64url")
            })?;
        let random = SystemRandom::new();
        let pair = candidates(&settings.private_key, jwt_secret)
            .into_iter()
            .find_map(|private| {
                EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &private,
                    &public,
                    &random,
                )
                .ok()
            })
            .ok_or_else(|| Unsent::refused(NO_PAIR))?;
        Ok(Identity {
            pair,
            public: to_base64url(&public),
            subject: settings.subject.clone(),
            random,
            tokens: Mutex::default(),
        })
    }

    /// The headers of a push to `origin` at `now`, seconds since 1970.
    pub(super) fn headers(
        &self,
        origin: &str,
        now: u64,
        sealed: &Sealed,
    ) -> Vec<(&'static str, String)> {
        let (token, public) = (self.token(origin, now), &self.public);
        match &sealed.key_and_salt {
            Some((key, salt)) => vec![
                ("Content-Encoding", "aesgcm".to_owned()),
                ("Authorization", format!("WebPush {token}")),
                ("Crypto-Key", format!("dh={key};p256ecdsa={public}")),
                ("Encryption", format!("salt={salt}")),
            ],
            None => vec![
                ("Content-Encoding", "aes128gcm".to_owned()),
                ("Authorization", format!("vapid t={token}, k={public}")),
            ],
        }
    }

    fn token(&self, origin: &str, now: u64) -> String {
        let mut tokens = lock(&self.tokens);
        // Either way: the clock may have been set back.
        tokens.retain(|_, (_, signed_at)| now.abs_diff(*signed_at) < USE_SECONDS);
        if tokens.len() >= MOST_TOKENS {
            tokens.clear();
        }
        let signed = || (self.sign(origin, now), now);
        let (token, _) = tokens.entry(origin.to_owned()).or_insert_with(signed);
        token.clone()
    }

    fn sign(&self, origin: &str, now: u64) -> String {
        let claims = VapidClaims {
            aud: origin,
            exp: now + TOKEN_SECONDS,
            sub: &self.subject,
        };
        let claims = serde_json::to_vec(&claims).expect("texts and a number are JSON");
        let header = to_base64url(br#"{"typ":"JWT","alg":"ES256"}"#);
        let signed = format!("{header}.{}", to_base64url(&claims));
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .expect("the system gave random numbers before");
        format!("{signed}.{}", to_base64url(signature.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// The key pair of RFC 8291, section 5.
    fn settings() -> PushSettings {
        PushSettings {
            public_key:
                "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
                    .to_owned(),
            private_key: "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw".to_owned(),
            subject: "mailto:\"admin\"@example.test".to_owned(),
        }
    }

    fn sealed() -> Sealed {
        Sealed {
            key_and_salt: None,
            body: Vec::new(),
        }
    }

    #[test]
    fn a_token_says_to_whom_and_until_when_and_is_signed() {
        let settings = settings();
        let identity = Identity::new(&settings, "secret").expect("a pair");
        let headers = identity.headers("https://push.example.test", 1_000_000, &sealed());
        let (name, value) = &headers[1];
        assert_eq!(*name, "Authorization");
        let token = value
            .strip_prefix("vapid t=")
            .and_then(|rest| rest.strip_suffix(&format!(", k={}", settings.public_key)))
            .expect("RFC 8292, section 3");
        let (signed, signature) = token.rsplit_once('.').expect("a JWT");
        let (header, claims) = signed.split_once('.').expect("a JWT");
        assert_eq!(
            from_base64(header).expect("base64"),
            br#"{"typ":"JWT","alg":"ES256"}"#
        );
        assert_eq!(
            String::from_utf8(from_base64(claims).expect("base64")).expect("UTF-8"),
            r#"{"aud":"https://push.example.test","exp":1043200,"sub":"mailto:\"admin\"@example.test"}"#
        );
        let public = from_base64(&settings.public_key).expect("base64");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
            .verify(signed.as_bytes(), &from_base64(signature).expect("base64"))
            .expect("signed by the pair");
    }

    #[test]
    fn a_token_is_used_again_for_its_origin_and_a_while() {
        let identity = Identity::new(&settings(), "secret").expect("a pair");
        let first = identity.token("https://a.test", 1_000_000);
        assert_eq!(
            identity.token("https://a.test", 1_000_000 + USE_SECONDS - 1),
            first
        );
        assert_ne!(identity.token("https://b.test", 1_000_000), first);
        assert_ne!(
            identity.token("https://a.test", 1_000_000 + USE_SECONDS),
            first
        );
        assert_ne!(
            identity.token("https://a.test", 1_000),
            first,
            "the clock was set back"
        );
        for number in 0..2 * MOST_TOKENS {
            identity.token(&format!("https://{number}.test"), 1_000_000);
        }
        assert!(lock(&identity.tokens).len() <= MOST_TOKENS);
    }

    #[test]
    fn keys_that_are_no_pair_are_refused() {
        let with = |change: fn(&mut PushSettings)| {
            let mut settings = settings();
            change(&mut settings);
            let unsent = Identity::new(&settings, "secret").err();
            unsent.expect("no pair").why
        };
        assert!(with(|one| one.public_key.truncate(20)).contains("no point of P-256"));
        assert!(with(|one| one.private_key.replace_range(0..1, "x")) == NO_PAIR);
        assert!(with(|one| one.private_key = "?".to_owned()) == NO_PAIR);
    }
}
