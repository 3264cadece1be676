//! What every request meets, whatever it asks for.

use crate::support::pombo::World;

#[tokio::test]
async fn a_path_that_does_not_exist_is_told_as_a_problem() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let answer = pombo.api().with_token(&token).get("/v1/nothing").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json["status"], 404);
}

#[tokio::test]
async fn the_api_is_not_served_where_it_is_switched_off() {
    let world = World::with("[api]\nenabled = false").await;
    let pombo = world.config.spawn().await;
    let line = pombo.log().wait_for("pombo starts").await;
    assert!(!line.contains("\"api\""), "{line}");
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test]
async fn the_first_line_of_the_log_tells_where_the_api_is() {
    let world = World::new().await;
    let pombo = world.config.spawn().await;
    assert_eq!(pombo.api().get("/").await.status, 404);
    assert_eq!(pombo.stop().await, Some(0));
}
