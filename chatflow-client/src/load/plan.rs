//! What is sent by whom, all of it computed from the seed and a message's number.

use uuid::Uuid;

use super::args::Setup;
use super::clock::put_iso;
use super::texts::TEXTS;

/// The kinds of message, in the order of the mix.
pub(super) const KINDS: [&str; 3] = ["TEXT", "JOIN", "LEAVE"];

/// The plan of a run. A message is known by its number, so nothing of it needs to be kept to know later what it said.
///
/// Numbers are dealt to the sending connections in turn: the warm-up's first, then the others.
#[derive(Debug)]
pub(super) struct Plan {
    seed: u64,
    tag: u64,
    mix: [u32; 3],
    size: Option<usize>,
    warmup: Share,
    main: Share,
    /// The room (from 0) of each sender.
    rooms: Vec<u32>,
}

/// Numbers `first..last`, dealt to `senders` in turn, the first of whom is number `sender`.
#[derive(Debug, Clone, Copy)]
struct Share {
    first: u32,
    last: u32,
    sender: u32,
    senders: u32,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) user: u32,
    pub(super) kind: usize,
    text: usize,
}

impl Plan {
    pub(super) fn new(setup: &Setup) -> Self {
        let senders = setup.warmup_connections + setup.connections;
        let warm = setup.warmup_messages();
        let warmup = Share { first: 0, last: warm, sender: 0, senders: setup.warmup_connections };
        let main = Share { first: warm, last: setup.messages, sender: setup.warmup_connections, senders: setup.connections };
        // Dealt like cards, so that no room has more than one connection more than another, in either phase.
        let mut rooms = Vec::with_capacity(senders as usize);
        for (phase, connections) in [setup.warmup_connections, setup.connections].into_iter().enumerate() {
            let mut order: Vec<u32> = (0..setup.rooms).collect();
            for (at, left) in (1..order.len()).rev().enumerate() {
                order.swap(left, mix64(setup.seed, (phase as u64 + 1) << 40 | at as u64) as usize % (left + 1));
            }
            rooms.extend(order.iter().cycle().take(connections as usize));
        }
        // A run's ids are its own even when its plan is another's.
        let tag = Uuid::new_v4().as_u64_pair().1 & ((1 << 42) - 1);
        Self { seed: setup.seed, tag, mix: setup.mix, size: setup.size, warmup, main, rooms }
    }

    /// The room (from 0) that a sender stays in.
    pub(super) fn room_of(&self, sender: u32) -> u32 {
        self.rooms[sender as usize]
    }

    /// How many messages belong to the warm-up.
    pub(super) fn warmup_messages(&self) -> u32 {
        self.warmup.last
    }

    fn share_of(&self, sender: u32) -> Share {
        if sender < self.main.sender { self.warmup } else { self.main }
    }

    /// The number of the `nth` message of `sender`, if it has so many.
    pub(super) fn number(&self, sender: u32, nth: u32) -> Option<u32> {
        let share = self.share_of(sender);
        let number = u64::from(share.first) + u64::from(nth) * u64::from(share.senders) + u64::from(sender - share.sender);
        (number < u64::from(share.last)).then_some(number as u32)
    }

    /// The sender of a message, and which of its messages it is.
    pub(super) fn sender(&self, number: u32) -> (u32, u32) {
        let share = if number < self.warmup.last { self.warmup } else { self.main };
        let place = number - share.first;
        (share.sender + place % share.senders, place / share.senders)
    }

    /// What message `number` says.
    pub(super) fn content(&self, number: u32) -> Content {
        let random = mix64(self.seed, u64::from(number));
        let mut share = (random >> 40) as u32 % self.mix.iter().sum::<u32>();
        let mut kind = 0;
        while share >= self.mix[kind] {
            share -= self.mix[kind];
            kind += 1;
        }
        Content { user: (random as u32 & 0xff_ffff) % 100_000 + 1, kind, text: (random >> 24) as u16 as usize % TEXTS.len() }
    }

    /// Calls `put` with the parts of the text that `content` says.
    pub(super) fn text(&self, content: &Content, mut put: impl FnMut(&str)) {
        let text = TEXTS[content.text];
        let Some(mut left) = self.size else { return put(text) };
        while left > text.len() {
            put(text);
            left -= text.len();
        }
        put(&text[..left]);
    }

    /// The id of message `number` made at `ms` since 1970: a UUIDv7 whose random part names the run and the number.
    pub(super) fn id(&self, number: u32, ms: u64) -> Uuid {
        let high = u128::from(ms) << 80 | 7 << 76 | u128::from(self.tag >> 30) << 64;
        let low = 2 << 62 | (self.tag & ((1 << 30) - 1)) << 32 | u64::from(number);
        Uuid::from_u128(high | u128::from(low))
    }

    /// The number and time in an id of this run.
    pub(super) fn recognise(&self, id: Uuid) -> Option<(u32, u64)> {
        let (ms, number) = ((id.as_u128() >> 80) as u64, id.as_u128() as u32);
        (self.id(number, ms) == id && number < self.main.last).then_some((number, ms))
    }

