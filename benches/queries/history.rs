//! What is said in the history: the same in every run, row by row.

use chatflow_core::{ChatCodec, Codec, Draft, Message, MessageId, RoomId, Timestamp, kind};

use crate::args::Args;

/// When the first message is said: 1 January 2026.
const BEGINS: i64 = 1_767_225_600_000;
const DAY: f64 = 86_400_000.0;

/// Rooms, users and times.
#[derive(Debug, Clone)]
pub(crate) struct History {
    rooms: Vec<RoomId>,
    users: u64,
    /// Between two messages, milliseconds.
    apart: f64,
    /// How many there are by now.
    pub(crate) rows: u64,
}

impl History {
    /// As it was asked for, with nothing in it.
    pub(crate) fn new(args: &Args) -> Self {
        let rooms = (1..=args.rooms).map(|room| RoomId::new(&room.to_string()).unwrap()).collect();
        Self { rooms, users: args.users, apart: f64::from(args.days) * DAY / args.rows[0].max(1) as f64, rows: 0 }
    }

    /// One of the rooms, each as often.
    pub(crate) fn room(&self, dice: &mut Dice) -> &RoomId {
        &self.rooms[dice.below(self.rooms.len() as u64) as usize]
    }

    /// One of the users: of 100,000, the first says two of a hundred messages, and ten of them a twentieth of all.
    pub(crate) fn user(&self, dice: &mut Dice) -> u64 {
        1 + (dice.part().powi(3) * self.users as f64) as u64
    }

    /// When the message `row` is said.
    pub(crate) fn at(&self, row: u64) -> Timestamp {
        Timestamp(BEGINS + (row as f64 * self.apart) as i64)
    }

    /// The message `row`.
    pub(crate) fn message(&self, row: u64) -> Message {
        let mut dice = Dice::of(row);
        let (room, user, at) = (self.room(&mut dice).clone(), self.user(&mut dice), self.at(row));
        let random = (u128::from(dice.next()) << 64 | u128::from(dice.next())).to_be_bytes();
        let id: MessageId = uuid::Builder::from_unix_timestamp_millis(at.0 as u64, random.first_chunk().unwrap()).into_uuid();
        let draft = Draft {
            sender: user.to_string().into(),
            name: format!("user{user}").into(),
            text: format!("message {row} of the length that people write, give or take {} words", dice.below(9)).into(),
            kind: kind::TEXT,
            timestamp: at.to_string().into(),
            ..Draft::default()
        };
        Message {
            id,
            room,
            body: ChatCodec.body(&draft),
            digest: ChatCodec.digest(&draft),
            sender: draft.sender,
            kind: draft.kind,
            at,
            node: "node-1".into(),
            session: 1 + user,
            origin: "127.0.0.1".into(),
        }
    }

    /// A stretch of minutes, hours or days somewhere in it, or all of it (`None`): each of these as often.
    pub(crate) fn range(&self, dice: &mut Dice) -> Option<(Timestamp, Timestamp)> {
        let (unit, most) = match dice.below(4) {
            0 => (60_000, 60),
            1 => (3_600_000, 24),
            2 => (86_400_000, 30),
            _ => return None,
        };
        let whole = self.at(self.rows).0 - BEGINS;
        let length = ((1.0 + dice.part() * f64::from(most - 1)) * f64::from(unit)) as i64;
        let start = BEGINS + (dice.part() * (whole - length).max(0) as f64) as i64;
        Some((Timestamp(start), Timestamp(start + length)))
    }
}

/// Chance that is the same in every run (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Its own for each `seed`.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0xd134_2543_de82_ef95));
        dice.0 = dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, which it never is.
    pub(crate) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of the numbers below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.part() * n as f64) as u64
    }
}
