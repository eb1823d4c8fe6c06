//! Requests to registries: TLS and proxy, time limits, redirects, tokens.
//!
//! Invariants:
//! * `http:` is spoken only to hosts that the settings name so, whoever asks for it: a reference, a redirect, or
//!   the address of a token server;
//! * credentials and tokens go to the registry that they are for and to the token server that it names, and are
//!   not sent along a redirect to another host;
//! * each request ends: connecting, headers and body have limits of their own (`Pace`).

use super::Pace;
use super::answer::Answer;
use super::auth::{Credentials, TokenAnswer, basic};
use super::challenge::{self, Challenge};
use super::error::{Again, Error, Failure};
use super::place::{Place, host_of};
use super::reason::{because, reason};
use crate::{limits, show};
use berth_units::model::RegistrySettings;
use reqwest::header::{self, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Speaks to registries.
pub struct Http {
    settings: RegistrySettings,
    pub(super) pace: Pace,
    /// One for each host that has authorities of its own, and one for all others (``).
    clients: RefCell<BTreeMap<String, Client>>,
    /// `Authorization` by host and scope, and until when.
    tokens: RefCell<BTreeMap<(String, String), (HeaderValue, Instant)>>,
}

/// What goes out with a request.
struct Ask<'a> {
    method: Method,
    url: Url,
    accept: &'a str,
    range: Option<u64>,
    authorization: Option<HeaderValue>,
    form: Option<String>,
}

impl Http {
    /// Nothing is wrong with settings before the registry is asked that they are for.
    pub fn new(settings: RegistrySettings, pace: Pace) -> Self {
        let (clients, tokens) = Default::default();
        Self { settings, pace, clients, tokens }
    }

    /// Whether this host is named as one that speaks HTTP without TLS.
    pub fn is_plain(&self, host: &str) -> bool {
        self.settings.registries.get(host).is_some_and(|h| h.plain_http)
    }

