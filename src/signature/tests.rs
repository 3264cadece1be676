use proptest::prelude::*;

use super::*;

const SCHEMES: [Scheme; 3] = [Scheme::Timestamped, Scheme::Sha256, Scheme::Hex];
const NOW: u64 = 1_700_000_000;
const TOLERANCE: u64 = 300;

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text)).collect()
}

fn check(scheme: Scheme, keys: &[&str], header: &str, body: &[u8]) -> Result<(), VerifyError> {
    verify(scheme, &secrets(keys), header, body, NOW, TOLERANCE)
}

#[test]
fn signatures_are_those_that_other_libraries_make() {
    let keys = SigningKeys::new(&secrets(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]));
    let body = br#"{"test": 2432232314}"#;
    assert_eq!(
        keys.sign(Scheme::Hex, 0, body),
        "80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    );
    assert_eq!(
        keys.sign(Scheme::Sha256, 0, body),
        "sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    );
    assert_eq!(
        keys.sign(Scheme::Timestamped, 1_614_265_330, body),
        "t=1614265330,v1=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"
    );
    // The example of the Standard Webhooks specification's own libraries.
    assert_eq!(
        keys.sign_standard("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
        Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
    );
}

#[test]
fn while_a_secret_rotates_both_sign_and_either_verifies() {
    let rotating = secrets(&["new", "old"]);
    let header = SigningKeys::new(&rotating).sign(Scheme::Timestamped, NOW, b"body");
    assert_eq!(header.matches("v1=").count(), 2);
    for key in ["new", "old"] {
        assert_eq!(check(Scheme::Timestamped, &[key], &header, b"body"), Ok(()));
    }
    assert_eq!(
        check(Scheme::Timestamped, &["other"], &header, b"body"),
        Err(VerifyError::Mismatch)
    );

    let header = SigningKeys::new(&rotating).sign(Scheme::Sha256, NOW, b"body");
    assert_eq!(check(Scheme::Sha256, &["new"], &header, b"body"), Ok(()));
    assert_eq!(
        check(Scheme::Sha256, &["old"], &header, b"body"),
        Err(VerifyError::Mismatch)
    );
    for scheme in [Scheme::Sha256, Scheme::Hex] {
        let previous = SigningKeys::new(&rotating).sign_previous(scheme, b"body");
        let previous = previous.expect("an older secret");
        assert_eq!(check(scheme, &["old"], &previous, b"body"), Ok(()));
        let alone = SigningKeys::new(&rotating[..1]);
        assert!(!alone.rotates() && alone.sign_previous(scheme, b"body").is_none());
    }
    let keys = SigningKeys::new(&rotating);
    assert!(keys.rotates() && keys.sign_previous(Scheme::Timestamped, b"body").is_none());
}

#[test]
fn standard_signatures_leave_out_secrets_that_are_no_base64() {
    let sign = |texts: &[&str]| SigningKeys::new(&secrets(texts)).sign_standard("id", NOW, b"b");
    let one = sign(&["whsec_c2VjcmV0"]).unwrap();
    assert_eq!(
        sign(&["c2VjcmV0"]),
        Some(one.clone()),
        "with or without the prefix"
    );
    assert_eq!(sign(&["not base64!", "whsec_c2VjcmV0"]), Some(one.clone()));
    assert_eq!(
        sign(&["whsec_b3RoZXI=", "whsec_c2VjcmV0"])
            .unwrap()
            .split(' ')
            .count(),
        2
    );
    for texts in [&["chosen-secret"][..], &["whsec_"], &[""], &[]] {
        assert_eq!(sign(texts), None, "{texts:?}");
    }
}

#[test]
fn a_time_out_of_tolerance_is_refused_for_what_it_is() {
    let keys = ["secret"];
    let header =
        |unix_s| SigningKeys::new(&secrets(&keys)).sign(Scheme::Timestamped, unix_s, b"body");
    let verdict = |unix_s| check(Scheme::Timestamped, &keys, &header(unix_s), b"body");
    assert_eq!(verdict(NOW - 300), Ok(()));
    assert_eq!(verdict(NOW + 300), Ok(()));
    let old = verdict(NOW - 301).unwrap_err();
    assert_eq!(
        old,
        VerifyError::TooOld {
            age_s: 301,
            tolerance_s: 300
        }
    );
    assert!(old.to_string().contains("301 s ago"));
    let future = verdict(NOW + 301).unwrap_err();
    assert_eq!(
        future,
        VerifyError::InFuture {
            ahead_s: 301,
            tolerance_s: 300
        }
    );
    assert!(future.to_string().contains("in the future"));
}

#[test]
fn headers_that_are_none_are_told_apart() {
    let good = SigningKeys::new(&secrets(&["k"])).sign(Scheme::Timestamped, NOW, b"b");
    let signature = good.split_once(',').unwrap().1;
    for (header, error) in [
        ("", VerifyError::Malformed),
        ("t=1700000000", VerifyError::Malformed),
        ("t=1700000000,v1=xyz", VerifyError::Malformed),
        (
            &format!("t=1,t=1700000000,{signature}"),
            VerifyError::Malformed,
        ),
        (signature, VerifyError::BadTimestamp),
        (&format!("t=,{signature}"), VerifyError::BadTimestamp),
        (
            &format!("t=+1700000000,{signature}"),
            VerifyError::BadTimestamp,
        ),
        (&format!("t=01700000000,{signature}"), VerifyError::Mismatch),
        ("t=1700000000,v1=", VerifyError::Mismatch),
        ("t=1700000000,v1=00", VerifyError::Mismatch),
    ] {
        assert_eq!(
            check(Scheme::Timestamped, &["k"], header, b"b"),
            Err(error),
            "{header}"
        );
    }
    let spaced = format!(" v0=future, t=1700000000, v1=00, {signature} ");
    assert_eq!(check(Scheme::Timestamped, &["k"], &spaced, b"b"), Ok(()));
    assert_eq!(
        check(Scheme::Timestamped, &[], &good, b"b"),
        Err(VerifyError::NoSecret)
    );
    assert_eq!(
        check(Scheme::Sha256, &["k"], "00", b"b"),
        Err(VerifyError::Malformed)
    );
    assert_eq!(
        check(Scheme::Hex, &["k"], "sha256=00", b"b"),
        Err(VerifyError::Malformed)
    );
}

#[test]
fn standard_headers_that_are_none_are_told_apart() {
    let keys = secrets(&["whsec_c2VjcmV0"]);
    let good = SigningKeys::new(&keys)
        .sign_standard("id", NOW, b"b")
        .unwrap();
    let verdict = |secrets: &[Secret], time: &str, signature: &str| {
        verify_standard(secrets, "id", time, signature, b"b", NOW, TOLERANCE)
    };
    let now = NOW.to_string();
    assert_eq!(
        verdict(&keys, &now, &format!("v1a,xyz v1,AAAA {good}")),
        Ok(())
    );
    assert_eq!(verdict(&keys, &now, "v1a,xyz"), Err(VerifyError::Malformed));
    assert_eq!(verdict(&keys, "", &good), Err(VerifyError::BadTimestamp));
    assert_eq!(
        verdict(&keys, "1700000001", &good),
        Err(VerifyError::Mismatch)
    );
    assert!(matches!(
        verdict(&keys, "1", &good),
        Err(VerifyError::TooOld { .. })
    ));
    assert_eq!(
        verdict(&secrets(&["no base64!"]), &now, &good),
        Err(VerifyError::NoSecret)
    );
}

#[test]
fn a_generated_secret_is_fit_for_both_kinds_of_signature() {
    let secret = generate_secret([7; 32]);
    assert_eq!(
        secret.expose(),
        "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
    );
    assert!(
        SigningKeys::new(&[secret])
            .sign_standard("id", 0, b"")
            .is_some()
    );
}

#[test]
fn keys_show_nothing_of_themselves() {
    let shown = format!("{:?}", SigningKeys::new(&secrets(&["concealed"])));
    assert_eq!(shown, "SigningKeys { secrets: 1, .. }");
}

#[test]
fn schemes_are_named_as_in_the_settings() {
    let names = SCHEMES.map(|scheme| serde_json::to_string(&scheme).unwrap());
    assert_eq!(names, ["\"timestamped\"", "\"sha256\"", "\"hex\""]);
}

fn schemes() -> impl Strategy<Value = Scheme> {
    prop::sample::select(SCHEMES.to_vec())
}

fn flip(bytes: &mut [u8], at: prop::sample::Index, bit: u8) {
    bytes[at.index(bytes.len())] ^= 1 << bit;
}

/// The hex digits of the header's last signature with one bit of what they say flipped.
fn tampered(header: &str, at: prop::sample::Index, bit: u8) -> String {
    let start = header.rfind('=').map_or(0, |index| index + 1);
    let mut signature = hex::decode(&header[start..]).unwrap();
    flip(&mut signature, at, bit);
    format!("{}{}", &header[..start], hex::encode(signature))
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(
        scheme in schemes(),
        key in "\\PC{1,80}",
        other in "\\PC{1,80}",
        body in prop::collection::vec(any::<u8>(), 1..200),
        skew in 0_u64..=TOLERANCE,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let time = NOW - skew;
        let header = SigningKeys::new(&secrets(&[&key])).sign(scheme, time, &body);
        prop_assert_eq!(check(scheme, &[&key], &header, &body), Ok(()));
        prop_assert_eq!(check(scheme, &[&other, &key], &header, &body), Ok(()));

        let mut changed = body.clone();
        flip(&mut changed, at, bit);
        prop_assert_eq!(check(scheme, &[&key], &header, &changed), Err(VerifyError::Mismatch));
        changed = body.clone();
        changed.push(0);
        prop_assert_eq!(check(scheme, &[&key], &header, &changed), Err(VerifyError::Mismatch));

        let broken = tampered(&header, at, bit);
        prop_assert_eq!(check(scheme, &[&key], &broken, &body), Err(VerifyError::Mismatch));
        let cut = &header[..header.len() - 2];
        prop_assert_eq!(check(scheme, &[&key], cut, &body), Err(VerifyError::Mismatch));
        if other != key {
            prop_assert_eq!(check(scheme, &[&other], &header, &body), Err(VerifyError::Mismatch));
        }
        if scheme == Scheme::Timestamped {
            let moved = header.replacen(&format!("t={time}"), &format!("t={}", time + 1), 1);
            prop_assert!(check(scheme, &[&key], &moved, &body).is_err());
        }
    }

    #[test]
    fn standard_signatures_verify_until_anything_changes(
        key in any::<[u8; 32]>(),
        id in "[!-~]{1,40}",
        body in prop::collection::vec(any::<u8>(), 1..200),
        skew in 0_u64..=TOLERANCE,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let keys = [generate_secret(key)];
        let time = NOW + skew;
        let header = SigningKeys::new(&keys).sign_standard(&id, time, &body).unwrap();
        let text = time.to_string();
        let verdict = |id: &str, time: &str, header: &str, body: &[u8]| {
            verify_standard(&keys, id, time, header, body, NOW, TOLERANCE)
        };
        prop_assert_eq!(verdict(&id, &text, &header, &body), Ok(()));

        let mut changed = body.clone();
        flip(&mut changed, at, bit);
        prop_assert_eq!(verdict(&id, &text, &header, &changed), Err(VerifyError::Mismatch));
        prop_assert_eq!(verdict(&format!("{id}x"), &text, &header, &body), Err(VerifyError::Mismatch));
        let earlier = (time - 1).to_string();
        prop_assert_eq!(verdict(&id, &earlier, &header, &body), Err(VerifyError::Mismatch));
        let mut signature = STANDARD.decode(&header[3..]).unwrap();
        flip(&mut signature, at, bit);
        let broken = format!("v1,{}", STANDARD.encode(signature));
        prop_assert_eq!(verdict(&id, &text, &broken, &body), Err(VerifyError::Mismatch));
    }

    #[test]
    fn any_header_is_judged_without_a_panic(
        scheme in schemes(),
        header in "(t=|v1=|v1,|sha256=|,|=|[0-9a-f]{0,6}|\\PC){0,10}",
    ) {
        prop_assert!(check(scheme, &["k"], &header, b"body").is_err());
        let keys = secrets(&["whsec_c2VjcmV0"]);
        prop_assert!(verify_standard(&keys, "id", &header, &header, b"b", NOW, TOLERANCE).is_err());
    }
}
