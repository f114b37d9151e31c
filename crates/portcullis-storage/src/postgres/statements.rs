//! The statements.

use portcullis_runtime::Timestamp;
use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use crate::{
    kernel::{MAX_PAGE_BYTES, Mark, Slot, Write},
    sql::{Reply, Row, Work, record},
};

const GET: &str =
    "SELECT id, version, index1, index2, expires_at, data FROM portcullis_record WHERE kind = $1 AND id = $2";
const EXISTS: &str = "SELECT 1 FROM portcullis_record WHERE kind = $1 AND id = $2";
const INSERT: &str = "INSERT INTO portcullis_record (kind, id, version, index1, index2, expires_at, data) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
/// An update that changes no indexed value touches no index, whatever it names.
const UPDATE: &str = "UPDATE portcullis_record SET version = $3, index1 = $4, index2 = $5, expires_at = $6, data = $7 \
     WHERE kind = $1 AND id = $2 AND version = $8";
const MARK: &str = "SELECT count(*), coalesce(sum(version), 0)::bigint FROM portcullis_record WHERE kind = $1";
const DELETE: &str = "DELETE FROM portcullis_record WHERE kind = $1 AND id = $2 AND version = $3";
/// Sizes that nothing has to be read for.
const DUE: &str =
    "SELECT octet_length(data) FROM portcullis_record WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
/// Passes over what another transaction holds: that one is deleting or changing it. Joined by the key alone (see `together`).
const EXPIRE: &str = "WITH due AS MATERIALIZED ( \
         SELECT kind, id FROM portcullis_record WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 \
         FOR UPDATE SKIP LOCKED \
     ) DELETE FROM portcullis_record AS r USING due WHERE r.kind = ANY (ARRAY[due.kind]) AND r.id = due.id";
const RESERVE: &str = "UPDATE portcullis_version_block SET next = next + $1 RETURNING next";

/// A list ends with the record after the one that makes the page heavy: what lies before that one weighs less than a page.
macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT id, version, index1, index2, expires_at, data FROM ( \
                 SELECT *, coalesce(sum(octet_length(data)) OVER ( \
                     ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING \
                 ), 0) AS before FROM ( \
                     SELECT id, version, index1, index2, expires_at, data FROM portcullis_record \
                     WHERE kind = $1 AND id > $2",
            $condition,
            " ORDER BY id LIMIT $3 \
                 ) AS page \
             ) AS weighed WHERE before < $4 ORDER BY id"
        )
    };
}
const LIST: &str = list!("");
const BY_INDEX1: &str = list!(" AND index1 = $5");
const BY_INDEX2: &str = list!(" AND index2 = $5");

pub(super) const fn sql(work: &Work<'_>) -> &'static str {
    match work {
        Work::Get { .. } => GET,
        Work::Exists { .. } => EXISTS,
        Work::Insert { .. } => INSERT,
        Work::Update { .. } => UPDATE,
        Work::Delete { .. } => DELETE,
        Work::List { index: None, .. } => LIST,
        Work::List { index: Some((Slot::First, _)), .. } => BY_INDEX1,
        Work::List { index: Some((Slot::Second, _)), .. } => BY_INDEX2,
        Work::Mark { .. } => MARK,
        Work::Due { .. } => DUE,
        Work::Expire { .. } => EXPIRE,
        Work::Reserve { .. } => RESERVE,
    }
}

pub(super) async fn perform(connection: &mut PgConnection, work: &Work<'_>) -> sqlx::Result<Reply> {
    let query = sqlx::query(sql(work));
    let change = match *work {
        Work::Get { kind, id } => {
            let rows = sqlx::query_as(GET).bind(i16::from(kind.code())).bind(id.as_bytes());
            let row: Option<Row> = rows.fetch_optional(connection).await?;
            return Ok(Reply::Records(row.map(record).transpose()?.into_iter().collect()));
        }
        Work::List { kind, index, after, limit } => {
            let page = i64::try_from(MAX_PAGE_BYTES).unwrap_or(i64::MAX);
            let rows = sqlx::query_as(sql(work)).bind(i16::from(kind.code())).bind(after.as_bytes());
            let rows = rows.bind(limit).bind(page);
            let rows = match &index {
                Some((_, key)) => rows.bind(key.as_bytes().as_slice()),
                None => rows,
            };
            let rows: Vec<Row> = rows.fetch_all(connection).await?;
            return Ok(Reply::Records(rows.into_iter().map(record).collect::<sqlx::Result<_>>()?));
        }
        Work::Exists { kind, id } => {
            let row = query.bind(i16::from(kind.code())).bind(id.as_bytes()).fetch_optional(connection).await?;
            return Ok(Reply::Count(u64::from(row.is_some())));
        }
        Work::Mark { kind } => {
            let (count, sum): (i64, i64) =
                sqlx::query_as(MARK).bind(i16::from(kind.code())).fetch_one(connection).await?;
            return Ok(Reply::Mark(Mark(count.unsigned_abs(), sum.unsigned_abs())));
        }
        Work::Due { now, limit } => {
            let sizes: Vec<i32> = sqlx::query_scalar(DUE).bind(now).bind(limit).fetch_all(connection).await?;
            return Ok(Reply::Sizes(
                sizes.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect(),
            ));
        }
        Work::Reserve { count } => {
            let next: i64 = sqlx::query_scalar(RESERVE).bind(count).fetch_one(connection).await?;
            return Ok(Reply::Count(next.unsigned_abs()));
        }
        Work::Insert { kind, id, version, write } => {
            content(query.bind(i16::from(kind.code())).bind(id.as_bytes()).bind(version), write)
        }
        Work::Update { kind, id, from, to, write } => {
            content(query.bind(i16::from(kind.code())).bind(id.as_bytes()).bind(to), write).bind(from)
        }
        Work::Delete { kind, id, version } => query.bind(i16::from(kind.code())).bind(id.as_bytes()).bind(version),
        Work::Expire { now, limit } => query.bind(now).bind(limit),
    };
    Ok(Reply::Count(change.execute(connection).await?.rows_affected()))
}

fn content<'q>(query: Query<'q, Postgres, PgArguments>, write: &Write) -> Query<'q, Postgres, PgArguments> {
    let [first, second] = write.index.each_ref().map(|key| key.as_ref().map(|key| key.as_bytes().as_slice()));
    query.bind(first).bind(second).bind(write.expires_at.map(Timestamp::unix_nanos)).bind(write.data.as_slice())
}
