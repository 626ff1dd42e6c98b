use std::net::Ipv4Addr;
use std::task::Waker;

use http::Request;

use super::*;
use crate::connections::Place;

/// A quarter of what a port has for itself.
const PART: usize = PORT_BYTES_MAX / 4;

fn table(shared: &Arc<SharedByRequests>) -> Arc<Connections> {
    Connections::with_requests(shared.clone())
}

fn enter(table: &Arc<Connections>) -> Place {
    table.enter(Ipv4Addr::LOCALHOST.into())
}

/// A request that holds a part, if it had room; it is worked for.
fn begin(place: &Place, now: Instant) -> Option<Arc<Exchange>> {
    let exchange = Exchange::begin(&place.connection);
    exchange.set_begun(Begun::take_bytes(&place.connection, PART, now)?);
    exchange.start();
    Some(exchange)
}

/// The same, whose peer owes its body.
fn begin_half(place: &Place, now: Instant) -> Option<Arc<Exchange>> {
    begin(place, now).inspect(|exchange| exchange.await_body(Waker::noop()))
}

/// Each connection's first request, in turn.
fn one_of_each(table: &Arc<Connections>, count: usize) -> (Vec<Place>, Vec<Arc<Exchange>>) {
    let places: Vec<Place> = (0..count).map(|_| enter(table)).collect();
    let begun = places.iter().map(|place| begin_half(place, Instant::now()).expect("there is room")).collect();
    (places, begun)
}

fn has_ended(exchange: &Exchange) -> bool {
    exchange.begun().is_some_and(|begun| begun.bytes.load(Ordering::Relaxed) == 0)
}

fn ended(exchanges: &[Arc<Exchange>]) -> Vec<bool> {
    exchanges.iter().map(|exchange| has_ended(exchange)).collect()
}

#[test]
fn those_that_stand_still_end_first_the_longest_still_first() {
    let table = table(&SharedByRequests::new(0));
    let (_places, half) = one_of_each(&table, 4);
    // The first moves on, the others have not since they began.
    half[0].body_came(MOVING_BYTES);
    half[0].await_body(Waker::noop());
    let newcomer = enter(&table);
    assert!(begin(&newcomer, Instant::now()).is_none(), "all may still move on");
    assert_eq!(ended(&half), [false; 4]);
    let later = half[3].moved_at() + MOVING_TIME + Duration::from_nanos(1);
    let mut kept = Vec::new();
    for expected in [[false, true, false, false], [false, true, true, false], [false, true, true, true]] {
        kept.push(begin(&newcomer, later).expect("a still one ends"));
        assert_eq!(ended(&half), expected);
    }
    assert!(begin(&newcomer, half[0].moved_at() + MOVING_TIME).is_none(), "one that moves is kept");
    assert!(table.any_is_closing(), "without a stream of its own its connection ends");
}

#[test]
fn drops_of_a_body_do_not_move_a_request_on() {
    let table = table(&SharedByRequests::new(0));
    let (_places, half) = one_of_each(&table, 1);
    let began = half[0].moved_at();
    for _ in 0..MOVING_BYTES - 1 {
        half[0].body_came(1);
        half[0].await_body(Waker::noop());
    }
    assert_eq!(half[0].moved_at(), began);
    half[0].body_came(1);
    assert!(half[0].moved_at() > began);
}

#[test]
fn a_connection_with_many_requests_gives_room_to_one_with_few() {
    let table = table(&SharedByRequests::new(0));
    let (crowd, other) = (enter(&table), enter(&table));
    let now = Instant::now();
    let half: Vec<_> = (0..4).map(|_| begin_half(&crowd, now).expect("there is room")).collect();
    assert!(begin(&crowd, now).is_none(), "its own give it none");
    let mut kept = Vec::new();
    for count in 1..=3 {
        kept.push(begin_half(&other, now).expect("room of the crowd"));
        assert_eq!(ended(&half).iter().filter(|ended| **ended).count(), count);
    }
    assert_eq!(ended(&kept), [false; 3]);
}

#[test]
fn requests_that_the_server_works_for_do_not_end() {
    let table = table(&SharedByRequests::new(PART));
    let place = enter(&table);
    let now = Instant::now();
    let working: Vec<_> = (0..5).map(|_| begin(&place, now).expect("there is room")).collect();
    let much_later = now + 1000 * MOVING_TIME;
    assert!(begin(&enter(&table), much_later).is_none());
    assert_eq!(ended(&working), [false; 5]);
    // One is answered, and its peer does not take it.
    working[2].answer();
    let _new = begin(&enter(&table), much_later + VAIN_SEARCH_PAUSE).expect("the room of that");
    assert_eq!(ended(&working), [false, false, true, false, false]);
}

#[test]
fn a_request_that_nothing_was_done_for_ends_by_itself() {
    let table = table(&SharedByRequests::new(0));
    let crowd = enter(&table);
    let now = Instant::now();
    let unstarted: Vec<_> = (0..4)
        .map(|_| {
            let exchange = Exchange::begin(&crowd.connection);
            exchange.set_begun(Begun::take_bytes(&crowd.connection, PART, now).expect("there is room"));
            exchange
        })
        .collect();
    assert!(begin(&crowd, now + 10 * MOVING_TIME).is_none(), "its peer is not to blame");
    let _new = begin(&enter(&table), now).expect("room of the crowd");
    assert_eq!(unstarted.iter().filter(|exchange| !exchange.start()).count(), 1);
    assert!(!table.any_is_closing());
}

#[test]
fn a_port_has_room_of_its_own_and_gets_what_others_hold_in_vain() {
    let shared = SharedByRequests::new(2 * PART);
    let (hostile, other) = (table(&shared), table(&shared));
    let (_places, half) = one_of_each(&hostile, 6);
    let place = enter(&other);
    let now = Instant::now();
    let mut kept: Vec<_> = (0..4).map(|_| begin(&place, now).expect("the port's own room")).collect();
    assert!(begin(&place, now).is_none(), "what is shared is used up");
    let later = half[5].moved_at() + 2 * MOVING_TIME;
    kept.extend((0..2).map(|_| begin(&place, later).expect("room of still ones")));
    assert_eq!(ended(&half), [false, false, false, false, true, true], "the others hold their port's own");
    assert!(begin(&place, later).is_none());
    drop((half, kept));
    assert_eq!((hostile.request_room.held(), other.request_room.held()), (0, 0));
}

#[test]
fn heads_count_as_they_lie_in_memory() {
    let head = |fields: usize, name: &dyn Fn(usize) -> String, bytes: usize| {
        let mut request = Request::post("http://localhost/v1/traces?x=1").version(Version::HTTP_2);
        for number in 0..fields {
            request = request.header(name(number), "v".repeat(bytes));
        }
        unshared(request.body(()).expect("a request").into_parts().0)
    };
    let distinct = |number: usize| format!("x-{number}");
    let same = |_: usize| "x-same".to_owned();
    type Name<'a> = &'a dyn Fn(usize) -> String;
    let cases: [(usize, Name<'_>, usize); 4] =
        [(0, &distinct, 0), (1, &distinct, 10_000), (400, &distinct, 1), (400, &same, 1)];
    for (fields, name, bytes) in cases {
        let head = head(fields, name, bytes);
        assert_eq!(head.headers.len(), fields);
        assert_eq!(head.uri, "http://localhost/v1/traces?x=1");
        let least = fields * (bytes + size_of::<HeaderValue>());
        let counted = head_bytes(&head);
        assert!(counted > least && counted < 2 * fields * (bytes + 250) + 50, "{fields} of {bytes}: {counted}");
    }
}
