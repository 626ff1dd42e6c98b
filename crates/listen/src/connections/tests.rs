use std::net::Ipv4Addr;

use super::*;
use crate::unread::Shared;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MIB: usize = 1024 * 1024;

fn table(places: usize) -> Arc<Connections> {
    Connections::for_tests(places, Shared::new(64 * MIB))
}

fn stranger(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// One that was asked something and has answered.
fn served(table: &Arc<Connections>, address: IpAddr) -> Place {
    let place = table.enter(address);
    Exchange::begin(&place.connection).answer();
    place
}

fn await_body(place: &Place) -> Arc<Exchange> {
    let exchange = Exchange::begin(&place.connection);
    exchange.await_body(std::task::Waker::noop());
    exchange
}

fn is_asked_to_go(place: &Place) -> bool {
    place.connection.closing.lock().is_some()
}

fn look(table: &Connections, times: u32) {
    for _ in 0..times {
        table.look_at_all();
    }
}

#[test]
fn who_owes_and_has_stopped_goes_first_and_who_is_worked_for_never() {
    let table = table(64);
    let working = served(&table, HOME);
    let _in_the_making = Exchange::begin(&working.connection);
    let slow = [served(&table, HOME), served(&table, HOME)];
    let slow_bodies = [await_body(&slow[0]), await_body(&slow[1])];
    let idle = [served(&table, HOME), served(&table, HOME)];
    let silent = table.enter(HOME);
    let stopped = table.enter(HOME);
    let _stopped_body = await_body(&stopped);
    look(&table, 1);
    let send = |first: usize, second: usize| {
        slow_bodies[0].body_came(first);
        slow_bodies[1].body_came(second);
        slow_bodies.iter().for_each(|body| body.await_body(std::task::Waker::noop()));
    };
    send(200_000, 20_000);
    look(&table, 1);
    let new = [table.enter(HOME), table.enter(HOME)];
    let _begun = await_body(&new[0]);
    send(100, 100);
    let order = [&silent, &stopped, &new[1], &new[0], &idle[0], &idle[1], &slow[1], &slow[0]];
    for (at, next) in order.iter().enumerate() {
        assert!(!is_asked_to_go(next), "number {at} goes too early");
        assert_eq!(table.make_room(), 1);
        assert!(is_asked_to_go(next), "number {at} goes next");
    }
    assert_eq!(table.make_room(), 0);
    assert!(!is_asked_to_go(&working));
}

#[test]
fn of_equals_those_of_an_address_that_holds_many_go_first() {
    let table = table(64);
    let good = served(&table, HOME);
    let _many: Vec<Place> = (0..20).map(|_| served(&table, stranger(1))).collect();
    let few: Vec<Place> = (0..3).map(|_| served(&table, stranger(2))).collect();
    for _ in 0..20 {
        assert_eq!(table.make_room(), 1);
        assert!(!few.iter().any(is_asked_to_go));
    }
    for _ in 0..3 {
        assert_eq!(table.make_room(), 1);
        assert!(!is_asked_to_go(&good));
    }
    assert_eq!(table.make_room(), 1);
    assert!(is_asked_to_go(&good));
}

#[test]
fn addresses_of_one_network_count_as_one() {
    let address = |text: &str| network(text.parse().expect("an address"));
    assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::1"));
    assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
    assert_eq!(address("::ffff:192.0.2.1"), stranger(1));
    assert_ne!(stranger(1), stranger(2));
}

#[test]
fn room_is_made_for_a_part_when_little_is_left() {
    let table = table(640);
    let silent: Vec<Place> = (0..640).map(|_| table.enter(HOME)).collect();
    let gone = |from: usize| silent[from..].iter().filter(|place| is_asked_to_go(place)).count();
    table.keep_room(41);
    assert_eq!(gone(0), 0);
    table.keep_room(40);
    assert_eq!(gone(0), 10);
    table.keep_room(30);
    assert_eq!(gone(0), 20, "ten are leaving, which is not enough");
    table.keep_room(25);
    assert_eq!(gone(0), 20, "twenty are leaving");
    assert_eq!(gone(20), 0, "the oldest go");
}

#[test]
fn who_waits_long_between_requests_is_kept() {
    let table = table(64);
    let place = served(&table, HOME);
    look(&table, IDLE_LOOKS_MAX - 1);
    assert!(!is_asked_to_go(&place));
    Exchange::begin(&place.connection).answer();
    look(&table, IDLE_LOOKS_MAX - 1);
    assert!(!is_asked_to_go(&place));
    look(&table, 1);
    assert_eq!(*place.connection.closing.lock(), Some(Closing::Politely(reason::IDLE)));
}

#[test]
fn an_answer_in_the_making_is_waited_for() {
    let table = table(64);
    let place = table.enter(HOME);
    let exchange = Exchange::begin(&place.connection);
    look(&table, 10 * IDLE_LOOKS_MAX);
    exchange.answer();
    exchange.work_on_answer();
    look(&table, 10 * IDLE_LOOKS_MAX);
    assert!(!is_asked_to_go(&place));
}

#[test]
fn who_takes_nothing_does_not_stay_because_more_is_in_the_making() {
    let table = table(64);
    let place = table.enter(HOME);
    let exchange = Exchange::begin(&place.connection);
    exchange.answer();
    exchange.give(1000);
    exchange.work_on_answer();
    look(&table, UNREAD_LOOKS_MAX);
    assert!(!is_asked_to_go(&place));
    look(&table, 1);
    assert_eq!(*place.connection.closing.lock(), Some(Closing::AtOnce(reason::STALLED)));
}

#[test]
fn slow_readers_go_when_answers_need_room() {
    let shared = Shared::new(MIB);
    let table = Connections::for_tests(64, shared);
    let [slow, fast] = [table.enter(HOME), table.enter(HOME)];
    let answers: Vec<Arc<Exchange>> = [&slow, &fast].iter().map(|place| Exchange::begin(&place.connection)).collect();
    for answer in &answers {
        answer.answer();
        answer.give(100 * MIB);
    }
    let take = || {
        answers[0].taken(1000);
        answers[1].taken(SHORT_BYTES_MIN);
    };
    for _ in 0..100 {
        take();
        look(&table, 1);
    }
    assert!(!is_asked_to_go(&slow) && !is_asked_to_go(&fast), "both move");
    assert!(crate::unread::Unread::reserve(&slow.connection, 20 * MIB).is_some(), "nothing is held");
    let _held = crate::unread::Unread::reserve(&slow.connection, 20 * MIB);
    assert!(crate::unread::Unread::reserve(&fast.connection, 20 * MIB).is_none());
    take();
    look(&table, 1);
    assert_eq!(*slow.connection.closing.lock(), Some(Closing::AtOnce(reason::STALLED)));
    assert!(!is_asked_to_go(&fast));
}
