//! Bodies and queries, right and wrong.

use axum::http::Uri;

use super::*;

fn body(text: &str) -> Result<Fields, Problem> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        "application/json; charset=utf-8".parse().unwrap(),
    );
    Fields::of_body(&headers, text.as_bytes())
}

#[test]
fn every_mistake_is_told_at_once_with_its_pointer() {
    let mut fields =
        body(r#"{"name":1,"events":["a",2],"headers":{"a/b":3},"retry":{"x":1},"extra":true}"#)
            .ok()
            .unwrap();
    assert_eq!(fields.text("name", ""), Field::Absent);
    fields.texts("events", "");
    fields.text_map("headers", "");
    fields.object("retry", "", |inner| inner.whole("first", ""));
    let problem = fields.finish().unwrap_err();
    let pointers: Vec<&str> = problem
        .errors
        .iter()
        .filter_map(|error| error.pointer.as_deref())
        .collect();
    assert_eq!(
        pointers,
        ["/name", "/events/1", "/headers/a~1b", "/retry/x", "/extra"]
    );
    assert_eq!(problem.status, 422);
}

#[test]
fn a_raw_member_keeps_its_bytes() {
    let mut fields = body("{ \"payload\" : { \"n\" : 1.0e0 } }").ok().unwrap();
    assert_eq!(fields.raw("payload").unwrap().get(), "{ \"n\" : 1.0e0 }");
    assert!(fields.finish().is_ok());
}

#[test]
fn what_is_no_json_is_a_400_and_what_is_no_object_a_422() {
    assert_eq!(body("{").err().unwrap().status, 400);
    assert_eq!(body("[1]").err().unwrap().status, 422);
    let missing_type = Fields::of_body(&HeaderMap::new(), b"{}");
    assert_eq!(missing_type.err().unwrap().status, 415);
}

#[test]
fn unknown_and_repeated_parameters_are_refused() {
    let uri: Uri = "/x?page=2&page=3&colour=red".parse().unwrap();
    let mut query = Query::of(&uri);
    query.read("page", "1 or more", |text| text.parse::<u32>().ok());
    let problem = query.finish().unwrap_err();
    let names: Vec<&str> = problem
        .errors
        .iter()
        .filter_map(|error| error.parameter.as_deref())
        .collect();
    assert_eq!(names, ["page", "colour"]);
}
