//! From a token to its claims: only HS256, under one secret; the time is passed in. The only file that names the JWT crate.
//! The agent's name, and whether it is active, come from the store (contract: protocol.md, "auth").

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::Sha256;
use signature::{Error as SignatureError, Signer, Verifier};

use crate::model::{AgentId, AuthFailure};
use crate::platform::exit_code;
use crate::platform::problem::Problem;

/// Checks tokens under one secret.
pub struct TokenVerifier {
    key: DecodingKey,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(secret withheld)")
    }
}

/// What a good token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Claim `sub`.
    pub agent: AgentId,
    /// Claim `exp`, in whole seconds since 1970.
    pub expires: u64,
}

/// Why a token is refused, for the log: more than the client is told, but nothing of the token's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenError {
    /// There is none, or it is no token.
    Malformed,
    /// Its header names another algorithm, or extensions.
    OtherHeader,
    /// It was signed under another secret, or its signature is malformed.
    OtherSecret,
    /// This claim is no number.
    NoNumber(&'static str),
    /// There is no `exp`.
    Endless,
    /// It expired so many seconds ago.
    Expired(f64),
    /// This claim is so many seconds in the future.
    Early(&'static str, f64),
    /// `type` is not `agent`.
    NotOfAgent,
    /// `sub` names no possible agent.
    NoAgent,
    /// It is a token of this agent, but the connection is another agent's.
    OtherAgent(AgentId),
}

impl TokenError {
    /// What the client is told.
    pub fn failure(self) -> AuthFailure {
        match self {
            TokenError::NotOfAgent => AuthFailure::NotAnAgentToken,
            TokenError::NoAgent => AuthFailure::UnknownAgent,
            TokenError::OtherAgent(_) => AuthFailure::OtherAgent,
            _ => AuthFailure::InvalidToken,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Malformed => "the token is missing or malformed",
            TokenError::OtherHeader => "the token's header is not that of HS256 without extensions",
            TokenError::OtherSecret => {
                "the token was signed under another secret; JWT_SECRET must be the helpdesk's"
            }
            TokenError::NoNumber(claim) => return write!(f, "the claim {claim} is no number"),
            TokenError::Endless => "the claim exp is missing",
            TokenError::Expired(ago) => return write!(f, "the token expired {ago:.0} s ago"),
            TokenError::Early(claim, ahead) => {
                let clocks = "compare the clocks";
                return write!(
                    f,
                    "the claim {claim} is {ahead:.0} s in the future; {clocks}"
                );
            }
            TokenError::NotOfAgent => "the claim type is not \"agent\"",
            TokenError::NoAgent => "the claim sub names no agent",
            TokenError::OtherAgent(agent) => return write!(f, "the token is of agent {agent}"),
        })
    }
}

impl std::error::Error for TokenError {}

/// Like every derived `Deserialize`, this one refuses a doubled member: parsers differ in which one counts.
#[derive(Deserialize)]
struct RawHeader {
    alg: Option<Value>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// Whether a member is present, whatever its value, even null.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

#[derive(Deserialize)]
struct RawClaims {
    sub: Option<Value>,
    r#type: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
}

impl TokenVerifier {
    /// A verifier under `secret`; the caller checks that it has [`MIN_SECRET_BYTES`](crate::config::MIN_SECRET_BYTES).
    pub fn new(secret: &str) -> Self {
        // Fails only if a provider was installed before, and that is this one.
        let _ = PROVIDER.install_default();
        TokenVerifier {
            key: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// The claims of a token with a good signature. Does not use the crate's `decode`, whose header type takes 2 KiB of a
    /// connection's stack, and which ignores `crit`.
    #[inline(never)]
    fn claims(&self, token: &str) -> Result<RawClaims, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if !is_plain_hs256(header) {
            return Err(TokenError::OtherHeader);
        }
        match crypto::verify(signature, message.as_bytes(), &self.key, Algorithm::HS256) {
            Ok(true) => decode(claims).ok_or(TokenError::Malformed),
            _ => Err(TokenError::OtherSecret),
        }
    }

    /// Checks signature, algorithm, times and claims of `token`; `now` in seconds since 1970.
    ///
    /// # Errors
    /// It is refused; the [`TokenError`] says why.
    #[inline(never)]
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let claims = self.claims(token)?;
        let now = now as f64;
        let expires = numeric_date("exp", &claims.exp)?.ok_or(TokenError::Endless)?;
        if expires <= now {
            return Err(TokenError::Expired(now - expires));
        }
        for (name, claim) in [("nbf", &claims.nbf), ("iat", &claims.iat)] {
            if let Some(time) = numeric_date(name, claim)?.filter(|time| *time > now) {
                return Err(TokenError::Early(name, time - now));
            }
        }
        if claims.r#type.as_ref().and_then(Value::as_str) != Some("agent") {
            return Err(TokenError::NotOfAgent);
        }
        let agent = match claims.sub {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()
            }
            _ => None,
        };
        Ok(Claims {
            agent: AgentId(agent.ok_or(TokenError::NoAgent)?),
            expires: expires as u64,
        })
    }
}

/// Whether a header names HS256, and no extension that must be understood (`crit`, RFC 7515 section 4.1.11).
#[inline(never)]
fn is_plain_hs256(header: &str) -> bool {
    decode(header).is_some_and(|header: RawHeader| {
        header.alg.as_ref().and_then(Value::as_str) == Some("HS256") && !header.crit
    })
}

