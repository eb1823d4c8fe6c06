//! Who we are to a registry: credentials as in Docker's `config.json`, and the tokens got for them.

use super::error::Error;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use berth_units::model::Registry;
use serde::Deserialize;

/// What one registry is told.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password(String, String),
    /// A token that gets other tokens (OAuth 2).
    Identity(String),
}

impl Credentials {
    /// Those for one registry. Errors never say what stands there.
    pub fn of(host: &str, registry: &Registry) -> Result<Option<Self>, Error> {
        let wrong = |why: &str| Error::Settings(format!("the credentials for {host} are unusable: {why}"));
        if let Some(token) = registry.identity_token.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Self::Identity(token.clone())));
        }
        let Some(auth) = registry.auth.as_deref().map(str::trim).filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let decoded = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth));
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| wrong("auth is not base64"))?;
        let (name, password) =
            text.split_once(':').ok_or_else(|| wrong("auth is not base64 of user:password"))?;
        // Docker once padded it with NUL.
        Ok(Some(Self::Password(name.into(), password.trim_end_matches('\0').into())))
    }
}

/// `Authorization: Basic …`.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// A token server's answer.
#[derive(Deserialize)]
pub struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds; 60 when nothing is said.
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// The token, and for how many seconds it is good.
    pub fn token(self) -> Option<(String, u64)> {
        let token = self.token.or(self.access_token)?;
        let sound = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        sound.then(|| (token, self.expires_in.unwrap_or(60)))
    }
}

/// For fuzzing.
pub fn fuzz(text: &str) {
    let registry = Registry { auth: Some(text.to_owned()), ..Registry::default() };
    let _ = Credentials::of("example.org", &registry);
    let _ = serde_json::from_str::<TokenAnswer>(text).map(TokenAnswer::token);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(auth: &str, token: &str) -> Result<Option<Credentials>, String> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let registry = Registry { auth: some(auth), identity_token: some(token), ..Registry::default() };
        Credentials::of("example.org", &registry).map_err(|e| e.to_string())
    }

    #[test]
    fn credentials_are_read_as_docker_writes_them() {
        let password = |n: &str, p: &str| Ok(Some(Credentials::Password(n.into(), p.into())));
        assert!(credentials("bWU6c2VjcmV0OnRvbw==", "") == password("me", "secret:too"));
        assert!(credentials(" bWU6c2VjcmV0OnRvbw\n", "") == password("me", "secret:too"));
        assert!(credentials("eDp5", "long") == Ok(Some(Credentials::Identity("long".into()))));
        assert!(credentials("", "") == Ok(None));
    }

    #[test]
    fn secrets_are_not_repeated_in_errors() {
        for auth in ["hunter2!", "aHVudGVyMg=="] {
            let error = credentials(auth, "").err().unwrap();
            assert!(error.starts_with("the credentials for example.org are unusable: auth is not base64"));
            assert!(!error.contains("unter2"), "{error}");
        }
    }
}
