//! `pombo token create`.

use super::place::Place;

#[test]
fn a_token_is_printed_once_and_only_its_digest_is_kept() {
    let place = Place::new("");
    let token = place
        .run(&["token", "create", "--operator", "--quiet"])
        .ok();
    let token = token.trim_end();
    assert!(token.starts_with("pmb_") && token.len() == 47, "{token}");
    let told = place.run(&["token", "create", "--tenant", "acme"]).ok();
    let (second, words) = told.split_once('\n').expect("lines");
    assert!(second.starts_with("pmb_") && words.contains("the tenant acme"));
    let keys = place.redis(&["KEYS", "*"]);
    let kept = format!("{keys:?}");
    assert!(kept.contains(":token:"), "{kept}");
    assert!(!kept.contains(token) && !kept.contains(second), "{kept}");
    let ids = place.redis(&["HLEN", "pombo:{cfg}:tokens"]);
    assert_eq!(ids, redis::Value::Int(2));
}

#[test]
fn it_must_be_said_whose_token_it_is() {
    let place = Place::new("");
    for wrong in [
        &["token", "create"][..],
        &["token", "create", "--operator", "--tenant", "acme"],
        &["token", "create", "--tenant", "two words"],
        &["token", "create", "--operator", "--name", ""],
    ] {
        assert_eq!(place.run(wrong).code, 64, "{wrong:?}");
    }
    assert_eq!(place.redis(&["DBSIZE"]), redis::Value::Int(0));
}
