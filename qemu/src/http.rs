//! Just enough HTTP to ask a guest for a page.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes of an answer that are read; test pages are small.
const ANSWER: u64 = 1 << 20;

/// `GET path` from a server on loopback; the whole answer, headers included.
pub fn get(port: u16, path: &str, limit: Duration) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if !answer.starts_with("HTTP/1.") {
        bail!("not an HTTP answer: {answer:?}");
    }
    Ok(answer)
}

/// Asks again and again, overlapping, until one answer is 200: QEMU's port forwarding loses the first packets of a guest that
/// is not up yet, and a single request would wait a whole second for its retransmission. Returns the answer and when
/// it came.
pub fn wait_200(port: u16, path: &str, limit: Duration) -> Result<(String, Instant)> {
    let deadline = Instant::now() + limit;
    let (found, answers) = mpsc::channel();
    loop {
        let (found, page) = (found.clone(), path.to_owned());
        std::thread::spawn(move || {
            if let Ok(answer) = get(port, &page, Duration::from_secs(5))
                && answer.split_whitespace().nth(1) == Some("200")
            {
                // Nobody listens any more once the first one is in.
                let _ = found.send((answer, Instant::now()));
            }
        });
        match answers.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => return Ok(answer),
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(e) => {
                return Err(e).with_context(|| format!("no page {path} from port {port} within {limit:?}"));
            }
        }
    }
}

/// A port on loopback that nobody listens on right now.
pub fn free_port() -> Result<u16> {
    let [port] = free_ports()?;
    Ok(port)
}

/// Several, no two the same.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held before one is let go.
    let held: Vec<_> =
        (0..N).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
