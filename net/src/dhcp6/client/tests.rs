use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DUID: [u8; 4] = [0, 3, 0, 1];
const SERVER: [u8; 4] = [0, 3, 0, 9];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn client(mode: Mode) -> Client {
    Client::new(mode, DUID.to_vec(), MAC, 7)
}

/// The one message that `effects` send.
fn sent(effects: &[Effect]) -> &Message {
    match effects {
        [.., Effect::Send(message)] => message,
        other => panic!("nothing sent: {other:?}"),
    }
}

/// An answer with an address for 100 seconds, 50 of them preferred.
fn reply(to: &Message, kind: Kind) -> Message {
    let mut reply = Message::new(kind, to.xid, to.client.clone());
    reply.server = Some(SERVER.to_vec());
    reply.associations = to.associations.clone();
    for association in &mut reply.associations {
        association.addresses = vec![Address { ip: ip(5), preferred: 50, valid: 100 }];
    }
    reply.dns = vec![ip(0x53)];
    reply.domains = vec!["lab.example".into()];
    reply
}

fn failing(to: &Message, status: Status) -> Message {
    let mut reply = reply(to, Kind::Reply);
    reply.associations[0].addresses.clear();
    reply.associations[0].status = status;
    reply
}

/// Lets time pass until the client does something.
fn wait(client: &mut Client, now: &mut Duration) -> Vec<Effect> {
    *now = client.deadline().expect("a deadline");
    client.step(Event::Timer, *now)
}

/// A client that got an address, and when it asked for it.
fn bound() -> (Client, Duration) {
    let (mut client, mut now) = (client(Mode::Address), Duration::ZERO);
    let solicit = client.step(Event::Start, now);
    assert_eq!(
        client.step(Event::Heard(&reply(sent(&solicit), Kind::Advertise)), now),
        [],
        "others may be better"
    );
    let request = wait(&mut client, &mut now);
    let applied = client.step(Event::Heard(&reply(sent(&request), Kind::Reply)), now);
    assert!(matches!(&applied[..], [Effect::Apply(_)]));
    (client, now)
}

#[test]
fn an_address_is_asked_for_at_once_and_taken_from_the_best_server() {
    let (mut client, mut now) = (client(Mode::Address), seconds(5));
    let solicit = client.step(Event::Start, now);
    let solicit = sent(&solicit).clone();
    assert_eq!(
        (solicit.kind, solicit.client.as_slice(), solicit.associations[0].id),
        (Kind::Solicit, &DUID[..], 1)
    );
    let good = Message { preference: 9, server: Some(vec![0, 3, 7]), ..reply(&solicit, Kind::Advertise) };
    let strangers = [
        Message { xid: 1, ..good.clone() },
        Message { client: vec![0, 3, 2], ..good.clone() },
        Message { server: None, ..good.clone() },
        Message { kind: Kind::Reply, ..good.clone() },
        Message { status: Status::NoAddresses, ..good.clone() },
        Message { associations: Vec::new(), ..good.clone() },
    ];
    for stranger in &strangers {
        assert_eq!(client.step(Event::Heard(stranger), now), []);
    }
    for answer in [reply(&solicit, Kind::Advertise), good, reply(&solicit, Kind::Advertise)] {
        assert_eq!(client.step(Event::Heard(&answer), now), []);
    }
    let request = wait(&mut client, &mut now);
    assert!((seconds(6)..seconds(7)).contains(&now), "{now:?}");
    let request = sent(&request).clone();
    assert_eq!((request.kind, request.server.as_deref()), (Kind::Request, Some(&[0, 3, 7][..])));
    assert_eq!(request.associations[0].addresses, [Address { ip: ip(5), preferred: 0, valid: 0 }]);
    assert_ne!(request.xid, solicit.xid);
    // The other server's answer is none of ours.
    assert_eq!(client.step(Event::Heard(&reply(&request, Kind::Reply)), now), []);
    let taken = Message { server: Some(vec![0, 3, 7]), ..reply(&request, Kind::Reply) };
    let [Effect::Apply(lease)] = &client.step(Event::Heard(&taken), now)[..] else { panic!() };
    assert_eq!(lease.addresses[0].ip, ip(5));
    assert_eq!(
        (lease.dns.as_slice(), lease.domains.as_slice()),
        (&[ip(0x53)][..], &["lab.example".to_owned()][..])
    );
    assert_eq!((client.state(), client.listens()), (State::Bound, false));
    assert_eq!(client.deadline(), Some(now + seconds(25)), "half of the preferred time");
}

