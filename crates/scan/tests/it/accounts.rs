//! Memory that questions share.

use tracehouse_scan::Pool;

use crate::stored::Stored;

#[tokio::test]
async fn a_question_waits_for_what_another_one_holds() {
    let stored = Stored::files(1, 1).await;
    let pool = Pool::new(1 << 20);
    let ((first, _), (second, _)) = (stored.bounds(&pool), stored.bounds(&pool));
    let held = first.held(1 << 20).expect("there is room");
    let waiting = std::thread::spawn(move || second.wait_for(1 << 19).map(|held| held.used()));
    drop(held);
    assert_eq!(waiting.join().expect("ends"), Ok(1 << 19));
    assert_eq!(pool.bytes_taken(), 0);
}

#[tokio::test]
async fn nobody_waits_for_more_than_there_is() {
    let stored = Stored::files(1, 1).await;
    let pool = Pool::new(1 << 20);
    let (bounds, _) = stored.bounds(&pool);
    assert!(bounds.wait_for(1 << 21).is_err());
    assert!(!bounds.exceeded(), "it may go on with less");
}
