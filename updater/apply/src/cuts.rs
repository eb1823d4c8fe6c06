//! Power cuts, simulated: media that record every write and sync, and the states in which a cut at any of them can leave
//! the disk. For tests and `bench faults`; nothing on a machine uses it.
//!
//! A sync makes lasting what was written to the same medium before. Of what was written since, a disk may have kept
//! anything: all, nothing, some of it in another order, and of one write some sectors only.

use crate::medium::Medium;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of a page: what is shared between copies of a [`Memory`].
const PAGE: u64 = 4096;
/// The same, of a buffer.
const PAGE_LEN: usize = 4096;

/// A medium in memory, over a part of a file if wanted. Copies share what they have in common, so a thousand states of a
/// disk are cheap.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    bytes: u64,
    base: Option<(Arc<File>, u64)>,
    pages: BTreeMap<u64, Arc<[u8]>>,
}

impl Memory {
    /// All zero.
    pub fn new(bytes: u64) -> Memory {
        Memory { bytes, ..Memory::default() }
    }

    /// What a file has from there on, and never changes it.
    pub fn over(file: Arc<File>, start: u64, bytes: u64) -> Memory {
        Memory { bytes, base: Some((file, start)), pages: BTreeMap::new() }
    }

    /// The pages that were written: where, and what is there.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (page * PAGE, &**bytes))
    }

    /// The same content?
    pub fn equals(&self, other: &Memory) -> io::Result<bool> {
        let same_base = match (&self.base, &other.base) {
            (None, None) => true,
            (Some((one, at)), Some((two, there))) => Arc::ptr_eq(one, two) && at == there,
            _ => false,
        };
        if self.bytes != other.bytes || !same_base {
            return Ok(false);
        }
        for page in self.pages.keys().chain(other.pages.keys()) {
            let shared = match (self.pages.get(page), other.pages.get(page)) {
                (Some(one), Some(two)) => Arc::ptr_eq(one, two),
                _ => false,
            };
            if !shared && self.page(*page)? != other.page(*page)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills the buffer from there.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (page, within, done, count) in self.parts(at, buffer.len())? {
            let to = &mut buffer[done..done + count];
            match self.pages.get(&page) {
                Some(bytes) => to.copy_from_slice(&bytes[within..within + count]),
                None => match &self.base {
                    Some((file, start)) => file.read_exact_at(to, start + page * PAGE + within as u64)?,
                    None => to.fill(0),
                },
            }
        }
        Ok(())
    }

    fn page(&self, page: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.pages.get(&page) {
            return Ok(bytes.to_vec());
        }
        let mut bytes = vec![0; PAGE_LEN];
        if let Some((file, start)) = &self.base {
            let length = usize::try_from((self.bytes - page * PAGE).min(PAGE)).unwrap_or_default();
            file.read_exact_at(&mut bytes[..length], start + page * PAGE)?;
        }
        Ok(bytes)
    }

    /// Calls for each part of a page: the page, where in it, where in the buffer, how much.
    fn parts(&self, at: u64, length: usize) -> io::Result<Vec<(u64, usize, usize, usize)>> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::Error::other(format!("{length} bytes at {at} are beyond the end")));
        }
        let mut parts = Vec::new();
        let mut done = 0;
        while done < length {
            let place = at + done as u64;
            let within = usize::try_from(place % PAGE).unwrap_or_default();
            let count = (PAGE_LEN - within).min(length - done);
            parts.push((place / PAGE, within, done, count));
            done += count;
        }
        Ok(parts)
    }
}

