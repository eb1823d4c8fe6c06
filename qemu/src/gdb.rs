//! Hangs a guest's CPU from outside, as a kernel bug does: through QEMU's GDB stub (gdb manual, "Remote Serial Protocol")
//! the next instruction becomes a jump to itself, with interrupts off. Everything else, the watchdog device included, goes on.

use anyhow::{Context, Result, bail};
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The stub answers in milliseconds; a silent one is stuck.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of a register dump before rip: rax to r15.
const BEFORE_RIP: usize = 16 * 8;
/// Interrupt flag in eflags.
const IF: u32 = 1 << 9;

struct Stub {
    stream: BufReader<UnixStream>,
}

/// Stops the only CPU for good.
pub(crate) fn hang(socket: &Path) -> Result<()> {
    let stream = UnixStream::connect(socket).context("QEMU's GDB socket")?;
    stream.set_read_timeout(Some(ANSWER))?;
    // Connecting has stopped the guest.
    let mut stub = Stub { stream: BufReader::new(stream) };
    let registers = stub.ask("g")?;
    let rip = field(&registers, BEFORE_RIP, 8)?;
    let flags = field(&registers, BEFORE_RIP + 8, 4)?;
    let rip = u64::from_le_bytes(rip.try_into().map_err(|_| anyhow::anyhow!("short register"))?);
    let flags = u32::from_le_bytes(flags.try_into().map_err(|_| anyhow::anyhow!("short register"))?) & !IF;
    stub.must(&format!("M{rip:x},2:ebfe"))?;
    let flags: String = flags.to_le_bytes().iter().map(|b| format!("{b:02x}")).collect();
    stub.must(&format!("P11={flags}"))?;
    // Detach: the guest goes on, in its loop.
    stub.must("D")
}

/// Bytes of a hex dump.
fn field(hex: &str, at: usize, bytes: usize) -> Result<Vec<u8>> {
    let digits = hex.get(at * 2..(at + bytes) * 2).context("QEMU sent too few registers")?;
    (0..bytes).map(|n| Ok(u8::from_str_radix(&digits[n * 2..n * 2 + 2], 16)?)).collect()
}

impl Stub {
    fn must(&mut self, packet: &str) -> Result<()> {
        match self.ask(packet)?.as_str() {
            "OK" => Ok(()),
            other => bail!("QEMU's GDB stub answers {other:?} to {packet}"),
        }
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.stream.get_mut(), "${packet}#{sum:02x}")?;
        let mut answer = String::new();
        while self.byte()? != b'$' {}
        loop {
            match self.byte()? {
                b'#' => break,
                other => answer.push(char::from(other)),
            }
        }
        // Checksum; the socket does not lose bytes.
        self.byte()?;
        self.byte()?;
        self.stream.get_mut().write_all(b"+")?;
        Ok(answer)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}