#[test]
fn nobody_is_waited_for_beyond_a_server_that_cannot_be_beaten_or_the_first_second() {
    let mut client = client(Mode::Address);
    let solicit = client.step(Event::Start, seconds(5));
    let best = Message { preference: 255, ..reply(sent(&solicit), Kind::Advertise) };
    assert_eq!(sent(&client.step(Event::Heard(&best), seconds(5))).kind, Kind::Request);

    let mut client = self::client(Mode::Address);
    let mut now = Duration::ZERO;
    client.step(Event::Start, now);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let before = now;
        assert_eq!(sent(&wait(&mut client, &mut now)).kind, Kind::Solicit);
        waits.push((now - before).as_secs_f64());
    }
    for (wait, expected) in waits.iter().zip([1., 2., 4., 8., 16., 32., 64., 120., 120.]) {
        assert!((expected..=expected * 1.1).contains(wait), "{waits:?}");
    }
    let again = wait(&mut client, &mut now);
    assert!(sent(&again).elapsed >= 48_000, "hundredths of a second since the first");
    let late = client.step(Event::Heard(&reply(sent(&again), Kind::Advertise)), now);
    assert_eq!(sent(&late).kind, Kind::Request);
}

/// Forty seconds without a server, then one: the question that is due is answered.
#[test]
fn a_server_that_is_late_by_forty_seconds_is_found() {
    let (mut client, mut now) = (client(Mode::Address), Duration::ZERO);
    let mut question = sent(&client.step(Event::Start, now)).clone();
    while now < seconds(40) {
        question = sent(&wait(&mut client, &mut now)).clone();
    }
    assert!(now < seconds(75), "{now:?}");
    let request = client.step(Event::Heard(&reply(&question, Kind::Advertise)), now);
    let applied = client.step(Event::Heard(&reply(sent(&request), Kind::Reply)), now);
    assert!(matches!(&applied[..], [Effect::Apply(_)]));
}

#[test]
fn the_server_is_asked_for_more_time_then_anybody_then_it_is_over() {
    let (mut client, asked) = bound();
    let mut now = asked;
    let renew = wait(&mut client, &mut now);
    assert_eq!((sent(&renew).kind, now), (Kind::Renew, asked + seconds(25)));
    assert_eq!(sent(&renew).server.as_deref(), Some(&SERVER[..]));
    assert_eq!(client.unanswered(), None);
    let mut kinds = Vec::new();
    let over = loop {
        let effects = wait(&mut client, &mut now);
        if effects[0] == Effect::Withdraw {
            break effects;
        }
        kinds.push((sent(&effects).kind, now - asked));
        assert_eq!(client.unanswered(), Some(asked + seconds(100)));
    };
    assert_eq!(now, asked + seconds(100));
    let rebind = kinds.iter().find(|(kind, _)| *kind == Kind::Rebind).unwrap();
    assert_eq!(rebind.1, seconds(40), "four fifths of the preferred time: {kinds:?}");
    assert_eq!(sent(&over).kind, Kind::Solicit);
    assert_eq!((client.lease(), client.state()), (None, State::Soliciting));
}

#[test]
fn an_answer_gives_more_time() {
    let (mut client, mut now) = bound();
    for kind in [Kind::Renew, Kind::Rebind] {
        let mut question = wait(&mut client, &mut now);
        while sent(&question).kind != kind {
            question = wait(&mut client, &mut now);
        }
        let reply = Message { server: Some(vec![0, 3, 7, 7]), ..reply(sent(&question), Kind::Reply) };
        assert!(matches!(&client.step(Event::Heard(&reply), now)[..], [Effect::Apply(_)]));
        assert_eq!((client.state(), client.deadline()), (State::Bound, Some(now + seconds(25))));
    }
    assert_eq!(
        sent(&wait(&mut client, &mut now)).server.as_deref(),
        Some(&[0, 3, 7, 7][..]),
        "its new server"
    );
}