impl Medium for Memory {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read(at, buffer)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        for (page, within, done, count) in self.parts(at, bytes.len())? {
            let mut content = self.page(page)?;
            content[within..within + count].copy_from_slice(&bytes[done..done + count]);
            self.pages.insert(page, content.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something that was done to a medium; media are numbered.
#[derive(Debug, Clone)]
pub enum Event {
    /// These bytes were written there.
    Write {
        /// To which medium.
        medium: usize,
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// It was synced.
    Flush {
        /// Which medium.
        medium: usize,
    },
}

/// All that was done, in order, to however many media.
#[derive(Debug, Clone, Default)]
pub struct Log(Rc<RefCell<Vec<Event>>>);

impl Log {
    /// What was done so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }

    /// Adds an event.
    pub fn push(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }
}

/// A medium whose writes and syncs are recorded.
#[derive(Debug)]
pub struct Recorded<M> {
    /// The medium itself.
    pub inner: M,
    number: usize,
    log: Log,
}

impl<M: Medium> Recorded<M> {
    /// Records under that number.
    pub fn new(inner: M, number: usize, log: &Log) -> Recorded<M> {
        Recorded { inner, number, log: log.clone() }
    }
}

impl<M: Medium> Medium for Recorded<M> {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buffer)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(at, bytes)?;
        self.log.push(Event::Write { medium: self.number, at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()?;
        self.log.push(Event::Flush { medium: self.number });
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        self.inner.forget()
    }
}

/// What became of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All were kept.
    Kept,
    /// All were lost.
    Lost,
    /// Some were kept, in any order.
    Some,
    /// As before, and of each some units of so many bytes only.
    Torn(u64),
}

impl Fate {
    /// All.
    pub const ALL: [Fate; 5] = [Fate::Kept, Fate::Lost, Fate::Some, Fate::Torn(512), Fate::Torn(4096)];
}

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another one, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Heads or tails.
    pub fn toss(&mut self) -> bool {
        self.number() & 1 == 1
    }
}

/// Plays what was recorded, event by event, and says in which states a cut there can leave the media.
#[derive(Debug)]
pub struct Replay<'e> {
    events: &'e [Event],
    next: usize,
    /// What lasts.
    lasting: Vec<Memory>,
    /// Writes that nobody has synced yet.
    pending: Vec<&'e Event>,
}

impl<'e> Replay<'e> {
    /// From the state in which the media were before.
    pub fn new(events: &'e [Event], before: Vec<Memory>) -> Replay<'e> {
        Replay { events, next: 0, lasting: before, pending: Vec::new() }
    }

    /// How many events have been played.
    pub fn played(&self) -> usize {
        self.next
    }

    /// How many writes wait for a sync.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Plays one more; false when there is none.
    pub fn step(&mut self) -> io::Result<bool> {
        let Some(event) = self.events.get(self.next) else { return Ok(false) };
        self.next += 1;
        match event {
            Event::Write { .. } => self.pending.push(event),
            Event::Flush { medium: flushed } => {
                let (now, later) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|event| matches!(event, Event::Write { medium, .. } if medium == flushed));
                self.pending = later;
                let now: Vec<&Event> = now;
                now.into_iter().try_for_each(|event| write(&mut self.lasting, event))?;
            }
        }
        Ok(true)
    }

    /// A state after a cut here.
    pub fn state(&self, fate: Fate, random: &mut Random) -> io::Result<Vec<Memory>> {
        let mut media = self.lasting.clone();
        match fate {
            Fate::Lost => {}
            Fate::Kept => {
                self.pending.iter().try_for_each(|event| write(&mut media, event))?;
            }
            Fate::Some | Fate::Torn(_) => {
                let mut kept: Vec<&Event> = self.pending.clone();
                for index in (1..kept.len()).rev() {
                    let other = usize::try_from(random.below(index as u64 + 1)).unwrap_or_default();
                    kept.swap(index, other);
                }
                for event in kept {
                    let Fate::Torn(unit) = fate else {
                        if random.toss() {
                            write(&mut media, event)?;
                        }
                        continue;
                    };
                    let salt = random.number();
                    write_some(&mut media, event, |at| Random::new(salt ^ (at / unit)).toss())?;
                }
            }
        }
        Ok(media)
    }
}

/// Writes all of it.
fn write(media: &mut [Memory], event: &Event) -> io::Result<()> {
    let Event::Write { medium, at, bytes } = event else { return Ok(()) };
    let Some(medium) = media.get_mut(*medium) else { return Err(io::Error::other("no such medium")) };
    medium.write_at(*at, bytes)
}

/// Writes those sectors of 512 bytes whose place on the medium is wanted.
fn write_some(media: &mut [Memory], event: &Event, wanted: impl Fn(u64) -> bool) -> io::Result<()> {
    let Event::Write { medium, at, bytes } = event else { return Ok(()) };
    let Some(medium) = media.get_mut(*medium) else { return Err(io::Error::other("no such medium")) };
    let mut done = 0;
    while done < bytes.len() {
        let place = at + done as u64;
        let count = usize::try_from(512 - place % 512).unwrap_or(512).min(bytes.len() - done);
        if wanted(place) {
            medium.write_at(place, &bytes[done..done + count])?;
        }
        done += count;
    }
    Ok(())
}
