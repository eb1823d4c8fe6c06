//! The table of routes.

use super::*;

fn status(method: Method, path: &str) -> u16 {
    route(&method, path).map_or_else(|r| r.status, |_| 200)
}

#[test]
fn the_table() {
    assert_eq!(route(&Method::GET, "/v1/units/web/logs").unwrap(), Route::Logs("web".into()));
    assert_eq!(route(&Method::POST, "/v1/reboot").unwrap(), Route::Act(Act::Reboot));
    for (method, path, code) in [
        (Method::GET, "/v1/units", 200),
        (Method::GET, "/v1/units/web", 200),
        (Method::GET, "/v1/units/berth/logs", 200),
        (Method::GET, "/v1/units/berth", 400),
        (Method::POST, "/v1/units", 405),
        (Method::GET, "/v1/reboot", 405),
        (Method::POST, "/v1/config/reload", 200),
        (Method::GET, "/v1/config/reload", 405),
        (Method::GET, "/v1/config/text", 200),
        (Method::POST, "/v1/config/units", 200),
        (Method::POST, "/v1/config/units/diff", 200),
        (Method::POST, "/v1/config/rollback", 200),
        (Method::GET, "/v1/config/rollback/diff", 405),
        (Method::GET, "/v1/history", 200),
        (Method::GET, "/v1/images", 200),
        (Method::POST, "/v1/images/pull", 200),
        (Method::GET, "/v1/images/prune", 405),
        (Method::POST, "/v1/images/web", 404),
        (Method::POST, "/v1/images/load", 200),
        (Method::GET, "/v1/jobs", 200),
        (Method::POST, "/v1/units/web/restart", 200),
        (Method::GET, "/v1/units/web/stop", 405),
        (Method::POST, "/v1/units/run-1/remove", 200),
        (Method::POST, "/v1/run", 200),
        (Method::GET, "/v1/disks", 200),
        (Method::GET, "/v1/install", 200),
        (Method::POST, "/v1/install", 200),
        (Method::GET, "/v1/reset", 405),
        (Method::GET, "/v1/volumes", 200),
        (Method::GET, "/v1/volumes/data", 200),
        (Method::GET, "/v1/volumes/..", 400),
        (Method::POST, "/v1/volumes/data/remove", 200),
        (Method::POST, "/v1/units/../stop", 400),
        (Method::POST, "/v1/units/web/kill", 404),
        (Method::GET, "/metrics", 200),
        (Method::POST, "/metrics", 405),
        (Method::GET, "/v1/stats", 200),
        (Method::GET, "/", 404),
        (Method::GET, "/v2/units", 404),
        (Method::GET, "/v1/units/web/logs/x", 404),
        (Method::GET, "/v1/units/", 400),
        (Method::GET, "/v1/units/..", 400),
        (Method::GET, "/v1/units/%2e%2e", 400),
        (Method::GET, "/v1/units/Web", 400),
    ] {
        assert_eq!(status(method.clone(), path), code, "{method} {path}");
    }
    let refusal = route(&Method::PUT, "/v1/poweroff").unwrap_err();
    assert_eq!((refusal.status, refusal.allow), (405, Some("POST")));
}
