//! Whole conversations at random: ours with ours, ours with rustls, and ours beside rustls as the oracle.

use rustls::ContentType;

use super::forged::Forger;
use super::*;

#[derive(Clone, Copy, Debug)]
enum Who {
    Client,
    Server,
}

#[derive(Clone, Debug)]
enum Act {
    Carry(usize),
    Say(Who, usize),
    /// As `Say`, where it lies; one record.
    Seal(Who, usize),
}

fn any_who() -> impl Strategy<Value = Who> {
    prop::sample::select(&[Who::Client, Who::Server][..])
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (1usize..40_000).prop_map(Act::Carry),
        3 => (any_who(), 0usize..40_000).prop_map(|(who, len)| Act::Say(who, len)),
        3 => (any_who(), 1usize..=RECORD_PAYLOAD).prop_map(|(who, len)| Act::Seal(who, len)),
    ]
}

/// Any path, changing its key often, seldom or never.
fn any_changing_plan() -> impl Strategy<Value = RecordPlan> {
    let after = prop::option::of(prop::sample::select(&[1_u64, 1000, 30_000][..]));
    (any_plan(), after).prop_map(|(plan, after)| match after {
        Some(bytes) => plan.updating_after(bytes),
        None => plan,
    })
}

/// Seals what an [`End`] says where it lies, and sends it.
fn seal(end: &mut End, text: &[u8]) {
    let mut record = vec![0; RECORD_HEADER];
    record.extend_from_slice(text);
    record.extend_from_slice(&[0; RECORD_TRAILER]);
    end.session.seal(&mut record, &mut end.outbox).unwrap();
    end.outbox.extend_from_slice(&record);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_two_paths_understand_each_other(
        plans in (any_changing_plan(), any_changing_plan()),
        acts in prop::collection::vec(any_act(), 1..24),
        cut in prop::sample::select(&[1usize, 100, usize::MAX][..]),
    ) {
        let root = Authority::root("root");
        use_plan(plans.0);
        let mut client = End::client(root.certificate(CLIENT).client(&[identity(SERVER)]));
        use_plan(plans.1);
        let mut server = End::server(root.certificate(SERVER).server());
        carry(&mut client, &mut server, || cut);
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for act in acts {
            let (who, text, in_place) = match act {
                Act::Carry(cut) => {
                    carry(&mut client, &mut server, || cut);
                    continue;
                }
                Act::Say(who, len) => (who, pattern(len), false),
                Act::Seal(who, len) => (who, pattern(len), true),
            };
            let (end, said) = match who {
                Who::Client => (&mut client, &mut asked),
                Who::Server => (&mut server, &mut answered),
            };
            said.extend_from_slice(&text);
            if in_place {
                seal(end, &text);
            } else {
                end.say(&text);
            }
        }
        client.session.close(&mut client.outbox);
        server.session.close(&mut server.outbox);
        carry(&mut client, &mut server, || 7000);
        prop_assert_eq!((client.reason(), server.reason()), ("none", "none"));
        prop_assert!(server.heard == asked && client.heard == answered);
        prop_assert!(server.session.peer_closed() && client.session.peer_closed());
    }
}

/// What a forger does to the other end.
#[derive(Clone, Debug)]
enum Deed {
    Alert(u8, u8),
    Close,
    Data(Vec<u8>, usize),
    /// Any message, or what may be one, in pieces of so many bytes.
    Handshake(Vec<u8>, usize),
    Update {
        answer: bool,
        padding: usize,
        told: bool,
    },
    Raw(u8, Vec<u8>),
    /// Without a type: nothing but padding.
    Blank(usize),
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let kind = prop::sample::select(&[1u8, 4, 13, 24, 77][..]);
    let told = prop::sample::select(&[true, true, true, false][..]);
    prop_oneof![
        2 => (1u8..4, prop::sample::select(&[0u8, 10, 90, 112][..])).prop_map(|(l, c)| Deed::Alert(l, c)),
        1 => Just(Deed::Close),
        9 => (bytes(2000), 0usize..40).prop_map(|(text, pad)| Deed::Data(text, pad)),
        1 => (kind, bytes(60), 1usize..70).prop_map(|(kind, body, cut)| {
            let mut message = vec![kind, 0, 0, body.len() as u8];
            message.extend_from_slice(&body);
            Deed::Handshake(message, cut)
        }),
        2 => (bytes(12), bytes(40), 1usize..70).prop_map(|(nonce, ticket, cut)| {
            let mut body = vec![0, 0, 0, 9, 1, 2, 3, 4, nonce.len() as u8];
            body.extend_from_slice(&nonce);
            body.extend_from_slice(&(ticket.len() as u16).to_be_bytes());
            body.extend_from_slice(&ticket);
            body.extend_from_slice(&[0, 0]);
            let head = [4, 0, 0, body.len() as u8];
            Deed::Handshake([&head[..], &body].concat(), cut)
        }),
        5 => (any::<bool>(), 0usize..3, told)
            .prop_map(|(answer, padding, told)| Deed::Update { answer, padding, told }),
        1 => (any::<u8>(), bytes(9)).prop_map(|(kind, text)| Deed::Raw(kind, text)),
        1 => (0usize..40).prop_map(Deed::Blank),
    ]
}

