//! What went wrong below HTTP, in words: names, connections, TLS.

use crate::show;
use berth_units::clock;

/// What went wrong below HTTP, and whether it would go wrong again.
pub fn reason(error: &reqwest::Error) -> (String, bool) {
    if let Some(tls) = find_tls(error) {
        return tls_reason(tls);
    }
    match because(error).as_str() {
        "tls handshake eof" => (NO_TLS.to_owned(), false),
        why => (format!("was not reached: {why}"), false),
    }
}

const NO_TLS: &str =
    "does not speak TLS; if it is to be reached without, the config must say plain_http for it";

/// An `io::Error` hides what it was made from between itself and its source.
fn find_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    let inside = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
    match inside {
        Some(inside) => find_tls(inside),
        None => find_tls(error.source()?),
    }
}

fn tls_reason(error: &rustls::Error) -> (String, bool) {
    use rustls::CertificateError as Bad;
    let bad = match error {
        rustls::Error::InvalidCertificate(bad) => bad,
        rustls::Error::InvalidMessage(_) => return (NO_TLS.to_owned(), false),
        other => return (format!("speaks no usable TLS: {other}"), false),
    };
    let why = match bad {
        Bad::UnknownIssuer => {
            "has a certificate of an authority that is not trusted; give that authority as its ca".into()
        }
        Bad::Expired | Bad::ExpiredContext { .. } => {
            format!("has a certificate that has expired, by this machine's clock{}", clock::hint())
        }
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            format!("has a certificate that is not valid yet, by this machine's clock{}", clock::hint())
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            "has a certificate for another name".into()
        }
        other => format!("has an unusable certificate: {other}"),
    };
    (why, true)
}

/// The innermost cause, without URLs, which may hold what nobody else should see.
pub fn because(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        Some(outer) if outer.is_timeout() => "no answer in time".to_owned(),
        Some(_) => "the connection failed".to_owned(),
        None => show::name(cause.to_string().as_bytes()),
    }
}
