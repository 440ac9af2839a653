//! Tokens as the recorded files describe them under `$jwt`: valid ones and every kind of invalid one.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};

use super::json::Json;

/// The secret that the daemon under test is given.
pub const SECRET: &str = "a secret for tests only, longer than 32 bytes";
/// Another one, long enough to be valid elsewhere.
const OTHER_SECRET: &str = "another secret for tests, also long enough ..";

pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a clock after 1970").as_secs())
        .expect("a clock before the far future")
}

/// A token that is good for fifteen minutes, as the application issues them.
pub fn good(agent_id: i64) -> String {
    let now = unix_now();
    let claims = Json::object([
        ("sub", agent_id.into()),
        ("type", "agent".into()),
        ("role", "agent".into()),
        ("iat", now.into()),
        ("exp", (now + 900).into()),
    ]);
    mint(&Json::object([("claims", claims)]))
}

/// A token from the value under `$jwt`.
pub fn mint(recipe: &Json) -> String {
    if let Some(raw) = recipe.get("raw") {
        return raw.str().expect("a raw token is text").to_owned();
    }
    let header = recipe
        .get("header")
        .cloned()
        .unwrap_or_else(|| Json::object([("typ", "JWT".into()), ("alg", "HS256".into())]));
    let claims = resolve_times(recipe.need("claims"));
    let secret = match recipe.get("secret").and_then(Json::str) {
        None | Some("good") => SECRET,
        Some("other") => OTHER_SECRET,
        Some(word) => panic!("unknown secret {word:?}"),
    };
    let algorithm = recipe.get("sign").and_then(Json::str).unwrap_or("HS256");
    let body = segments(&header, &claims);
    let signature = base64url(&sign(algorithm, secret.as_bytes(), body.as_bytes()));
    let token = format!("{body}.{signature}");
    match recipe.get("mangle").and_then(Json::str) {
        None => token,
        Some("flip_last_sig_char") => flip_last(&token),
        Some("append_dot") => format!("{token}."),
        Some("drop_signature") => body,
        Some("leading_space") => format!(" {token}"),
        Some("bearer_prefix") => format!("Bearer {token}"),
        Some("swap_claims") => format!("{}.{signature}", segments(&header, &swapped(&claims))),
        Some(word) => panic!("unknown mangle {word:?}"),
    }
}

/// A token of a header and claims as they stand, well formed or not, under any algorithm and secret.
pub fn forge(header: &str, claims: &str, algorithm: &str, secret: &str) -> String {
    let [header, claims] = [header, claims].map(|part| base64url(part.as_bytes()));
    let body = format!("{header}.{claims}");
    let signature = base64url(&sign(algorithm, secret.as_bytes(), body.as_bytes()));
    format!("{body}.{signature}")
}

fn segments(header: &Json, claims: &Json) -> String {
    let header = base64url(header.to_string().as_bytes());
    format!("{header}.{}", base64url(claims.to_string().as_bytes()))
}

/// `"now+900"` and the like become numbers.
fn resolve_times(claims: &Json) -> Json {
    let Json::Object(entries) = claims else {
        return claims.clone();
    };
    let entries = entries.iter().map(|(key, value)| {
        let offset = value.str().and_then(|text| text.strip_prefix("now"));
        let time = match offset {
            Some("") => Some(unix_now()),
            Some(offset) => offset.parse().ok().map(|o: i64| unix_now() + o),
            None => None,
        };
        (key.clone(), time.map_or_else(|| value.clone(), Json::from))
    });
    Json::Object(entries.collect())
}

/// The same claims for another agent.
fn swapped(claims: &Json) -> Json {
    let entries = claims.entries().iter().map(|(key, value)| {
        let other = if key == "sub" {
            Json::from(if value.int() == Some(2) { 1 } else { 2 })
        } else {
            value.clone()
        };
        (key.clone(), other)
    });
    Json::Object(entries.collect())
}

/// Changes the first of the bits that the last character carries. Its very last bits are padding: flipping
/// only those would leave the bytes of the signature as they were.
fn flip_last(token: &str) -> String {
    let last = token.chars().last().expect("a token has a last character");
    let value = ALPHABET
        .iter()
        .position(|&c| char::from(c) == last)
        .expect("a token ends in base64url");
    let flipped = char::from(ALPHABET[value ^ 0b10_0000]);
    format!("{}{flipped}", &token[..token.len() - 1])
}

fn sign(algorithm: &str, secret: &[u8], body: &[u8]) -> Vec<u8> {
    fn hmac<M: Mac + hmac::digest::KeyInit>(secret: &[u8], body: &[u8]) -> Vec<u8> {
        let mut mac = <M as Mac>::new_from_slice(secret).expect("HMAC takes any key");
        mac.update(body);
        mac.finalize().into_bytes().to_vec()
    }
    match algorithm {
        "HS256" => hmac::<Hmac<Sha256>>(secret, body),
        "HS384" => hmac::<Hmac<Sha384>>(secret, body),
        "HS512" => hmac::<Hmac<Sha512>>(secret, body),
        "none" => Vec::new(),
        other => panic!("unknown algorithm {other:?}"),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Unpadded base64url.
pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * place)) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}
