//! From a token to its claims: HS256 under one secret and nothing else, the time passed in. The only file
//! that names the JWT crate. Who the agent is, and whether he is active, the store knows (contract:
//! protocol.md, "auth").

use std::fmt;

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use signature::{Error as SignatureError, Signer, Verifier};

use crate::model::{AgentId, AuthFailure};

/// Shortest secret that is accepted, in bytes: as long as the hash (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Checks tokens under one secret.
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
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

#[derive(Deserialize)]
struct RawClaims {
    sub: Option<Value>,
    r#type: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
}

impl TokenVerifier {
    /// A verifier under `secret`, which the caller has checked to have [`MIN_SECRET_BYTES`].
    pub fn new(secret: &str) -> Self {
        // Fails only where a provider stands already, which then is this one.
        let _ = PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        // The times are checked below, against the clock that is passed in and without leeway.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        TokenVerifier {
            key: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    /// Checks signature, algorithm, times and claims of `token`; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`AuthFailure::InvalidToken`] or [`AuthFailure::NotAnAgentToken`]; [`AuthFailure::UnknownAgent`] for a
    /// `sub` that names no possible agent.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, AuthFailure> {
        let claims = jsonwebtoken::decode::<RawClaims>(token, &self.key, &self.validation)
            .map_err(|_| AuthFailure::InvalidToken)?
            .claims;
        let now = now as f64;
        let expires = numeric_date(claims.exp.as_ref())?.ok_or(AuthFailure::InvalidToken)?;
        let not_before = numeric_date(claims.nbf.as_ref())?;
        let issued_at = numeric_date(claims.iat.as_ref())?;
        if expires <= now
            || not_before.is_some_and(|time| time > now)
            || issued_at.is_some_and(|time| time > now)
        {
            return Err(AuthFailure::InvalidToken);
        }
        if claims.r#type.as_ref().and_then(Value::as_str) != Some("agent") {
            return Err(AuthFailure::NotAnAgentToken);
        }
        let agent = match claims.sub {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()
            }
            _ => None,
        };
        Ok(Claims {
            agent: AgentId(agent.ok_or(AuthFailure::UnknownAgent)?),
            expires: expires as u64,
        })
    }
}

/// A NumericDate (RFC 7519 section 2); JSON null counts as absent.
fn numeric_date(value: Option<&Value>) -> Result<Option<f64>, AuthFailure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(AuthFailure::InvalidToken),
    }
}

// jsonwebtoken brings its own cryptography only together with RSA and elliptic curves (forty crates, one of them
// with an open advisory). HS256 is all that is ever accepted, so that is all it gets.
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
pub fn sign(secret: &str, claims: &Value) -> Result<String, String> {
    let _ = PROVIDER.install_default();
    jsonwebtoken::encode(
        &jsonwebtoken::Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .map_err(|error| format!("cannot sign the token: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn verify(claims: Value) -> Result<Claims, AuthFailure> {
        let token = sign(SECRET, &claims).expect("signed");
        TokenVerifier::new(SECRET).verify(&token, 1000)
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
    fn another_secret_is_refused() {
        let token = sign(
            "another-secret-another-secret-00",
            &json!({"sub": 7, "type": "agent", "exp": 2000}),
        )
        .expect("signed");
        assert_eq!(
            TokenVerifier::new(SECRET).verify(&token, 1000),
            Err(AuthFailure::InvalidToken)
        );
    }
}