    fn client(&self, host: &str) -> Result<Client, Error> {
        let ca = self.settings.registries.get(host).and_then(|h| h.ca.as_deref());
        let key = if ca.is_some() { host } else { "" };
        if let Some(client) = self.clients.borrow().get(key) {
            return Ok(client.clone());
        }
        let wrong = |what: String| Error::Settings(what);
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // Each is for this host alone, or for all.
        let everywhere = self.settings.ca.as_deref().map(|ca| ("every registry", ca));
        for (whom, ca) in everywhere.into_iter().chain(ca.map(|ca| (host, ca))) {
            let mut count = 0;
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                let added = certificate
                    .map_err(|e| e.to_string())
                    .and_then(|c| roots.add(c).map_err(|e| e.to_string()));
                added.map_err(|e| wrong(format!("the authority given for {whom} is unusable: {e}")))?;
                count += 1;
            }
            if count == 0 {
                return Err(wrong(format!("the authority given for {whom} holds no certificate in PEM")));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(format!("no TLS: {e}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.pace.connect);
        let proxy = &self.settings.proxy;
        let except = reqwest::NoProxy::from_string(&proxy.no_proxy.join(","));
        let http = proxy.http.as_deref().map(reqwest::Proxy::http::<&str>);
        let https = proxy.https.as_deref().map(reqwest::Proxy::https::<&str>);
        for proxy in [http, https].into_iter().flatten() {
            // The address may hold a password: it is not repeated.
            let proxy = proxy
                .map_err(|_| wrong("the proxy is not of the form http://[user:password@]host:port".into()))?;
            builder = builder.proxy(proxy.no_proxy(except.clone()));
        }
        let client = builder.build().map_err(|e| wrong(format!("no HTTP: {}", because(&e))))?;
        self.clients.borrow_mut().insert(key.to_owned(), client.clone());
        Ok(client)
    }

    /// GETs something of a repository, with whatever authorization it takes. The answer is 200 or 206 (or 416).
    pub async fn get(
        &self,
        place: &Place,
        what: &str,
        accept: &str,
        range: Option<u64>,
    ) -> Result<Answer, Failure> {
        let url = place.url(what)?;
        let key = (place.host.clone(), place.scope());
        let cached = self.tokens.borrow().get(&key).filter(|(_, until)| Instant::now() < *until).cloned();
        let mut authorization = cached.map(|(value, _)| value);
        let mut renewed = false;
        loop {
            let ask = Ask {
                method: Method::GET,
                url: url.clone(),
                accept,
                range,
                authorization: authorization.clone(),
                form: None,
            };
            let answer = self.follow(ask).await?;
            let is_registry = answer.host == host_of(&url);
            match answer.status {
                StatusCode::UNAUTHORIZED if is_registry && !renewed => {
                    self.tokens.borrow_mut().remove(&key);
                    let (value, until) = self.authorize(place, answer).await?;
                    self.tokens.borrow_mut().insert(key.clone(), (value.clone(), until));
                    authorization = Some(value);
                    renewed = true;
                }
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                StatusCode::RANGE_NOT_SATISFIABLE if range.is_some() => return Ok(answer),
                _ => return Err(self.refusal(place, what, answer).await),
            }
        }
    }

    /// GETs an address that is no registry's, without any authorization.
    pub(super) async fn open(&self, url: Url, range: Option<u64>) -> Result<Answer, Failure> {
        self.follow(Ask { method: Method::GET, url, accept: "*/*", range, authorization: None, form: None })
            .await
    }

    fn credentials(&self, place: &Place) -> Result<Option<Credentials>, Error> {
        let registry = self.settings.registries.get(&place.host);
        registry.map_or(Ok(None), |registry| Credentials::of(&place.host, registry))
    }

    /// What to answer to a 401.
    async fn authorize(&self, place: &Place, answer: Answer) -> Result<(HeaderValue, Instant), Failure> {
        let challenges: Vec<Challenge> = answer
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let credentials = self.credentials(place)?;
        let credentials = credentials.as_ref();
        let bearer = challenges.iter().find(|c| c.scheme == "bearer" && c.get("realm").is_some());
        if let Some(bearer) = bearer {
            return self.token(place, bearer, credentials).await;
        }
        match credentials {
            Some(Credentials::Password(name, password)) if challenges.iter().any(|c| c.scheme == "basic") => {
                let value = secret(&basic(name, password))?;
                Ok((value, Instant::now() + Duration::from_secs(3600)))
            }
            _ => Err(self.refusal(place, "", answer).await),
        }
    }

    /// The token dance.
    async fn token(
        &self,
        place: &Place,
        bearer: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<(HeaderValue, Instant), Failure> {
        let realm = bearer.get("realm").unwrap_or_default();
        let mut url = Url::parse(realm).map_err(|_| Error::Bad {
            host: place.host.clone(),
            why: format!("{:?} as the address of its token server", show::name(realm.as_bytes())),
        })?;
        let scope = bearer.get("scope").map_or_else(|| place.scope(), str::to_owned);
        let service = bearer.get("service");
        let mut form = None;
        let mut authorization = None;
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(service.map(|service| ("service", service)));
        match credentials {
            Some(Credentials::Identity(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "berth"),
                    ("refresh_token", token),
                ]);
                // The URL's own encoding of a query is that of a form.
                let mut encoded = url.clone();
                encoded.set_query(None);
                encoded.query_pairs_mut().extend_pairs(&fields);
                form = encoded.query().map(str::to_owned);
            }
            Some(Credentials::Password(name, password)) => {
                authorization = Some(secret(&basic(name, password))?);
                url.query_pairs_mut().extend_pairs(&fields).append_pair("account", name);
            }
            None => {
                url.query_pairs_mut().extend_pairs(&fields);
            }
        }
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let ask = Ask { method, url, accept: "application/json", range: None, authorization, form };
        let answer = self.follow(ask).await?;
        let host = answer.host.clone();
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let status = answer.status.as_u16();
                return Err(Error::Refused(format!(
                    "its token server {host} says {status}; {}",
                    advice(place, credentials)
                ))
                .into());
            }
            _ => return Err(self.refusal(place, "", answer).await),
        }
        let bytes = answer.whole(limits::TOKEN_BYTES, "a token").await?;
        let parsed = serde_json::from_slice::<TokenAnswer>(&bytes).ok().and_then(TokenAnswer::token);
        let (token, seconds) =
            parsed.ok_or_else(|| Error::Bad { host, why: "no token where one was asked for".into() })?;
        // Used up a little before its end; one that is too short for that serves for what is under way.
        let seconds = seconds.saturating_sub(10).clamp(1, 3600);
        Ok((secret(&format!("Bearer {token}"))?, Instant::now() + Duration::from_secs(seconds)))
    }