    /// The frame that sends message `number`, made at `ms` since 1970.
    pub(super) fn frame(&self, number: u32, ms: u64) -> String {
        use std::fmt::Write;
        let content = self.content(number);
        let mut out = String::with_capacity(256 + self.size.unwrap_or(0));
        // Writing into a string can't fail, and the canned texts need no escapes.
        let _ = write!(
            out,
            r#"{{"messageId":"{}","userId":"{}","username":"user{}","message":""#,
            self.id(number, ms),
            content.user,
            content.user
        );
        self.text(&content, |part| out.push_str(part));
        out.push_str(r#"","messageType":""#);
        out.push_str(KINDS[content.kind]);
        out.push_str(r#"","timestamp":""#);
        put_iso(&mut out, ms);
        out.push_str(r#""}"#);
        out
    }
}

/// SplitMix64's finalizer: the `index`-th number of the stream that `seed` starts.
pub(super) fn mix64(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A plan of `messages` for 4 warm-up and 7 other connections in 3 rooms.
    pub(in super::super) fn plan(messages: u32, seed: u64) -> Plan {
        let warmup = if messages >= 40 { 10 } else { 0 };
        let setup = Setup {
            targets: Vec::new(),
            messages,
            warmup_connections: 4,
            warmup_each: warmup,
            connections: 7,
            in_flight: 50,
            rooms: 3,
            mix: [90, 5, 5],
            size: None,
            rate: None,
            reads: 0.0,
            listeners: 0,
            senders: super::super::args::Senders::Members,
            duration: None,
            timeout: std::time::Duration::from_secs(1),
            retries: 5,
            patience: std::time::Duration::from_secs(10),
            out: None,
            seed,
            shared: false,
            history: false,
        };
        Plan::new(&setup)
    }

    #[test]
    fn every_number_belongs_to_exactly_one_sender() {
        let plan = plan(101, 1);
        let mut seen = HashSet::new();
        for sender in 0..11 {
            for (nth, number) in (0..).map_while(|nth| plan.number(sender, nth)).enumerate() {
                assert!(seen.insert(number));
                assert_eq!(plan.sender(number), (sender, nth as u32));
            }
        }
        assert_eq!(seen, (0..101).collect());
    }

    #[test]
    fn rooms_have_equal_shares() {
        let plan = plan(101, 9);
        for (senders, allowed) in [(0..4, 1..=2), (4..11, 2..=3)] {
            for room in 0..3 {
                let share = senders.clone().filter(|s| plan.room_of(*s) == room).count();
                assert!(allowed.contains(&share));
            }
        }
    }

    #[test]
    fn the_same_seed_says_the_same_and_another_does_not() {
        let (a, b, c) = (plan(500, 1), plan(500, 1), plan(500, 2));
        assert!((0..500).all(|n| a.content(n) == b.content(n)));
        assert!((0..500).any(|n| a.content(n) != c.content(n)));
        assert!((0..11).all(|s| a.room_of(s) == b.room_of(s)));
    }

    #[test]
    fn kinds_come_as_the_mix_says() {
        let plan = plan(40_000, 3);
        let texts = (0..40_000).filter(|n| plan.content(*n).kind == 0).count();
        assert!((35_600..36_400).contains(&texts), "{texts}");
    }

    #[test]
    fn ids_are_version_7_and_tell_their_number_and_run() {
        let (plan, other) = (plan(500, 1), plan(500, 1));
        let id = plan.id(321, 1_763_636_530_007);
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(plan.recognise(id), Some((321, 1_763_636_530_007)));
        assert_eq!(other.recognise(id), None);
        assert_eq!(plan.recognise(plan.id(500, 5)), None);
        assert_eq!(plan.recognise(Uuid::now_v7()), None);
    }

    #[test]
    fn a_frame_is_a_message_of_the_wire_contract() {
        let plan = plan(500, 1);
        let json: serde_json::Value = serde_json::from_str(&plan.frame(7, 0)).unwrap();
        let user: u32 = json["userId"].as_str().unwrap().parse().unwrap();
        assert!((1..=100_000).contains(&user));
        assert_eq!(json["username"], format!("user{user}"));
        assert_eq!(json["messageId"], plan.id(7, 0).to_string());
        assert_eq!(json["timestamp"], "1970-01-01T00:00:00.000Z");
        assert!(KINDS.contains(&json["messageType"].as_str().unwrap()));
        assert!(TEXTS.contains(&json["message"].as_str().unwrap()));
    }

    #[test]
    fn a_size_is_kept_to_the_byte() {
        for size in [1, 10, 500, 5_000] {
            let plan = Plan { size: Some(size), ..plan(500, 1) };
            let json: serde_json::Value = serde_json::from_str(&plan.frame(7, 0)).unwrap();
            assert_eq!(json["message"].as_str().unwrap().len(), size);
        }
    }
}
