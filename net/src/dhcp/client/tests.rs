use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The one message that `effects` send.
fn sent(effects: &[Effect]) -> &Message {
    match effects {
        [.., Effect::Broadcast(message) | Effect::Unicast(_, message)] => message,
        other => panic!("nothing sent: {other:?}"),
    }
}

fn reply(to: &Message, kind: Kind) -> Message {
    let mut reply = Message::new(Op::Reply, kind, to.xid, to.mac);
    (reply.server, reply.yiaddr, reply.lease, reply.prefix) = (Some(SERVER), ADDRESS, Some(3600), Some(24));
    reply.routers = vec![SERVER];
    reply
}

/// A client that got a lease at time zero.
fn bound() -> Client {
    let mut client = Client::new(MAC, "node1", 7);
    let discover = client.step(Event::Start, Duration::ZERO);
    let request = client.step(Event::Heard(&reply(sent(&discover), Kind::Offer)), Duration::ZERO);
    let applied = client.step(Event::Heard(&reply(sent(&request), Kind::Ack)), Duration::ZERO);
    assert!(matches!(&applied[..], [Effect::Apply(_)]));
    client
}

/// Lets time pass until the client does something.
fn wait(client: &mut Client, now: &mut Duration) -> Vec<Effect> {
    *now = client.deadline().expect("a deadline");
    client.step(Event::Timer, *now)
}

#[test]
fn the_first_question_goes_out_at_once_and_the_answer_is_taken_at_once() {
    let mut client = Client::new(MAC, "node1", 7);
    assert_eq!(client.deadline(), None);
    let discover = client.step(Event::Start, seconds(5));
    assert_eq!(sent(&discover).kind, Kind::Discover);
    assert_eq!(sent(&discover).hostname.as_deref(), Some("node1"));
    assert_eq!(client.listens(), Listen::Packet);

    let request = client.step(Event::Heard(&reply(sent(&discover), Kind::Offer)), seconds(5));
    assert_eq!(sent(&request).kind, Kind::Request);
    assert_eq!((sent(&request).requested, sent(&request).server), (Some(ADDRESS), Some(SERVER)));

    let applied = client.step(Event::Heard(&reply(sent(&request), Kind::Ack)), seconds(5));
    let [Effect::Apply(lease)] = &applied[..] else { panic!("{applied:?}") };
    assert_eq!((lease.address, lease.prefix, lease.seconds), (ADDRESS, 24, Some(3600)));
    let default = ClasslessRoute { to: Ipv4Addr::UNSPECIFIED, prefix: 0, via: SERVER };
    assert_eq!(lease.routes, [default]);
    assert_eq!((client.state(), client.listens()), (State::Bound, Listen::Nothing));
    assert_eq!(client.deadline(), Some(seconds(5 + 1800)));
}

#[test]
fn without_an_answer_it_asks_ever_more_slowly() {
    let mut client = Client::new(MAC, "", 7);
    let mut now = Duration::ZERO;
    let xid = sent(&client.step(Event::Start, now)).xid;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let before = now;
        assert_eq!(sent(&wait(&mut client, &mut now)).xid, xid);
        waits.push((now - before).as_secs_f64());
    }
    for (wait, expected) in waits.iter().zip([0.25, 0.5, 1., 2., 4., 8., 16., 32., 64., 64.]) {
        assert!((expected * 0.875..=expected * 1.125).contains(wait), "{waits:?}");
    }
    assert!(waits.iter().any(|wait| wait.fract() != 0.0), "no jitter: {waits:?}");
}