    /// Sends a request and follows redirects.
    async fn follow(&self, mut ask: Ask<'_>) -> Result<Answer, Failure> {
        for _ in 0..=limits::REDIRECTS {
            let host = host_of(&ask.url);
            self.check_scheme(&ask.url, &host)?;
            let answer = self.send(&ask, &host).await?;
            if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let bad = |why: String| Error::Bad { host: host.clone(), why };
            let location = answer.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
            let location = location.ok_or_else(|| bad("a redirect that leads nowhere".into()))?;
            let next = ask
                .url
                .join(location)
                .map_err(|_| bad(format!("a redirect to {:?}", show::name(location.as_bytes()))))?;
            if ask.url.scheme() == "https" && next.scheme() != "https" {
                return Err(bad(format!(
                    "a redirect from https to {}://{}, which is not followed",
                    next.scheme(),
                    host_of(&next)
                ))
                .into());
            }
            if next.origin() != ask.url.origin() {
                ask.authorization = None;
                // A form holds a token.
                if ask.form.is_some() {
                    return Err(bad(format!(
                        "a redirect of its token server to {}, which is not followed",
                        host_of(&next)
                    ))
                    .into());
                }
            }
            ask.url = next;
        }
        let host = host_of(&ask.url);
        let why = format!("more than {} redirects", limits::REDIRECTS);
        Err(Error::Bad { host, why }.into())
    }

    fn check_scheme(&self, url: &Url, host: &str) -> Result<(), Error> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.is_plain(host) => Ok(()),
            "http" => Err(Error::Refused(format!(
                "http://{host} is not asked: without TLS only hosts are that the config names so"
            ))),
            other => Err(Error::Refused(format!(
                "{:?} is not a way to reach {host}",
                show::name(other.as_bytes())
            ))),
        }
    }

    async fn send(&self, ask: &Ask<'_>, host: &str) -> Result<Answer, Failure> {
        let client = self.client(host)?;
        let mut request =
            client.request(ask.method.clone(), ask.url.clone()).header(header::ACCEPT, ask.accept);
        if let Some(from) = ask.range {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(value) = &ask.authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        if let Some(form) = &ask.form {
            request =
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let gone = |why: String| Error::Unreachable { host: host.to_owned(), why };
        match tokio::time::timeout(self.pace.header, request.send()).await {
            Err(_) => {
                Err(Failure::soon(gone(format!("has not answered within {} s", self.pace.header.as_secs()))))
            }
            Ok(Err(error)) => {
                let (why, final_word) = reason(&error);
                let again = if final_word { Again::Never } else { Again::Soon };
                Err(Failure { error: gone(why), again })
            }
            Ok(Ok(body)) => Ok(Answer::new(body, host, self.pace)),
        }
    }

    /// A status that ends it, or asks for patience.
    async fn refusal(&self, place: &Place, what: &str, answer: Answer) -> Failure {
        let status = answer.status.as_u16();
        let who = if answer.host == place.host { "registry".to_owned() } else { answer.host.clone() };
        let credentials = self.credentials(place).ok().flatten();
        let pause =
            answer.headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let again = match (status, pause) {
            (429 | 503, Some(seconds)) if seconds <= limits::RETRY_AFTER_SECONDS => {
                Again::After(Duration::from_secs(seconds))
            }
            (429 | 503, Some(_)) => Again::Never,
            (408 | 429 | 500.., _) => Again::Soon,
            _ => Again::Never,
        };
        let advice = match (status, pause) {
            (401 | 403, _) => format!("; {}", advice(place, credentials.as_ref())),
            (404, _) if what.starts_with("manifests/") => {
                let kind = if place.pin.is_some() { "image" } else { "tag" };
                format!("; it has no {kind} {} in {}", place.wanted, place.repository)
            }
            (404, _) => format!("; it lacks {what} of {}", place.repository),
            (429 | 503, Some(seconds)) => format!("; it asks to wait {seconds} s"),
            _ => String::new(),
        };
        let said = answer.said().await.map(|said| format!(" ({said})")).unwrap_or_default();
        Failure { error: Error::Refused(format!("{who} says {status}{said}{advice}")), again }
    }
}

fn secret(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::Settings("the credentials hold a character that no header may hold".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn advice(place: &Place, credentials: Option<&Credentials>) -> String {
    match credentials {
        None => format!("no credentials are configured for {}", place.host),
        Some(_) => format!("the credentials configured for {} are not accepted", place.host),
    }
}
