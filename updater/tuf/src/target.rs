//! A target as signed metadata describes it, and a reader that passes on no byte more and says at the end whether it
//! was right.

use crate::error::Error;
use crate::json::Value;
use crate::metadata::Hashes;
use crate::names;
use ring::digest;
use std::io::{self, Read};

/// A file that the repository offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its length, bytes.
    pub length: u64,
    /// Its hashes; at least one is of a kind known here, else it cannot be fetched.
    pub hashes: Hashes,
    /// What else the signer says about it.
    pub custom: Option<Value>,
    /// The role that signed for it.
    pub role: String,
    /// Whether its content is stored by hash.
    pub(crate) consistent: bool,
}

impl Target {
    /// Where its content is, below the repository's folder of targets; encoded.
    pub fn path(&self) -> Result<String, Error> {
        names::target_path(&self.name, self.consistent, &self.hashes)
    }
}

/// Lengths and hashes of bytes that go by.
pub struct Checker {
    sha256: digest::Context,
    sha512: Option<digest::Context>,
    count: u64,
}

impl Checker {
    /// For content that should have these hashes.
    pub fn new(hashes: &Hashes) -> Self {
        Self {
            sha256: digest::Context::new(&digest::SHA256),
            sha512: hashes.sha512.map(|_| digest::Context::new(&digest::SHA512)),
            count: 0,
        }
    }

    /// Takes in what comes next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(context) = &mut self.sha512 {
            context.update(bytes);
        }
        self.count += bytes.len() as u64;
    }

    /// Whether it was what was said; else what differs.
    pub fn finish(self, length: Option<u64>, hashes: &Hashes) -> Result<(), String> {
        if let Some(length) = length.filter(|length| *length != self.count) {
            return Err(format!("it has {} bytes, not the {length} that were signed", self.count));
        }
        if hashes.is_empty() {
            return Err("its hashes are of no kind that is known here".to_owned());
        }
        let is = self.sha256.finish();
        let sha512 = self.sha512.map(digest::Context::finish);
        let right = hashes.sha256.is_none_or(|hash| hash == is.as_ref())
            && hashes.sha512.is_none_or(|hash| sha512.is_some_and(|is| hash == is.as_ref()));
        if right {
            Ok(())
        } else {
            Err(format!("its content is not what was signed (sha256 {})", crate::hex(is.as_ref())))
        }
    }
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Checker({} bytes)", self.count)
    }
}

/// Passes on a target's content: at most its length, and at its end an error unless length and hashes are right. Until
/// then nothing of what was read is known to be good.
pub struct Verified<'a> {
    inner: Box<dyn Read + 'a>,
    checker: Option<Checker>,
    left: u64,
    verdict: Result<(), String>,
    target: Target,
}

impl<'a> Verified<'a> {
    pub(crate) fn new(inner: Box<dyn Read + 'a>, target: &Target) -> Self {
        let checker = Some(Checker::new(&target.hashes));
        Self { inner, checker, left: target.length, verdict: Ok(()), target: target.clone() }
    }

    fn end(&mut self) -> io::Result<usize> {
        if self.left == 0 && self.checker.is_some() && self.inner.read(&mut [0])? > 0 {
            self.checker = None;
            self.verdict = Err(format!("it has more than the {} bytes that were signed", self.target.length));
        }
        if let Some(checker) = self.checker.take() {
            self.verdict = checker.finish(Some(self.target.length), &self.target.hashes);
        }
        // Whoever reads on after an error gets it again, never an end that looks good.
        self.verdict.clone().map(|()| 0).map_err(|why| {
            let error = Error::Content { file: self.target.name.clone(), why };
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = if most == 0 { 0 } else { self.inner.read(&mut buffer[..most])? };
        let Some(checker) = self.checker.as_mut().filter(|_| count > 0) else { return self.end() };
        checker.update(&buffer[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

impl std::fmt::Debug for Verified<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Verified({}, {} bytes left)", self.target.name, self.left)
    }
}