#[test]
fn what_is_not_for_it_changes_nothing() {
    let mut client = Client::new(MAC, "", 7);
    let discover = client.step(Event::Start, Duration::ZERO);
    let good = reply(sent(&discover), Kind::Offer);
    let mut bad = vec![good.clone(); 6];
    bad[0].xid ^= 1;
    bad[1].mac[5] ^= 1;
    bad[2].op = Op::Request;
    bad[3].server = None;
    bad[4].yiaddr = Ipv4Addr::BROADCAST;
    bad[5].kind = Kind::Ack;
    for message in &bad {
        assert_eq!(client.step(Event::Heard(message), Duration::ZERO), []);
        assert_eq!(client.state(), State::Selecting);
    }
    client.step(Event::Heard(&good), Duration::ZERO);
    let mut other = reply(sent(&discover), Kind::Ack);
    other.server = Some(Ipv4Addr::new(10, 0, 2, 66));
    assert_eq!(client.step(Event::Heard(&other), Duration::ZERO), [], "another server's answer");
    let mut endless = reply(sent(&discover), Kind::Ack);
    endless.lease = None;
    assert_eq!(client.step(Event::Heard(&endless), Duration::ZERO), [], "no lease time");
}

#[test]
fn an_offer_that_is_not_kept_is_given_up() {
    let mut client = Client::new(MAC, "", 7);
    let mut now = Duration::ZERO;
    let discover = client.step(Event::Start, now);
    client.step(Event::Heard(&reply(sent(&discover), Kind::Offer)), now);
    for _ in 1..limits::DHCP_REQUESTS {
        assert_eq!(sent(&wait(&mut client, &mut now)).kind, Kind::Request);
    }
    let again = wait(&mut client, &mut now);
    assert_eq!(sent(&again).kind, Kind::Discover);
    assert_ne!(sent(&again).xid, sent(&discover).xid);
}

