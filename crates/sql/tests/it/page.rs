//! The queries of `docs/sql.md`, each run over each layout.

use crate::shop::{LAYOUTS, Shop};

const PAGE: &str = include_str!("../../../../docs/sql.md");

/// The blocks of code marked as SQL.
fn queries() -> Vec<&'static str> {
    PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[tokio::test]
async fn every_query_of_the_page_is_answered() {
    assert!(queries().len() >= 10, "{} queries", queries().len());
    for layout in LAYOUTS {
        let (shop, _) = Shop::filled(layout).await;
        for query in queries() {
            let answer = shop.try_ask(query, 10_000).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            assert!(answer.complete, "{query}: {:?}", answer.partial_reason);
        }
    }
}

#[tokio::test]
async fn the_page_names_every_column_and_function() {
    let (shop, _) = Shop::filled(crate::shop::Layout::Hot).await;
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'";
    for column in shop.rows(columns).await {
        assert!(PAGE.contains(&format!("`{column}`")), "docs/sql.md does not name the column {column}");
    }
    for function in ["attr", "attr_int", "attr_float", "attr_bool", "span_attr", "resource_attr", "seconds", "millis"] {
        assert!(PAGE.contains(&format!("`{function}(")), "docs/sql.md does not name the function {function}");
    }
}
