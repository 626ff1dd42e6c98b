//! Saved queries are as durable as the list of files, and their loss is told.

use std::sync::Arc;

use tracehouse_disk::Disk;
use tracehouse_model::{SystemRandomness, TenantId};
use tracehouse_store::{RepairOptions, Store, repair_store};

use crate::world::{World, tenant};

async fn saved(store: &Store, tenant: &TenantId) -> Result<Option<String>, String> {
    store.saved_queries(tenant).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_there_after_a_crash() {
    let world = World::new();
    let store = world.open().await;
    assert_eq!(saved(&store, &tenant(0)).await, Ok(None));
    for text in ["[1]", "[2]"] {
        store.save_queries(&tenant(0), text.to_owned()).await.expect("they are saved");
        assert_eq!(saved(&store, &tenant(0)).await, Ok(Some(text.to_owned())));
    }
    let image = world.crash_image();
    let restarted = image.open().await;
    assert_eq!(saved(&restarted, &tenant(0)).await, Ok(Some("[2]".to_owned())));
    assert_eq!(saved(&restarted, &tenant(1)).await, Ok(None));
    assert_eq!(restarted.troubles(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn their_loss_is_told_until_a_repair() {
    for damage in
        ["DELETE FROM meta WHERE name LIKE 'saved%'", "UPDATE meta SET value = '[3]' WHERE name LIKE 'saved%'"]
    {
        let world = World::new();
        let store = world.open().await;
        store.save_queries(&tenant(0), "[1]".to_owned()).await.expect("they are saved");
        store.shutdown().await.expect("the store stops");
        world.meddle(&[damage]).await;
        let store = world.open().await;
        assert!(saved(&store, &tenant(0)).await.is_err_and(|error| error.contains("store repair")), "{damage}");
        assert_eq!(saved(&store, &tenant(1)).await, Ok(None), "{damage}: nobody else is concerned");
        let troubles = store.troubles();
        let is_told =
            |troubles: &[String]| matches!(troubles, [told] if told.contains("saved queries of this tenant are gone"));
        assert!(is_told(&troubles), "{damage}: {troubles:?}");
        assert!(is_told(&store.troubles_shown_to(Some(&tenant(0)))), "{damage}");
        let others = store.troubles_shown_to(Some(&tenant(1)));
        assert!(others.iter().all(|told| !told.contains(tenant(0).as_str())), "{damage}: {others:?}");
        assert_eq!(others.len(), 1, "{damage}: {others:?}");
        store.shutdown().await.expect("the store stops");
        drop(store);
        let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
        let options = RepairOptions::default();
        let done = repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {}).await;
        assert_eq!(done.expect("it is repaired").left.len(), 0, "{damage}");
        let store = world.open().await;
        assert_eq!((saved(&store, &tenant(0)).await, store.troubles()), (Ok(None), vec![]), "{damage}");
        store.save_queries(&tenant(0), "[4]".to_owned()).await.expect("they are saved");
        assert_eq!(saved(&store, &tenant(0)).await, Ok(Some("[4]".to_owned())), "{damage}");
    }
}
