//! Who calls, found out from the token of a request: the setting's, one of Pombo's own, or a JSON Web Token.
//!
//! Every refusal of a token has the same words, and too many of them from one address are slowed down.

mod address;
mod claims;
mod failures;
mod jwks;
mod jwt;

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use self::failures::Failures;
use self::jwt::Jwt;
use super::caller::Caller;
use super::problem::Problem;
use super::{Api, ApiError, Peer};
use crate::clock::Clock;
use crate::settings::{ApiSettings, Secret};
use crate::store::tokens::{TOKEN_PREFIX, digest_of};

/// The longest token that is looked at, in bytes; JWTs with many claims are long.
const LONGEST_TOKEN: usize = 8 * 1024;

/// What is needed to tell who calls, besides Redis.
pub(super) struct Auth {
    jwt: Option<Jwt>,
    failures: Failures,
}

impl Auth {
    /// # Errors
    ///
    /// The keys for JSON Web Tokens cannot be used.
    pub(super) fn new(settings: &ApiSettings, clock: &Clock) -> Result<Auth, ApiError> {
        let jwt = Jwt::new(&settings.jwt, clock).map_err(|reason| ApiError::Jwt { reason })?;
        Ok(Auth {
            jwt,
            failures: Failures::new(settings.failed_auth_per_minute),
        })
    }
}

/// The token of a request: `Authorization: Bearer`, or the header of the setting `api.key_header`.
fn token_of(key_header: &str, headers: &HeaderMap) -> Option<Secret> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        // Credentials of another kind may be there for a proxy in front.
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let own = headers.get(key_header);
    let own = own.and_then(|value| value.to_str().ok()).map(str::trim);
    let token = bearer.filter(|token| !token.is_empty()).or(own)?;
    (1..=LONGEST_TOKEN)
        .contains(&token.len())
        .then(|| Secret::new(token))
}

impl Api {
    /// Who sends a request with these headers.
    ///
    /// # Errors
    ///
    /// 401 without a valid token, 429 after too many of those from one address, 503 when it cannot be told now.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<Peer>,
    ) -> Result<Caller, Problem> {
        let settings = &self.settings.api;
        let Some(token) = token_of(&settings.key_header, headers) else {
            return Err(Problem::unauthorized(format!(
                "Send a token as `Authorization: Bearer <token>`, or in the header {}.",
                settings.key_header
            )));
        };
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip());
        let network = address::network(address::client(peer, headers, &settings.trusted_proxies));
        let digest = digest_of(&token);
        let failures = &self.guards.auth.failures;
        failures
            .admit(network, &digest, self.clock.monotonic())
            .map_err(too_many)?;
        match self.look_up(&token, &digest).await? {
            Some(caller) => {
                failures.accepted(digest, self.clock.monotonic());
                Ok(caller)
            }
            None => {
                failures
                    .refused(network, self.clock.monotonic())
                    .map_err(too_many)?;
                Err(Problem::unauthorized("The token is not valid."))
            }
        }
    }

    async fn look_up(&self, token: &Secret, digest: &str) -> Result<Option<Caller>, Problem> {
        if let Some(operator) = &self.settings.api.operator_token
            && operator
                .expose()
                .as_bytes()
                .ct_eq(token.expose().as_bytes())
                .into()
        {
            return Ok(Some(Caller::Operator));
        }
        let now_ms = self.clock.unix_ms();
        if token.expose().starts_with(TOKEN_PREFIX) {
            let found = self.store.token_by_digest(digest, now_ms).await?;
            return Ok(found.map(|token| token.tenant.map_or(Caller::Operator, Caller::Tenant)));
        }
        match &self.guards.auth.jwt {
            Some(jwt) if token.expose().split('.').count() == 3 => {
                let tenant = jwt.tenant_of(token, now_ms).await?;
                Ok(tenant.map(Caller::Tenant))
            }
            _ => Ok(None),
        }
    }
}

fn too_many(seconds: u32) -> Problem {
    Problem::too_many(
        "Too many authentications from this address have failed.",
        seconds,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        token_of("x-own-key", &map).map(|token| token.expose().to_owned())
    }

    #[test]
    fn a_token_stands_in_either_header() {
        for headers in [
            &[("authorization", "Bearer abc")][..],
            &[("authorization", "bearer  abc ")],
            &[("x-own-key", " abc")],
            &[("authorization", "Basic dTpw"), ("x-own-key", "abc")],
            &[("authorization", "Bearer abc"), ("x-own-key", "other")],
        ] {
            assert_eq!(token(headers).as_deref(), Some("abc"), "{headers:?}");
        }
        let long = "x".repeat(LONGEST_TOKEN + 1);
        for headers in [
            &[][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic dTpw")],
            &[("authorization", "abc")],
            &[("x-own-key", "")],
            &[("x-own-key", long.as_str())],
            &[("x-api-key", "abc")],
        ] {
            assert_eq!(token(headers), None);
        }
    }
}
