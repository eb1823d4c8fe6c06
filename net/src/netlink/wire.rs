//! Netlink's bytes: messages of a 16-byte header, a family header and attributes (type, length, value), all
//! native-endian and padded to four bytes. Reading is bounds-checked and never panics; it stops at the first
//! thing that does not fit.

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// The attribute's type without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// Builds one or more messages.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One message; `body` writes what follows its header.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.put(&kind.to_ne_bytes()).put(&flags.to_ne_bytes()).put(&seq.to_ne_bytes()).put(&[0; 4]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.pad();
    }

    /// Adds flags to the message that begins at `start`.
    pub fn add_flags(&mut self, start: usize, flags: u16) {
        if let Some(before) = self.bytes.get(start..).and_then(|message| u16_at(message, 6)) {
            self.patch(start + 6, &(before | flags).to_ne_bytes());
        }
    }

    /// Raw bytes: a family header.
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// One attribute. A value that its 16-bit length cannot hold makes the kernel refuse the message.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.attribute(kind, |writer| {
            writer.put(value);
        })
    }

    /// A native-endian number.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// A big-endian number, as nf_tables has them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A NUL-terminated string.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, |writer| {
            writer.put(value.as_bytes()).put(&[0]);
        })
    }

    /// An attribute that holds what `body` writes: attributes, or a header and attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) -> &mut Self {
        self.attribute(kind | NESTED, body)
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.put(&[0; 2]).put(&kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.pad();
        self
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// After the header.
    pub payload: &'a [u8],
}

/// The messages in one datagram.
pub fn frames(datagram: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let frame = Frame {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            seq: u32_at(rest, 8)?,
            payload: rest.get(HEADER..length)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    })
}

/// The attributes in `bytes`, type flags removed.
pub fn attrs(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The native-endian number at `at`.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The native-endian number at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// A NUL-terminated string, lossy: names of interfaces are bytes.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_reads_it() {
        let mut writer = Writer::new();
        writer.message(16, 5, 7, |m| {
            m.put(&[0xaa; 16]).text(3, "lo").nest(18, |m| {
                m.u32(1, 9);
            });
        });
        let mut expected = vec![52, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&[0xaa; 16]);
        expected.extend_from_slice(&[7, 0, 3, 0, b'l', b'o', 0, 0]);
        expected.extend_from_slice(&[12, 0, 18, 0x80, 8, 0, 1, 0, 9, 0, 0, 0]);
        assert_eq!(writer.bytes(), expected);

        let all: Vec<_> = frames(writer.bytes()).collect();
        assert_eq!((all.len(), all[0].kind, all[0].flags, all[0].seq), (1, 16, 5, 7));
        let parts: Vec<_> = attrs(&all[0].payload[16..]).collect();
        assert_eq!(text(parts[0].1), "lo");
        assert_eq!(attrs(parts[1].1).next(), Some((1, &[9u8, 0, 0, 0][..])));
    }

    #[test]
    fn what_is_cut_short_ends_the_reading() {
        assert_eq!(frames(&[20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(frames(&[0; 64]).count(), 0, "a length of zero must not loop");
        assert_eq!(attrs(&[0; 64]).count(), 0);
        assert_eq!(attrs(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attrs(&[4, 0, 1, 0, 8, 0]).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for frame in frames(&bytes) {
                attrs(frame.payload).for_each(drop);
            }
            attrs(&bytes).for_each(drop);
        }

        #[test]
        fn what_is_written_is_read(kinds in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let mut writer = Writer::new();
            writer.message(1, 2, 3, |m| for (kind, value) in &kinds { m.attr(*kind, value); });
            let frame = frames(writer.bytes()).next().unwrap();
            let read: Vec<_> = attrs(frame.payload).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, kinds);
        }
    }
}
