//! Statements that carry out many operations at once.
//!
//! `kind = ANY (ARRAY[...])` instead of `kind = ...` leaves the planner one way to join: by the key of each record. Otherwise a plan
//! that was made while the table was almost empty goes through all of it for each operation, for as long as the plan is kept.

use std::{collections::HashSet, sync::Arc};

use portcullis_runtime::Timestamp;
use sqlx::PgConnection;

use crate::{
    kernel::Record,
    sql::{Put, Row, Wanted, record},
};

/// Each row begins with the number of the record that was asked for, from 1.
pub(super) const READ: &str = "SELECT want.number, r.id, r.version, r.index1, r.index2, r.expires_at, r.data \
     FROM unnest($1::smallint[], $2::bytea[]) WITH ORDINALITY AS want (kind, id, number) \
     JOIN portcullis_record AS r ON r.kind = ANY (ARRAY[want.kind]) AND r.id = want.id";

/// Answers with the new versions of what was made and replaced. Both parts see the store as it was before, and no record is in
/// both, so neither sees what the other does.
pub(super) const PUT: &str = "WITH put AS MATERIALIZED ( \
         SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], \
             $7::bytea[], $8::bigint[]) AS p (kind, id, version, index1, index2, expires_at, data, replaced) \
     ), made AS ( \
         INSERT INTO portcullis_record (kind, id, version, index1, index2, expires_at, data) \
         SELECT kind, id, version, index1, index2, expires_at, data FROM put WHERE replaced IS NULL \
         ON CONFLICT DO NOTHING RETURNING version \
     ), changed AS ( \
         UPDATE portcullis_record AS r SET version = put.version, index1 = put.index1, index2 = put.index2, \
             expires_at = put.expires_at, data = put.data \
         FROM put WHERE r.kind = ANY (ARRAY[put.kind]) AND r.id = put.id AND r.version = put.replaced RETURNING r.version \
     ) SELECT version FROM made UNION ALL SELECT version FROM changed";

type NumberedRow = (i64, Vec<u8>, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Vec<u8>);

pub(super) async fn read(connection: &mut PgConnection, wanted: &[Arc<Wanted>]) -> sqlx::Result<Vec<Option<Record>>> {
    let kinds: Vec<i16> = wanted.iter().map(|want| i16::from(want.kind.code())).collect();
    let ids: Vec<&[u8]> = wanted.iter().map(|want| want.id.as_bytes()).collect();
    let rows: Vec<NumberedRow> = sqlx::query_as(READ).bind(kinds).bind(ids).fetch_all(connection).await?;
    let mut records: Vec<Option<Record>> = wanted.iter().map(|_| None).collect();
    for (number, id, version, first, second, expires_at, data) in rows {
        let row: Row = (id, version, first, second, expires_at, data);
        let place = usize::try_from(number - 1).ok().and_then(|place| records.get_mut(place));
        let place = place.ok_or_else(|| sqlx::Error::Decode("a row has a number that was not asked for".into()))?;
        *place = Some(record(row)?);
    }
    Ok(records)
}

pub(super) async fn put(connection: &mut PgConnection, puts: &[Arc<Put>]) -> sqlx::Result<Vec<bool>> {
    fn column<'p, T>(puts: &'p [Arc<Put>], of: impl Fn(&'p Put) -> T) -> Vec<T> {
        puts.iter().map(|put| of(put)).collect()
    }
    let index = |slot: usize| {
        column(puts, move |put| put.write.index.get(slot).and_then(Option::as_ref).map(|key| key.as_bytes().as_slice()))
    };
    let versions: Vec<i64> = sqlx::query_scalar(PUT)
        .bind(column(puts, |put| i16::from(put.kind.code())))
        .bind(column(puts, |put| put.id.as_bytes()))
        .bind(column(puts, |put| put.to))
        .bind(index(0))
        .bind(index(1))
        .bind(column(puts, |put| put.write.expires_at.map(Timestamp::unix_nanos)))
        .bind(column(puts, |put| put.write.data.as_slice()))
        .bind(column(puts, |put| put.from))
        .fetch_all(connection)
        .await?;
    // No two of them have the same version.
    let done: HashSet<i64> = versions.into_iter().collect();
    Ok(column(puts, |put| done.contains(&put.to)))
}