#[test]
fn a_lease_is_renewed_then_rebound_then_over() {
    let mut client = bound();
    let mut now = Duration::ZERO;
    let effects = wait(&mut client, &mut now);
    assert_eq!((now, client.state(), client.listens()), (seconds(1800), State::Renewing, Listen::Udp));
    let [Effect::Unicast(to, request)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((*to, request.ciaddr, request.requested, request.server), (SERVER, ADDRESS, None, None));

    let mut seen = Vec::new();
    while client.state() == State::Renewing {
        let before = now;
        wait(&mut client, &mut now);
        seen.push(now - before);
    }
    assert_eq!(now, seconds(3600 - 450), "T2");
    assert!(seen.len() <= 6 && seen.iter().rev().skip(1).all(|wait| *wait >= seconds(60)), "{seen:?}");
    assert_eq!(client.listens(), Listen::Packet);
    while client.state() == State::Rebinding {
        let effects = wait(&mut client, &mut now);
        if client.state() != State::Rebinding {
            assert_eq!(now, seconds(3600));
            assert_eq!(effects[0], Effect::Withdraw);
            assert_eq!(sent(&effects).kind, Kind::Discover);
            assert_eq!(sent(&effects).requested, None);
        }
    }
    assert_eq!(client.lease(), None);
}

#[test]
fn a_renewed_lease_counts_from_the_question() {
    let mut client = bound();
    let mut now = Duration::ZERO;
    let effects = wait(&mut client, &mut now);
    let mut ack = reply(sent(&effects), Kind::Ack);
    (ack.t1, ack.t2) = (Some(100), Some(200));
    let applied = client.step(Event::Heard(&ack), now + seconds(3));
    assert!(matches!(&applied[..], [Effect::Apply(_)]));
    assert_eq!(client.deadline(), Some(now + seconds(100)));
}

#[test]
fn a_nak_takes_the_address_away_and_many_do_not_make_a_storm() {
    let mut client = bound();
    let mut now = Duration::ZERO;
    let effects = wait(&mut client, &mut now);
    let nak = reply(sent(&effects), Kind::Nak);
    assert_eq!(client.step(Event::Heard(&nak), now), [Effect::Withdraw]);
    let begin = now;
    for _ in 0..20 {
        let discover = wait(&mut client, &mut now);
        assert_eq!(sent(&discover).kind, Kind::Discover);
        let request = client.step(Event::Heard(&reply(sent(&discover), Kind::Offer)), now);
        assert_eq!(client.step(Event::Heard(&reply(sent(&request), Kind::Nak)), now), []);
    }
    assert!(now - begin > seconds(500), "20 rounds in {:?}", now - begin);
}

#[test]
fn a_lost_cable_keeps_the_lease_and_asks_for_the_same_again() {
    let mut client = bound();
    assert_eq!(client.step(Event::Halt, seconds(10)), []);
    assert_eq!(client.deadline(), Some(seconds(3600)));
    let discover = client.step(Event::Start, seconds(20));
    assert_eq!(sent(&discover).requested, Some(ADDRESS));
    client.step(Event::Halt, seconds(30));
    assert_eq!(client.step(Event::Timer, seconds(3600)), [Effect::Withdraw]);
    assert_eq!(client.deadline(), None);
}

#[test]
fn odd_leases_are_made_sane() {
    let mut ack = reply(&Message::new(Op::Request, Kind::Request, 1, MAC), Kind::Ack);
    ack.lease = Some(0);
    assert_eq!(lease_of(&ack, SERVER).unwrap().seconds, Some(limits::DHCP_SHORTEST_LEASE));
    ack.lease = Some(u32::MAX);
    assert_eq!(lease_of(&ack, SERVER).unwrap().seconds, None);
    ack.mtu = Some(68);
    ack.prefix = None;
    let lease = lease_of(&ack, SERVER).unwrap();
    assert_eq!((lease.mtu, lease.prefix), (None, 8));
    ack.routes = vec![ClasslessRoute { to: Ipv4Addr::new(192, 0, 2, 0), prefix: 24, via: SERVER }];
    assert_eq!(lease_of(&ack, SERVER).unwrap().routes, ack.routes, "no default route from option 3");
}

proptest! {
    /// Any mixture of answers, losses and cable pulls, over a day: it always has something to wait for, sends in
    /// moderation, and never uses an address past its lease.
    #[test]
    fn it_never_gets_stuck_nor_floods(seed: u64, acts in proptest::collection::vec((0u8..8, 1u32..5000), 1..200)) {
        let mut client = Client::new(MAC, "n", seed);
        let mut now = Duration::ZERO;
        let mut last = sent(&client.step(Event::Start, now)).clone();
        let (mut sends, mut starts) = (1_u32, 1_u32);
        let mut expires: Option<Duration> = None;
        for (act, number) in acts {
            let kinds = [Kind::Offer, Kind::Ack, Kind::Nak];
            let effects = match act {
                0..=2 => {
                    let mut message = reply(&last, kinds[usize::from(act)]);
                    message.lease = Some(number);
                    client.step(Event::Heard(&message), now)
                }
                3 => client.step(Event::Halt, now),
                4 => {
                    starts += 1;
                    client.step(Event::Start, now)
                }
                _ => match client.deadline() {
                    Some(due) => {
                        prop_assert!(due >= now || client.state() == State::Idle);
                        now = now.max(due);
                        let effects = client.step(Event::Timer, now);
                        prop_assert!(client.deadline().is_none_or(|next| next > now), "it would spin");
                        effects
                    }
                    None => Vec::new(),
                },
            };
            for effect in effects {
                match effect {
                    Effect::Broadcast(message) | Effect::Unicast(_, message) => {
                        sends += 1;
                        last = message;
                    }
                    Effect::Apply(lease) => expires = lease.seconds.map(|s| now + seconds(u64::from(s))),
                    Effect::Withdraw => expires = None,
                }
            }
            prop_assert_eq!(expires.is_some(), client.lease().is_some());
            prop_assert!(expires.is_none_or(|end| now <= end), "address kept past its lease");
            prop_assert!(client.state() == State::Idle || client.deadline().is_some(), "stuck in {:?}", client.state());
        }
        // Every send is a start, an answer to an offer, or has waited its time.
        let allowed = 2.0 * (f64::from(starts) + now.as_secs_f64() / 0.4) + 4.0;
        prop_assert!(f64::from(sends) <= allowed, "{} packets in {:?} with {} starts", sends, now, starts);
    }
}