/// Decodes a part of a token: JSON in base64url without padding (RFC 7515 section 3.1).
fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A NumericDate (RFC 7519 section 2); JSON null counts as absent.
fn numeric_date(name: &'static str, claim: &Option<Value>) -> Result<Option<f64>, TokenError> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::NoNumber(name)),
    }
}

// With its own cryptography jsonwebtoken also brings RSA and elliptic curves: forty crates, one of them with an open
// advisory. Only HS256 is ever accepted, so this provider has nothing else.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        only_hs256(algorithm)?;
        Ok(Box::new(Hs256::new(key.as_bytes())?))
    },
    verifier_factory: |algorithm, key: &DecodingKey| {
        only_hs256(algorithm)?;
        Ok(Box::new(Hs256::new(key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn only_hs256(algorithm: &Algorithm) -> JwtResult<()> {
    match algorithm {
        Algorithm::HS256 => Ok(()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(secret: &[u8]) -> JwtResult<Self> {
        Hmac::new_from_slice(secret)
            .map(Hs256)
            .map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let mut mac = self.0.clone();
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let mut mac = self.0.clone();
        mac.update(message);
        // Compares in constant time.
        mac.verify_slice(signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// Signs `claims` (a JSON object) with HS256 under `secret`, for tests and short-lived tokens.
///
/// # Errors
/// The secret or the claims cannot be used.
pub fn sign(secret: &str, claims: &Value) -> Result<String, Problem> {
    let _ = PROVIDER.install_default();
    let (header, key) = (
        Header::default(),
        EncodingKey::from_secret(secret.as_bytes()),
    );
    jsonwebtoken::encode(&header, claims, &key)
        .map_err(|error| Problem::new(exit_code::SOFTWARE, "cannot sign the token").because(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn verify(claims: Value) -> Result<Claims, AuthFailure> {
        let token = sign(SECRET, &claims).expect("signed");
        let verified = TokenVerifier::new(SECRET).verify(&token, 1000);
        verified.map_err(TokenError::failure)
    }

    #[test]
    fn times_have_no_leeway() {
        let with = |exp: Value, nbf: Value, iat: Value| {
            verify(json!({"sub": 7, "type": "agent", "exp": exp, "nbf": nbf, "iat": iat}))
        };
        let null = Value::Null;
        assert!(with(json!(1001), null.clone(), null.clone()).is_ok());
        assert!(with(json!(1001), json!(1000), json!(1000)).is_ok());
        for (exp, nbf, iat) in [
            (json!(1000), json!(1), json!(1)),
            (json!(1001), json!(1001), json!(1)),
            (json!(1001), json!(1), json!(1001)),
            (null.clone(), json!(1), json!(1)),
            (json!("1001"), json!(1), json!(1)),
        ] {
            assert_eq!(with(exp, nbf, iat), Err(AuthFailure::InvalidToken));
        }
    }

    #[test]
    fn the_subject_is_a_number_or_digits() {
        let subject =
            |sub: Value| verify(json!({"sub": sub, "type": "agent", "exp": 2000})).map(|c| c.agent);
        assert_eq!(subject(json!(7)), Ok(AgentId(7)));
        assert_eq!(subject(json!("7")), Ok(AgentId(7)));
        for bad in [
            json!(7.5),
            json!(-7),
            json!(" 7"),
            json!(""),
            json!([7]),
            json!(null),
        ] {
            assert!(subject(bad).is_err());
        }
    }

    #[test]
    fn only_the_word_agent_is_an_agent_token() {
        for kind in [json!("customer"), json!(true), json!(null), json!("Agent")] {
            assert_eq!(
                verify(json!({"sub": 7, "type": kind, "exp": 2000})),
                Err(AuthFailure::NotAnAgentToken)
            );
        }
    }

    #[test]
    fn a_header_names_the_algorithm_and_no_extension_that_must_be_understood() {
        let with = |header: Value| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let claims = json!({"sub": 7, "type": "agent", "exp": 2000});
            let message = format!("{}.{}", part(&header), part(&claims));
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let verifier = TokenVerifier::new(SECRET);
            let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
            verifier.verify(&format!("{message}.{}", signature.expect("signed")), 1000)
        };
        assert!(with(json!({"alg": "HS256", "typ": "JWT", "kid": "1"})).is_ok());
        for refused in [
            json!({"typ": "JWT"}),
            json!({"alg": "none"}),
            json!({"alg": "HS512"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
            json!({"alg": "HS256", "crit": null}),
            json!("HS256"),
        ] {
            assert_eq!(with(refused), Err(TokenError::OtherHeader));
        }
        let header = |text: &str| is_plain_hs256(&URL_SAFE_NO_PAD.encode(text));
        assert!(header(r#"{"alg":"HS256"}"#));
        assert!(!header(r#"{"alg":"none","alg":"HS256"}"#));
    }

    #[test]
    fn another_secret_is_refused() {
        let token = sign(
            "another-secret-another-secret-00",
            &json!({"sub": 7, "type": "agent", "exp": 2000}),
        )
        .expect("signed");
        assert_eq!(
            TokenVerifier::new(SECRET).verify(&token, 1000),
            Err(TokenError::OtherSecret)
        );
    }
}
