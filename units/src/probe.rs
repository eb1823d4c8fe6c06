//! What a health check looks at from inside a unit: `http://HOST[:PORT][/PATH]` or `tcp:HOST:PORT`. One parser for the
//! unit file's checker and for the worker that does the looking (`berth worker probe`), so that they agree.
//!
//! Names are not looked up: that would bring the image's own resolver libraries into Berth's program, and a health check
//! must not fail with a name server. `localhost` is both loopback addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const HTTP_PORT: u16 = 80;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Healthy if it answers GET with a status from 200 to 399.
    Http {
        /// As written, brackets of an IPv6 address included.
        host: String,
        /// 80 if not written.
        port: u16,
        /// Path and query, from `/` on.
        path: String,
    },
    /// Healthy if it takes a connection.
    Tcp {
        /// As in [`Target::Http`].
        host: String,
        /// Port.
        port: u16,
    },
}

impl Target {
    /// Reads it. The error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) = authority(rest)?;
            let port = port.ok_or_else(|| format!("{text:?} names no port; write tcp:HOST:PORT"))?;
            return Ok(Self::Tcp { host, port });
        }
        if text.starts_with("https:") {
            return Err(
                "a health check speaks no TLS; write http://HOST:PORT/PATH or tcp:HOST:PORT".to_owned()
            );
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(format!("{text:?} is no target; write http://HOST:PORT/PATH or tcp:HOST:PORT"));
        };
        let (address, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(format!("{bad:?} may not stand in the path of {text:?}; write it as %XX"));
        }
        let (host, port) = authority(address)?;
        Ok(Self::Http { host, port: port.unwrap_or(HTTP_PORT), path })
    }

    /// Where to connect to, in the order of trying; never empty.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let (Self::Http { host, port, .. } | Self::Tcp { host, port }) = self;
        let addresses = match literal(host) {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, *port)).collect()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port, path } => write!(f, "http://{host}:{port}{path}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// Host and port; the host is known to be an address or `localhost`.
fn authority(text: &str) -> Result<(String, Option<u16>), String> {
    // The last colon, if it is no part of an IPv6 address.
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_brackets..].rfind(':') {
        Some(at) => (&text[..after_brackets + at], Some(&text[after_brackets + at + 1..])),
        None => (text, None),
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .map(|port| match port.parse() {
            Ok(number) if number > 0 && digits(port) => Ok(number),
            _ => Err(format!("{port:?} is no port; write a number from 1 to 65535")),
        })
        .transpose()?;
    if literal(host).is_none() && host != "localhost" {
        return Err(format!(
            "{host:?} is no address: a health check looks up no names; write localhost, 127.0.0.1 or [::1]"
        ));
    }
    Ok((host.to_owned(), port))
}

fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood() {
        for (text, shown, first) in [
            ("http://localhost:8080/health", "http://localhost:8080/health", "127.0.0.1:8080"),
            ("http://127.0.0.1", "http://127.0.0.1:80/", "127.0.0.1:80"),
            ("http://10.0.0.7/a/b?c=d&e", "http://10.0.0.7:80/a/b?c=d&e", "10.0.0.7:80"),
            ("http://localhost?x", "http://localhost:80/?x", "127.0.0.1:80"),
            ("http://[::1]:9000/", "http://[::1]:9000/", "[::1]:9000"),
            ("http://[fe80::1]", "http://[fe80::1]:80/", "[fe80::1]:80"),
            ("tcp:localhost:5432", "tcp:localhost:5432", "127.0.0.1:5432"),
            ("tcp:[::1]:5432", "tcp:[::1]:5432", "[::1]:5432"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.addresses()[0].to_string(), first);
        }
        assert_eq!(Target::parse("tcp:localhost:1").unwrap().addresses().len(), 2);
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, words) in [
            ("", "write http://HOST:PORT/PATH or tcp:HOST:PORT"),
            ("localhost:80", "write http://"),
            ("https://localhost", "speaks no TLS"),
            ("tcp:localhost", "names no port"),
            ("tcp:localhost:", "\"\" is no port"),
            ("tcp:localhost:0", "\"0\" is no port"),
            ("tcp:localhost:+5", "\"+5\" is no port"),
            ("tcp:localhost:65536", "no port"),
            ("http://web:80/", "looks up no names"),
            ("http://user@localhost/", "looks up no names"),
            ("http:///x", "\"\" is no address"),
            ("http://::1/", "no address"),
            ("http://[127.0.0.1]/", "looks up no names"),
            ("http://[::1]x:5/", "looks up no names"),
            ("http://localhost/a b", "' ' may not stand"),
            ("http://localhost/a\r\nX: y", "'\\r' may not stand"),
            ("http://localhost/#part", "'#' may not stand"),
            ("http://localhost/\u{e4}", "'\u{e4}' may not stand"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
