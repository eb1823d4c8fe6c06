//! Who we are: tokens, passwords, and the registry that is never content.

use crate::lab::{Lab, settings, web};
use crate::mock::{Answer, Mock, Repository, Seen};
use berth_units::model::RegistrySettings;

const PASSWORD: &str = "bWU6aHVudGVyMg=="; // me:hunter2

fn with_auth(mocks: &[&Mock], auth: Option<&str>, identity_token: Option<&str>) -> RegistrySettings {
    let mut settings = settings(mocks);
    let registry = settings.registries.get_mut(&mocks[0].host).unwrap();
    registry.auth = auth.map(str::to_owned);
    registry.identity_token = identity_token.map(str::to_owned);
    settings
}

/// A registry that wants `Bearer good` and names itself as token server, which asks `who`.
fn with_tokens(repository: Repository, who: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Mock {
    Mock::plain(move |seen| {
        let host = seen.header("host");
        if seen.path.starts_with("/token") {
            return if who(seen) {
                Answer::of(200, r#"{"token": "good", "expires_in": 300}"#)
            } else {
                Answer::of(401, "{}")
            };
        }
        if seen.header("authorization") == "Bearer good" {
            return repository.answer(seen);
        }
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="the registry",scope="repository:demo/web:pull""#
        );
        Answer::of(401, "{}").header("WWW-Authenticate", challenge)
    })
}

#[test]
fn a_token_is_got_once_for_all_of_an_image() {
    let repository = web();
    let mock = with_tokens(repository.clone(), |seen| seen.header("authorization").is_empty());
    let lab = Lab::new();
    lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
    let asked: Vec<Seen> = mock.seen().into_iter().filter(|s| s.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1);
    let query = &asked[0].path;
    assert!(query.contains("service=the+registry") && query.contains("scope=repository%3Ademo%2Fweb%3Apull"));
}

#[test]
fn the_token_server_is_told_name_and_password() {
    let expected = format!("Basic {PASSWORD}");
    let mock = with_tokens(web(), move |seen| seen.header("authorization") == expected);
    let reference = format!("{}/demo/web:1", mock.host);
    Lab::new().fetch(&reference, with_auth(&[&mock], Some(PASSWORD), None)).unwrap();
    let wrong = Lab::new().fetch(&reference, with_auth(&[&mock], Some("bWU6d3Jvbmc="), None)).unwrap_err();
    let host = &mock.host;
    assert_eq!(
        wrong,
        format!("its token server {host} says 401; the credentials configured for {host} are not accepted")
    );
    let none = Lab::new().fetch(&reference, settings(&[&mock])).unwrap_err();
    assert!(none.ends_with(&format!("says 401; no credentials are configured for {host}")), "{none}");
}

#[test]
fn an_identity_token_gets_other_tokens() {
    let mock = with_tokens(web(), |seen| {
        seen.method == "POST"
            && seen.body.contains("grant_type=refresh_token")
            && seen.body.contains("refresh_token=long%2Blived")
            && seen.body.contains("scope=repository%3Ademo%2Fweb%3Apull")
    });
    let reference = format!("{}/demo/web:1", mock.host);
    Lab::new().fetch(&reference, with_auth(&[&mock], None, Some("long+lived"))).unwrap();
    assert!(mock.seen().iter().all(|seen| !seen.path.contains("long")));
}

#[test]
fn a_registry_may_ask_for_the_password_itself() {
    let repository = web();
    let expected = format!("Basic {PASSWORD}");
    let mock = Mock::plain(move |seen| {
        if seen.header("authorization") == expected {
            return repository.answer(seen);
        }
        Answer::of(401, "").header("WWW-Authenticate", "Basic realm=\"here\"")
    });
    let reference = format!("{}/demo/web:1", mock.host);
    Lab::new().fetch(&reference, with_auth(&[&mock], Some(PASSWORD), None)).unwrap();
    let none = Lab::new().fetch(&reference, settings(&[&mock])).unwrap_err();
    assert_eq!(none, format!("registry says 401; no credentials are configured for {}", mock.host));
}

#[test]
fn a_registry_that_is_never_content_is_asked_twice() {
    for challenge in ["Bearer realm=\"http://HOST/token\"", "Basic realm=\"x\"", "Negotiate", ""] {
        let mock = Mock::plain(move |seen| {
            if seen.path.starts_with("/token") {
                return Answer::of(200, r#"{"access_token": "whatever"}"#);
            }
            let answer = Answer::of(401, r#"{"errors":[{"message":"go away\u001b[2J"}]}"#);
            let challenge = challenge.replace("HOST", seen.header("host"));
            if challenge.is_empty() { answer } else { answer.header("WWW-Authenticate", challenge) }
        });
        let lab = Lab::new();
        let reference = format!("{}/demo/web:1", mock.host);
        let refused = lab.fetch(&reference, with_auth(&[&mock], Some(PASSWORD), None)).unwrap_err();
        let expected = "registry says 401 (go away\\u{1b}[2J); the credentials configured for ";
        assert!(refused.starts_with(expected), "{challenge}: {refused}");
        assert!(!refused.contains("hunter2") && !refused.contains(PASSWORD));
        assert!(mock.count("/manifests/") <= 2, "{challenge}");
    }
}

#[test]
fn a_token_that_ran_out_on_the_way_is_renewed() {
    let repository = web();
    let (large, _) = repository.layers("1")[1].clone();
    let (serving, turns) = (repository.clone(), std::sync::atomic::AtomicUsize::new(0));
    let mock = Mock::plain(move |seen| {
        if seen.path.starts_with("/token") {
            let turn = 1 + turns.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return Answer::of(200, format!(r#"{{"token": "number{turn}"}}"#));
        }
        let wanted = if seen.path.ends_with(&large) { "Bearer number2" } else { "Bearer number" };
        if seen.header("authorization").starts_with(wanted) {
            return serving.answer(seen);
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host"));
        Answer::of(401, "").header("WWW-Authenticate", realm)
    });
    let lab = Lab::new();
    lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
}

#[test]
fn a_token_server_is_not_believed_anything() {
    for (realm, expected) in [
        ("http://169.254.169.254/latest", "http://169.254.169.254 is not asked: without TLS only hosts are"),
        ("file:///etc/passwd", "\"file\" is not a way to reach"),
        ("nowhere", "\"nowhere\" as the address of its token server"),
        ("http://HOST/none", "sent no token where one was asked for"),
        ("http://HOST/large", "sent a token of more than 262144 bytes"),
        ("http://HOST/lines", "sent no token where one was asked for"),
    ] {
        let mock = Mock::plain(move |seen| match seen.path.split('?').next().unwrap() {
            "/none" => Answer::of(200, r#"{"other": 1}"#),
            "/large" => Answer::of(200, vec![b' '; 300_000]),
            "/lines" => Answer::of(200, r#"{"token": "a\r\nX: y"}"#),
            _ => {
                let realm = format!("Bearer realm=\"{}\"", realm.replace("HOST", seen.header("host")));
                Answer::of(401, "").header("WWW-Authenticate", realm)
            }
        });
        let refused = Lab::new().fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap_err();
        assert!(refused.contains(expected), "{realm}: {refused}");
    }
}
