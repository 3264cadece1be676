//! What a JSON Web Token must claim to be accepted, once its signature is known to be good.

use serde_json::{Map, Value};

use crate::api::caller::is_tenant;
use crate::settings::JwtSettings;

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    tenant_claim: String,
    audience: Option<String>,
    issuer: Option<String>,
    leeway_s: f64,
}

impl Rules {
    pub(super) fn new(settings: &JwtSettings) -> Rules {
        Rules {
            tenant_claim: settings.tenant_claim.clone(),
            audience: settings.audience.clone(),
            issuer: settings.issuer.clone(),
            leeway_s: settings.leeway.as_secs_f64(),
        }
    }

    /// The tenant that the claims name, if they are to be accepted at `now_ms`.
    pub(super) fn tenant_of(&self, claims: &Map<String, Value>, now_ms: u64) -> Option<String> {
        let now_s = now_ms as f64 / 1_000.0;
        let expires_s = claims.get("exp")?.as_f64()?;
        if now_s >= expires_s + self.leeway_s {
            return None;
        }
        if let Some(begins) = claims.get("nbf")
            && begins.as_f64()? > now_s + self.leeway_s
        {
            return None;
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss")?.as_str()? != issuer
        {
            return None;
        }
        if let Some(audience) = &self.audience {
            let named = match claims.get("aud")? {
                Value::Array(all) => all.iter().any(|one| one.as_str() == Some(audience)),
                one => one.as_str() == Some(audience),
            };
            if !named {
                return None;
            }
        }
        let tenant = match claims.get(&self.tenant_claim)? {
            Value::String(tenant) => tenant.clone(),
            // Many platforms number their tenants. A fraction names none.
            Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
            _ => return None,
        };
        is_tenant(&tenant).then_some(tenant)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn tenant(change: impl FnOnce(&mut Rules), claims: Value) -> Option<String> {
        let mut rules = Rules {
            tenant_claim: "officeId".into(),
            audience: None,
            issuer: None,
            leeway_s: 30.0,
        };
        change(&mut rules);
        rules.tenant_of(claims.as_object().unwrap(), NOW_MS)
    }

    #[test]
    fn a_token_is_valid_until_it_expires_and_from_when_it_begins_give_or_take_the_leeway() {
        let now_s = NOW_MS / 1_000;
        for (times, valid) in [
            (json!({"exp": now_s + 60}), true),
            (json!({"exp": now_s as f64 + 0.5}), true),
            (json!({"exp": now_s - 29}), true),
            (json!({"exp": now_s - 30}), false),
            (json!({"exp": 1}), false),
            (json!({"exp": -1}), false),
            (json!({"exp": "2036-01-01"}), false),
            (json!({"exp": null}), false),
            (json!({}), false),
            (json!({"exp": now_s + 60, "nbf": now_s + 30}), true),
            (json!({"exp": now_s + 60, "nbf": now_s + 31}), false),
            (json!({"exp": now_s + 60, "nbf": "now"}), false),
            (json!({"exp": now_s + 60, "nbf": null}), false),
        ] {
            let mut claims = times.clone();
            claims["officeId"] = json!("acme");
            assert_eq!(tenant(|_| {}, claims).is_some(), valid, "{times}");
        }
    }

    #[test]
    fn the_audience_must_be_among_those_named_and_the_issuer_must_be_the_one() {
        let audience = |aud: Value| {
            let claims = json!({"exp": 9e9, "officeId": "acme", "aud": aud});
            tenant(|rules| rules.audience = Some("pombo".into()), claims).is_some()
        };
        assert!(audience(json!("pombo")) && audience(json!(["web", "pombo"])));
        assert!(!audience(json!("pombo2")) && !audience(json!([])) && !audience(json!(null)));
        let issuer = |iss: Value| {
            let claims = json!({"exp": 9e9, "officeId": "acme", "iss": iss});
            tenant(|rules| rules.issuer = Some("https://a".into()), claims).is_some()
        };
        assert!(issuer(json!("https://a")));
        assert!(
            !issuer(json!("https://a/")) && !issuer(json!(["https://a"])) && !issuer(json!(null))
        );
        let neither = json!({"exp": 9e9, "officeId": "acme", "aud": "x", "iss": "y"});
        assert!(tenant(|_| {}, neither).is_some());
    }

    #[test]
    fn the_tenant_is_a_text_or_a_whole_number() {
        let named = |value: Value| tenant(|_| {}, json!({"exp": 9e9, "officeId": value}));
        assert_eq!(named(json!("acme")).as_deref(), Some("acme"));
        assert_eq!(named(json!(42)).as_deref(), Some("42"));
        for wrong in [
            json!(""),
            json!("two words"),
            json!(4.5),
            json!(null),
            json!(["acme"]),
            json!(true),
        ] {
            assert_eq!(named(wrong), None);
        }
        assert_eq!(
            tenant(|_| {}, json!({"exp": 9e9, "tenantId": "acme"})),
            None
        );
    }
}
