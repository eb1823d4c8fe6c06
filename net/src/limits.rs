//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

/// Bytes of one datagram from the kernel: netlink sends dumps in pieces of at most 32 KiB.
pub const NETLINK_DATAGRAM: usize = 64 * 1024;
/// The kernel answers a netlink request within the call that sends it; a missing answer is a defect, not load.
pub const NETLINK_ANSWER: Duration = Duration::from_secs(5);
/// Bytes of send buffer for one nf_tables transaction: 512 units with a dozen ports each, with room to spare.
pub const NFT_SEND_BUFFER: usize = 2 << 20;
/// Set elements in one nf_tables message: its list's length is 16 bits, an element takes at most 64 bytes.
pub const NFT_ELEMENTS: usize = 512;
/// Bytes of one DHCP packet with its IP header: nobody sends more than an Ethernet frame.
pub const DHCP_PACKET: usize = 1500;
/// Packets taken from one socket before the others have their turn.
pub const PACKETS_PER_TURN: usize = 32;
/// First wait for a DHCP answer; doubles with each try. Short, because a switch whose port has just got its carrier
/// likes to lose the first packet, and a boot takes about as long.
pub const DHCP_FIRST_WAIT: Duration = Duration::from_millis(250);
/// Where the doubling ends (RFC 2131, 4.1).
pub const DHCP_LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Tries of one REQUEST before starting over with DISCOVER.
pub const DHCP_REQUESTS: u32 = 4;
/// Shortest wait between two tries to extend a lease (RFC 2131, 4.4.5).
pub const DHCP_RENEW_WAIT: Duration = Duration::from_secs(60);
/// Shortest lease taken at its word; a shorter one is treated as this long, or renewals would be a storm.
pub const DHCP_SHORTEST_LEASE: u32 = 10;
/// Routes taken from one lease.
pub const DHCP_ROUTES: usize = 64;
/// First wait for a DHCPv6 answer; doubles with each try (RFC 8415, 7.6: `SOL_TIMEOUT`, `REQ_TIMEOUT`, `INF_TIMEOUT`).
pub const DHCP6_FIRST_WAIT: Duration = Duration::from_secs(1);
/// Where the doubling of Solicit and Information-Request ends, unless a server says something else (RFC 3315's value; RFC
/// 8415 has an hour, after which a machine whose server was away would be without an address for as long).
pub const DHCP6_LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Where the doubling of Request ends (`REQ_MAX_RT`).
pub const DHCP6_LONGEST_REQUEST: Duration = Duration::from_secs(30);
/// Tries of one Request before starting over with Solicit: 15 seconds (RFC 8415's ten tries are two minutes).
pub const DHCP6_REQUESTS: u32 = 4;
/// First wait of Renew and Rebind (`REN_TIMEOUT`, `REB_TIMEOUT`).
pub const DHCP6_RENEWAL: Duration = Duration::from_secs(10);
/// Where their doubling ends (`REN_MAX_RT`, `REB_MAX_RT`).
pub const DHCP6_LONGEST_RENEWAL: Duration = Duration::from_secs(600);
/// Seconds from an answer to the next Renew at least, whatever the server says: renewals must be no storm.
pub const DHCP6_SHORTEST_RENEWAL: u32 = 2;
/// When what is no address is asked for again, if the server does not say (`IRT_DEFAULT`).
pub const DHCP6_REFRESH: Duration = Duration::from_secs(86_400);
/// The soonest (`IRT_MINIMUM`).
pub const DHCP6_SHORTEST_REFRESH: Duration = Duration::from_secs(600);
/// Identity associations looked at in one message; we ask for one.
pub const DHCP6_ASSOCIATIONS: usize = 4;
/// Addresses taken from one of them.
pub const DHCP6_ADDRESSES: usize = 4;
/// Search domains: what C libraries read (`MAXDNSRCH`).
pub const SEARCH_DOMAINS: usize = 6;
/// Characters of all of them, with the spaces between (musl's `search` takes 256 bytes).
pub const SEARCH_CHARACTERS: usize = 256;
/// Name servers: what the C library reads from resolv.conf.
pub const NAME_SERVERS: usize = 3;
/// Name servers taken from the router advertisements of one interface: more than are ever used, few enough that a
/// neighbour who makes them up costs nothing.
pub const RDNSS_SERVERS: usize = 8;
/// Bytes of resolv.conf, always: it is overwritten in place.
pub const RESOLV_BYTES: usize = 1024;
/// Smallest MTU taken from a lease: what every IPv4 host must accept (RFC 791).
pub const SMALLEST_MTU: u16 = 576;
/// A unit whose interface is made is let go after so long, even if the kernel has not said that it works: a first packet
/// that is lost is better than no start.
pub const PORT_SETTLES: Duration = Duration::from_millis(500);
/// Units whose address is remembered after they are gone, so that a restart finds the same.
pub const REMEMBERED_ADDRESSES: usize = 4096;
/// Bytes of the agent's own state file.
pub const STATE_BYTES: u64 = 4 << 20;
/// Seconds that the address of a unit may be kept by whoever asked. One second bounds how often a busy client asks
/// again, and how long it goes on to an instance that has left; with 0, some resolvers ask for each connection.
pub const DNS_TTL: u32 = 1;
/// Questions on their way to name servers; each holds up to [`NAME_SERVERS`] sockets, of a process's 1,024 files.
pub const DNS_QUESTIONS: usize = 192;
/// Of these, those of one unit, so that none keeps the others from asking.
pub const DNS_QUESTIONS_EACH: usize = 64;
/// A name server has so long to answer before the next one is asked.
pub const DNS_TRY: Duration = Duration::from_secs(1);
/// Times that a question is asked, of one server or another; then the asker is told, before it gives up by itself
/// (musl and glibc: five seconds).
pub const DNS_TRIES: u32 = 4;
/// TCP connections of units that ask for names.
pub const DNS_CONNECTIONS: usize = 32;
/// Of these, those of one unit.
pub const DNS_CONNECTIONS_EACH: usize = 4;
/// A TCP connection that asks nothing for so long is closed (RFC 7766, 6.2.3: seconds).
pub const DNS_IDLE: Duration = Duration::from_secs(10);
/// Bytes of one question: a header, one name, EDNS with options that nobody sends more of.
pub const DNS_QUESTION: usize = 1024;
/// Bytes of one answer by UDP; we ask for no more than 1,232.
pub const DNS_DATAGRAM: usize = 4096;
/// Bytes of one answer by TCP: its length has 16 bits.
pub const DNS_ANSWER: usize = u16::MAX as usize;
/// Bytes read from a TCP connection at a time.
pub const DNS_PIECE: usize = 4096;
/// Time servers asked in one round: enough for a vote that survives three liars.
pub const TIME_SERVERS: usize = 8;
/// Addresses taken of one server's name: a pool's name has four.
pub const TIME_ADDRESSES: usize = 4;
/// Bytes of the file with the time servers that DHCP named.
pub const TIME_FILE_BYTES: u64 = 4096;
/// A time server has so long to answer; longer, and the answer would be worth little.
pub const TIME_ANSWER: Duration = Duration::from_secs(2);
/// First wait after a round that said nothing; doubles. At boot the network is a second away.
pub const TIME_FIRST_WAIT: Duration = Duration::from_secs(1);
/// Where that doubling ends: servers of others are not to be stormed.
pub const TIME_LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Between rounds that agree, at first (RFC 5905's shortest, 64 s); doubles as long as the clock is near.
pub const TIME_REST: Duration = Duration::from_secs(64);
/// Where that doubling ends: 34 minutes, in which a bad crystal strays by 0.2 s.
pub const TIME_LONGEST_REST: Duration = Duration::from_secs(2048);
/// A round that would move a clock far which was right before is repeated after this.
pub const TIME_DOUBT: Duration = Duration::from_secs(8);
/// Nanoseconds: the clock is near, and need not be looked at more often.
pub const TIME_NEAR_NS: u64 = 20_000_000;
/// Nanoseconds: the clock is far off; PID 1 sets it instead of slewing.
pub const TIME_FAR_NS: u64 = 500_000_000;
/// Nanoseconds that every answer is taken to be off by, whatever it says: scheduling and rounding.
pub const TIME_GRAIN_NS: i64 = 1_000_000;
/// A server that says it may be further off than this is no use (RFC 5905's MAXDIST, 1.5 s).
pub const TIME_DISTANCE: Duration = Duration::from_millis(1500);
/// A server that wants to be left alone is, for so long.
pub const TIME_LEAVE_ALONE: Duration = Duration::from_secs(3600);