/// Does it; with a change, if there is one, of the byte `at` of its first record behind the lengths that differ.
fn play(forger: &mut Forger, deed: &Deed, change: Option<(prop::sample::Index, u8)>, cut: usize) {
    let mut records = Vec::new();
    let mut update = false;
    match deed {
        Deed::Alert(level, code) => {
            records.push(forger.make(ContentType::Alert, &[*level, *code], 0))
        }
        Deed::Close => records.push(forger.make(ContentType::Alert, &[1, 0], 0)),
        Deed::Data(text, pad) => {
            records.push(forger.make(ContentType::ApplicationData, text, *pad))
        }
        Deed::Handshake(message, cut) => records.extend(
            message
                .chunks(*cut)
                .map(|piece| forger.make(ContentType::Handshake, piece, 0)),
        ),
        Deed::Update {
            answer,
            padding,
            told,
        } => {
            update = true;
            if *told {
                let message = [24, 0, 0, 1, u8::from(*answer)];
                records.push(forger.make(ContentType::Handshake, &message, *padding));
            }
        }
        Deed::Raw(kind, text) => records.push(forger.make(ContentType::from(*kind), text, 0)),
        Deed::Blank(len) => records.push(forger.blank(*len)),
    }
    if update {
        forger.update_key();
    }
    if let (Some((at, flip)), Some(first)) = (change, records.first_mut()) {
        // Its type and version rustls does not look at; its length's high byte it bounds elsewhere.
        let at = 4 + at.index(first.len() - 4);
        first[at] ^= flip;
    }
    for piece in records.concat().chunks(cut) {
        forger.end.take(piece);
    }
}

/// How a conversation ended, as far as somebody outside can tell.
fn end_of(end: &End) -> &'static str {
    match (end.session.peer_closed(), end.reason()) {
        (true, _) => "closed",
        (false, "none") => "open",
        (false, alert) if alert.starts_with("peer_alert") => alert,
        (false, _) => "broken",
    }
}

fn is_harmless_to_compare(deed: &Deed) -> bool {
    // RFC 8446 §5.4 forbids an empty handshake record; rustls lets it pass.
    !matches!(deed, Deed::Raw(22, text) if text.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_same_records_mean_the_same_to_ours_and_to_rustls(
        client in any::<bool>(),
        ring in any::<bool>(),
        deeds in prop::collection::vec(any_deed().prop_filter("differs by intent", is_harmless_to_compare), 1..24),
        changed in prop::option::weighted(0.3, (0usize..24, any::<prop::sample::Index>(), 1u8..)),
        cuts in (1usize..3000, 1usize..3000),
    ) {
        let [aws_lc, other, rustls] = RecordPlan::EACH;
        let seen = [(if ring { other } else { aws_lc }, cuts.0), (rustls, cuts.1)].map(|(plan, cut)| {
            use_plan(plan);
            let mut forger = Forger::against(client);
            for (number, deed) in deeds.iter().enumerate() {
                let change = changed.filter(|change| change.0 == number);
                play(&mut forger, deed, change.map(|(_, at, flip)| (at, flip)), cut);
            }
            // Tells one that waits for the rest of something from one that is content.
            play(&mut forger, &Deed::Data(b"the end".to_vec(), 0), None, cut);
            forger
        });
        let [ours, theirs] = &seen;
        prop_assert!(ours.end.heard == theirs.end.heard);
        prop_assert_eq!(end_of(&ours.end), end_of(&theirs.end));
        prop_assert_eq!(ours.end.session.end_of_input().is_ok(), theirs.end.session.end_of_input().is_ok());
    }
}