#[test]
fn a_server_says_what_it_does_not_give() {
    // It has forgotten: asked for the same anew.
    let (mut client, mut now) = bound();
    let renew = wait(&mut client, &mut now);
    let request = client.step(Event::Heard(&failing(sent(&renew), Status::NoBinding)), now);
    assert_eq!((sent(&request).kind, sent(&request).associations[0].addresses[0].ip), (Kind::Request, ip(5)));
    assert!(client.lease().is_some());
    // It does not give it: another one is looked for, each time later.
    let mut waits = Vec::new();
    let mut question = sent(&request).clone();
    for _ in 0..4 {
        let effects = client.step(Event::Heard(&failing(&question, Status::NoAddresses)), now);
        assert_eq!(effects.first(), Some(&Effect::Withdraw).filter(|_| waits.is_empty()));
        let before = now;
        let solicit = wait(&mut client, &mut now);
        waits.push((now - before).as_secs());
        let best = Message { preference: 255, ..reply(sent(&solicit), Kind::Advertise) };
        question = sent(&client.step(Event::Heard(&best), now)).clone();
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    // It takes it back.
    let (mut client, mut now) = bound();
    let renew = wait(&mut client, &mut now);
    let mut gone = reply(sent(&renew), Kind::Reply);
    (gone.associations[0].addresses[0].preferred, gone.associations[0].addresses[0].valid) = (0, 0);
    assert_eq!(client.step(Event::Heard(&gone), now), [Effect::Withdraw]);
    assert_eq!(client.state(), State::Soliciting);
    // It cannot: as if it had said nothing.
    let (mut client, mut now) = bound();
    let renew = wait(&mut client, &mut now);
    let cannot = Message { status: Status::Failed, ..reply(sent(&renew), Kind::Reply) };
    assert_eq!(client.step(Event::Heard(&cannot), now), []);
    assert_eq!(client.state(), State::Renewing);
}

#[test]
fn a_cable_that_was_out_keeps_the_address_and_asks_for_it() {
    let (mut client, mut now) = bound();
    assert_eq!(client.step(Event::Halt, now), []);
    assert!(client.lease().is_some() && !client.listens());
    let solicit = client.step(Event::Start, now + seconds(10));
    assert_eq!(sent(&solicit).associations[0].addresses[0].ip, ip(5));
    client.step(Event::Halt, now + seconds(20));
    let end = now + seconds(100);
    assert_eq!(wait(&mut client, &mut now), [Effect::Withdraw]);
    assert_eq!((now, client.deadline()), (end, None));
}

#[test]
fn what_is_no_address_is_asked_for_again_each_day() {
    let (mut client, mut now) = (client(Mode::Information), Duration::ZERO);
    let question = client.step(Event::Start, now);
    assert_eq!((sent(&question).kind, sent(&question).associations.len()), (Kind::Information, 0));
    let reply = Message { refresh: Some(60), ..reply(sent(&question), Kind::Reply) };
    let [Effect::Apply(lease)] = &client.step(Event::Heard(&reply), now)[..] else { panic!() };
    assert_eq!((lease.addresses.len(), lease.dns.as_slice()), (0, &[ip(0x53)][..]));
    let question = wait(&mut client, &mut now);
    assert_eq!(
        (sent(&question).kind, now),
        (Kind::Information, seconds(600)),
        "no sooner than after ten minutes"
    );
    assert!(client.lease().is_some(), "what is known stays known");
    let reply = Message { refresh: None, ..Message { xid: sent(&question).xid, ..reply } };
    client.step(Event::Heard(&reply), now);
    assert_eq!(client.deadline(), Some(now + seconds(86_400)));
}

#[test]
fn for_ever_has_no_end() {
    let (mut client, mut now) = (client(Mode::Address), Duration::ZERO);
    let solicit = client.step(Event::Start, now);
    client.step(Event::Heard(&reply(sent(&solicit), Kind::Advertise)), now);
    let request = wait(&mut client, &mut now);
    let mut forever = reply(sent(&request), Kind::Reply);
    (forever.associations[0].addresses[0].preferred, forever.associations[0].addresses[0].valid) =
        (u32::MAX, u32::MAX);
    client.step(Event::Heard(&forever), now);
    assert_eq!((client.state(), client.deadline()), (State::Bound, None));
}

proptest! {
    /// Whatever comes, whenever: no panic, no storm, an address exactly as long as it was given.
    #[test]
    fn nothing_breaks_it(
        seed: u64,
        steps in proptest::collection::vec((0u8..8, 0u32..400, 0u32..400, 0u64..200, any::<u8>()), 1..60),
    ) {
        let mut client = Client::new(Mode::Address, DUID.to_vec(), MAC, seed);
        let (mut now, mut question, mut applied) = (Duration::ZERO, None::<Message>, false);
        for (what, preferred, valid, pass, preference) in steps {
            now += seconds(pass);
            let answer = question.clone().map(|question| {
                let kind = if question.kind == Kind::Solicit { Kind::Advertise } else { Kind::Reply };
                let mut answer = reply(&question, kind);
                let address = Address { ip: ip(6), preferred: preferred.min(valid), valid };
                for association in &mut answer.associations {
                    association.addresses = vec![address];
                    (association.t1, association.t2) = (preferred, valid);
                    if what == 6 { association.status = Status::NoBinding; }
                }
                answer.preference = preference;
                answer
            });
            let effects = match (what, &answer) {
                (0, _) => client.step(Event::Start, now),
                (1, _) => client.step(Event::Halt, now),
                (4..=6, Some(answer)) => client.step(Event::Heard(answer), now),
                _ => client.step(Event::Timer, now),
            };
            prop_assert!(effects.len() <= 2);
            for effect in effects {
                match effect {
                    Effect::Send(message) => question = Some(message),
                    Effect::Apply(_) => applied = true,
                    Effect::Withdraw => { prop_assert!(applied); applied = false; }
                }
            }
            prop_assert_eq!(client.lease().is_some(), applied);
            // After its deadline has passed it has a later one: no loop spins.
            if client.deadline().is_some_and(|due| due <= now) {
                for effect in client.step(Event::Timer, now) {
                    match effect {
                        Effect::Send(message) => question = Some(message),
                        Effect::Apply(_) => applied = true,
                        Effect::Withdraw => applied = false,
                    }
                }
                prop_assert!(client.deadline().is_none_or(|due| due > now), "{:?}", client);
            }
        }
    }
}
