//! Tokens: what is signed, and by whom. They are JSON Web Tokens (RFC 7519) with HS256 (RFC 7515).
//!
//! Made here rather than by a library for them: it is one algorithm with one header, which is compared as it is, so that there is nothing
//! to be talked into; the libraries come with all the others.

use std::fmt::{self, Debug};

use base64ct::{Base64UrlUnpadded, Encoding};
use bytestring::ByteString;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::{Timestamp, UserId};

/// Longer than any that is made here, by much.
const LONGEST: usize = 4_096;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Use {
    /// Everything, until it runs out or its session is ended.
    Session,
    /// To open one connection.
    Ticket,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The user.
    pub(super) sub: UserId,
    /// The account.
    pub(super) name: ByteString,
    /// When it was made, in seconds since 1970.
    pub(super) iat: i64,
    /// When it runs out, likewise.
    pub(super) exp: i64,
    /// Its own id.
    pub(super) jti: Uuid,
    /// The session that it belongs to: the id of the token that the login gave.
    pub(super) sid: Uuid,
    /// The account's stamp.
    pub(super) stamp: Uuid,
    /// What it is good for.
    #[serde(rename = "use")]
    pub(super) purpose: Use,
}

impl Claims {
    /// When it runs out.
    pub(super) fn until(&self) -> Timestamp {
        Timestamp(self.exp.saturating_mul(1_000))
    }
}

/// Signs tokens, and tells its own from all others. Its `Debug` shows nothing of the key.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    pub(super) fn new(secret: &[u8]) -> Self {
        // Never fails: a key may be of any length.
        Self(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("keys of any length will do")))
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let mut token = format!("{}.{}", Base64UrlUnpadded::encode_string(HEADER.as_bytes()), Base64UrlUnpadded::encode_string(&claims));
        let signature = self.mac(&token).finalize().into_bytes();
        token.push('.');
        token.push_str(&Base64UrlUnpadded::encode_string(&signature));
        token
    }

    /// What a token says that is signed with this key and for this purpose, whether it has run out or not; `None` for any other.
    pub(super) fn read(&self, token: &str, purpose: Use) -> Option<Claims> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = Base64UrlUnpadded::decode_vec(signature).ok()?;
        // In a time that does not depend on where they differ.
        self.mac(signed).verify_slice(&signature).ok()?;
        if Base64UrlUnpadded::decode_vec(header).ok()? != HEADER.as_bytes() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).ok()?).ok()?;
        (claims.purpose == purpose).then_some(claims)
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        mac
    }
}

impl Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims(purpose: Use) -> Claims {
        let (jti, sid, stamp) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        Claims { sub: "7".into(), name: "Ada".into(), iat: 1, exp: 2, jti, sid, stamp, purpose }
    }

    #[test]
    fn a_token_is_what_the_standard_says() {
        // RFC 7515, appendix A.1: the key, the signed part and the signature of its example.
        let key = Base64UrlUnpadded::decode_vec("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mac = Signer::new(&key.unwrap()).mac(signed).finalize().into_bytes();
        assert_eq!(Base64UrlUnpadded::encode_string(&mac), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn a_token_is_read_by_whoever_has_the_key_and_for_its_purpose() {
        let (one, other) = (Signer::new(b"one"), Signer::new(b"other"));
        let claims = claims(Use::Session);
        let token = one.sign(&claims);
        assert_eq!(one.read(&token, Use::Session), Some(claims));
        assert_eq!(one.read(&token, Use::Ticket), None);
        assert_eq!(other.read(&token, Use::Session), None);
        assert!(!format!("{one:?}").contains("one"));
    }

    #[test]
    fn nothing_is_taken_on_trust() {
        let signer = Signer::new(b"secret");
        let token = signer.sign(&claims(Use::Session));
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
        // Unsigned, as "alg": "none" has it; signed, but under another header.
        let none = Base64UrlUnpadded::encode_string(br#"{"alg":"none","typ":"JWT"}"#);
        let mac = Base64UrlUnpadded::encode_string(&signer.mac(&format!("{none}.{claims}")).finalize().into_bytes());
        for bad in [
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{mac}"),
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.{signature}."),
            format!("{header}.{claims}.{signature}="),
            format!(" {token}"),
            format!("{header}..{signature}"),
            "..".into(),
            String::new(),
            "x".repeat(1 << 20),
        ] {
            assert_eq!(signer.read(&bad, Use::Session), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_changed_token_is_taken(at in 0usize..400, with in "[A-Za-z0-9_.-]") {
            let signer = Signer::new(b"secret");
            let token = signer.sign(&claims(Use::Session));
            let at = at % token.len();
            let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert_eq!(signer.read(&changed, Use::Session), None);
        }
    }
}
