//! The way to a registry: TLS and authorities, redirects, proxies.

use crate::lab::{Lab, settings, web};
use crate::mock::{Answer, Mock};
use berth_units::model::RegistrySettings;

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let repository = web();
    let serving = repository.clone();
    let mock = Mock::tls(move |seen| serving.answer(seen));
    let reference = format!("{}/demo/web:1", mock.host);
    let lab = Lab::new();
    lab.fetch(&reference, settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
    let before = mock.seen().len();
    let refused = Lab::new().fetch(&reference, RegistrySettings::default()).unwrap_err();
    assert_eq!(
        refused,
        format!(
            "{} has a certificate of an authority that is not trusted; give that authority as its ca",
            mock.host
        )
    );
    // One that is trusted for every registry is trusted for this one.
    let everywhere = RegistrySettings { ca: Some(mock.ca.clone()), ..RegistrySettings::default() };
    Lab::new().fetch(&reference, everywhere).unwrap();
    let before = mock.seen().len().max(before);
    // The authority of one host is not that of all.
    let other = Mock::tls(|_| Answer::of(404, ""));
    let mut wrong = settings(&[&mock]);
    let registry = wrong.registries.remove(&mock.host).unwrap();
    wrong.registries.insert("elsewhere.example".into(), registry);
    let refused = Lab::new().fetch(&format!("{}/a:1", other.host), wrong).unwrap_err();
    assert!(refused.contains("not trusted"), "{refused}");
    assert_eq!((mock.seen().len(), other.seen().len()), (before, 0));
}

#[test]
fn unusable_authorities_are_named() {
    for (ca, expected) in [
        ("", "the authority given for example.org holds no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the authority given for example.org is unusable",
        ),
    ] {
        let mut settings = RegistrySettings::default();
        settings.registries.entry("example.org".into()).or_default().ca = Some(ca.into());
        let refused = Lab::new().fetch("example.org/a:1", settings).unwrap_err();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn http_is_spoken_only_where_the_config_says_so() {
    let mock = Mock::plain(|_| Answer::of(404, ""));
    let refused =
        Lab::new().fetch(&format!("{}/demo/web:1", mock.host), RegistrySettings::default()).unwrap_err();
    let expected =
        "does not speak TLS; if it is to be reached without, the config must say plain_http for it";
    assert_eq!(refused, format!("{} {expected}", mock.host));
}

#[test]
fn blobs_may_lie_elsewhere_and_nobody_there_sees_the_token() {
    let repository = web();
    let serving = repository.clone();
    let store = Mock::tls(move |seen| serving.answer(seen));
    let (serving, elsewhere) = (repository.clone(), store.host.clone());
    let mock = Mock::tls(move |seen| {
        if seen.path.starts_with("/token") {
            return Answer::of(200, r#"{"token": "good"}"#);
        }
        if seen.header("authorization") != "Bearer good" {
            let realm = format!("Bearer realm=\"https://{}/token\"", seen.header("host"));
            return Answer::of(401, "").header("WWW-Authenticate", realm);
        }
        match seen.path.contains("/blobs/") {
            true => Answer::of(307, "").header("Location", format!("https://{elsewhere}{}", seen.path)),
            false => serving.answer(seen),
        }
    });
    let lab = Lab::new();
    lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock, &store])).unwrap();
    lab.assert_whole(&repository, "1");
    assert_eq!(store.count("/blobs/"), 3);
    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_empty()));
    // A relative one stays where it is, with the token.
    assert!(
        mock.seen()
            .iter()
            .filter(|seen| seen.path.contains("/blobs/"))
            .all(|seen| { seen.header("authorization") == "Bearer good" })
    );
}

#[test]
fn redirects_to_less_or_without_end_are_refused() {
    let plain = Mock::plain(|_| Answer::of(200, "never asked"));
    let target = plain.host.clone();
    let down = Mock::tls(move |_| Answer::of(302, "").header("Location", format!("http://{target}/x")));
    let refused = Lab::new().fetch(&format!("{}/a:1", down.host), settings(&[&down, &plain])).unwrap_err();
    let expected =
        format!("{} sent a redirect from https to http://{}, which is not followed", down.host, plain.host);
    assert_eq!(refused, expected);

    let target = plain.host.clone();
    let unnamed = Mock::plain(move |_| Answer::of(302, "").header("Location", format!("http://{target}/x")));
    let refused = Lab::new().fetch(&format!("{}/a:1", unnamed.host), settings(&[&unnamed])).unwrap_err();
    assert!(refused.starts_with(&format!("http://{} is not asked", plain.host)), "{refused}");
    assert!(plain.seen().is_empty());

    let ring = Mock::plain(|seen| Answer::of(302, "").header("Location", seen.path.clone()));
    let refused = Lab::new().fetch(&format!("{}/a:1", ring.host), settings(&[&ring])).unwrap_err();
    assert!(refused.ends_with("sent more than 5 redirects"), "{refused}");
    assert_eq!(ring.seen().len(), 6);

    for location in [None, Some("http://[broken")] {
        let mock = Mock::plain(move |_| {
            let answer = Answer::of(302, "");
            if let Some(to) = location { answer.header("Location", to) } else { answer }
        });
        let refused = Lab::new().fetch(&format!("{}/a:1", mock.host), settings(&[&mock])).unwrap_err();
        assert!(refused.contains("sent a redirect"), "{refused}");
    }
}

#[test]
fn a_proxy_is_used_but_for_what_is_excepted() {
    let repository = web();
    let (serving, serving_too) = (repository.clone(), repository.clone());
    // A proxy is asked with the whole address.
    let proxy = Mock::plain(move |seen| {
        let path = seen.path.strip_prefix("http://registry.example:5000").unwrap_or("/").to_owned();
        let asked = crate::mock::Seen { path, ..seen.clone() };
        match seen.header("proxy-authorization") {
            "Basic dTpw" => serving.answer(&asked),
            _ => Answer::of(407, ""),
        }
    });
    let direct = Mock::plain(move |seen| serving_too.answer(seen));
    let mut settings = settings(&[&direct]);
    settings.registries.entry("registry.example:5000".into()).or_default().plain_http = true;
    settings.proxy.http = Some(format!("http://u:p@{}", proxy.host));
    settings.proxy.no_proxy = vec!["127.0.0.0/8".into()];
    let lab = Lab::new();
    lab.fetch("registry.example:5000/demo/web:1", settings.clone()).unwrap();
    lab.assert_whole(&repository, "1");
    let asked = proxy.seen().len();
    assert!(asked >= 4);
    Lab::new().fetch(&format!("{}/demo/web:1", direct.host), settings.clone()).unwrap();
    assert_eq!(proxy.seen().len(), asked);

    settings.proxy.http = Some("http://u:hunter2@[nonsense".into());
    let refused = Lab::new().fetch("registry.example:5000/demo/web:1", settings).unwrap_err();
    assert_eq!(refused, "the proxy is not of the form http://[user:password@]host:port");
}

#[test]
fn who_cannot_be_reached_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = Lab::new().fetch(&format!("{host}/a:1"), RegistrySettings::default()).unwrap_err();
    assert!(refused.starts_with(&format!("{host} was not reached: ")), "{refused}");
    assert!(refused.contains("refused"), "{refused}");
}
