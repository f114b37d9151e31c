//! Objects as tables: a row has a cell for each column, numbers where they are promised; what is printed is bounded by what is
//! there; what the server takes in, it can print.
//!
//! The input is what chooses the kind (`portcullis_fuzz::kind`), and JSON: once as a store might hold it, unjudged, and once as
//! the body of a create that is only tried out.
#![no_main]

use std::cell::RefCell;

use http::{HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use portcullis_apiserver::fuzzing::{Kind, Site, Stored};
use portcullis_fuzz::{Limit, Request, runtime, tree};
use serde_json::Value;
use tokio::runtime::Runtime;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

thread_local! {
    static SITE: RefCell<Option<(Runtime, Site)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, json)) = portcullis_fuzz::kind(data) else { return };
    if let Ok(Value::Object(members)) = serde_json::from_slice(json) {
        let _limit = Limit::of((1 << 20) + 256 * data.len());
        let stored = Stored::raw(kind, members);
        let bare = stored.table("None", 1_700_000_000);
        // Some values are shown twice; the columns are told once.
        assert!(bare.len() <= 8 * stored.json().len() + 8_192, "{} of {}", bare.len(), stored.json().len());
        check(kind, &parse(&bare));
        for rows in ["Metadata", "Object"] {
            let whole = parse(&stored.table(rows, 1_700_000_000));
            check(kind, &whole);
            assert_eq!(whole["rows"][0]["cells"], parse(&bare)["rows"][0]["cells"]);
        }
    }
    SITE.with_borrow_mut(|site| {
        let (runtime, site) = site.get_or_insert_with(|| (runtime(), Site::new(Default::default())));
        let target = format!("{}?dryRun=All", kind.collection());
        let mut request = Request::of("POST", &target, "application/json", json);
        request.headers.insert(header::ACCEPT, HeaderValue::from_static(TABLE));
        let before = site.version();
        let answer = runtime.block_on(request.send(site)).expect("a request");
        assert_eq!(site.version(), before, "a try changes nothing");
        if answer.status == 201 {
            check(kind, &tree(&answer).expect("a table"));
        }
    });
});

fn parse(table: &[u8]) -> Value {
    serde_json::from_slice(table).expect("JSON")
}

/// The table of one object.
fn check(kind: Kind, table: &Value) {
    assert_eq!(table["kind"], "Table", "{}", kind.name());
    let columns = table["columnDefinitions"].as_array().expect("columns");
    assert!(columns.iter().any(|column| column["priority"] == 0), "something is shown without -o wide");
    let [row] = table["rows"].as_array().expect("rows").as_slice() else { panic!("{table}") };
    let cells = row["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), columns.len(), "{}: {table}", kind.name());
    for (cell, column) in cells.iter().zip(columns) {
        // Upstream calls columns of numbers strings, and a date that is missing is null. Which, is compared with a real server.
        let fits = if column["type"] == "integer" { cell.is_i64() } else { !cell.is_object() && !cell.is_array() };
        assert!(fits, "{}: {column} {cell}", kind.name());
    }
}
