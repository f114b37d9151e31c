//! The statements. Their parameters come in the order in which the text has them.

use portcullis_runtime::Timestamp;
use sqlx::{MySql, MySqlConnection, mysql::MySqlArguments, query::Query};

use crate::{
    kernel::{MAX_PAGE_BYTES, Mark, Slot, Write},
    sql::{Reply, Row, Work, record},
};

const GET: &str =
    "SELECT id, version, index1, index2, expires_at, data FROM portcullis_record WHERE kind = ? AND id = ?";
const EXISTS: &str = "SELECT 1 FROM portcullis_record WHERE kind = ? AND id = ?";
const INSERT: &str = "INSERT INTO portcullis_record (kind, id, version, index1, index2, expires_at, data) \
     VALUES (?, ?, ?, ?, ?, ?, ?)";
/// An index whose values do not change is not touched, whatever the statement names.
const UPDATE: &str = "UPDATE portcullis_record SET version = ?, index1 = ?, index2 = ?, expires_at = ?, data = ? \
     WHERE kind = ? AND id = ? AND version = ?";
const MARK: &str = "SELECT count(*), CAST(COALESCE(SUM(version), 0) AS SIGNED) FROM portcullis_record WHERE kind = ?";
const DELETE: &str = "DELETE FROM portcullis_record WHERE kind = ? AND id = ? AND version = ?";
/// Sizes that nothing has to be read for.
const DUE: &str = "SELECT bytes FROM portcullis_record WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";
const EXPIRE: &str = "DELETE FROM portcullis_record WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";
/// The number comes back with the answer, as the last inserted id.
const RESERVE: &str = "UPDATE portcullis_version_block SET next = LAST_INSERT_ID(next + ?)";

/// A list ends with the record after the one that makes the page heavy: what lies before that one weighs less than a page.
macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT r.id, r.version, r.index1, r.index2, r.expires_at, r.data FROM ( \
                 SELECT id, COALESCE(SUM(bytes) OVER ( \
                     ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING \
                 ), 0) AS weight FROM ( \
                     SELECT id, bytes FROM portcullis_record WHERE kind = ? AND id > ?",
            $condition,
            " ORDER BY id LIMIT ? \
                 ) AS page \
             ) AS weighed STRAIGHT_JOIN portcullis_record AS r ON r.kind = ? AND r.id = weighed.id \
             WHERE weighed.weight < ? ORDER BY r.id"
        )
    };
}
const LIST: &str = list!("");
const BY_INDEX1: &str = list!(" AND index1 = ?");
const BY_INDEX2: &str = list!(" AND index2 = ?");

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

pub(super) async fn perform(connection: &mut MySqlConnection, work: &Work<'_>) -> sqlx::Result<Reply> {
    let query = sqlx::query(sql(work));
    let change = match *work {
        Work::Get { kind, id } => {
            let rows = sqlx::query_as(GET).bind(i16::from(kind.code())).bind(id.as_bytes());
            let row: Option<Row> = rows.fetch_optional(connection).await?;
            return Ok(Reply::Records(row.map(record).transpose()?.into_iter().collect()));
        }
        Work::List { kind, index, after, limit } => {
            let page = i64::try_from(MAX_PAGE_BYTES).unwrap_or(i64::MAX);
            let kind = i16::from(kind.code());
            let rows = sqlx::query_as(sql(work)).bind(kind).bind(after.as_bytes());
            let rows = match &index {
                Some((_, key)) => rows.bind(key.as_bytes().as_slice()),
                None => rows,
            };
            let rows: Vec<Row> = rows.bind(limit).bind(kind).bind(page).fetch_all(connection).await?;
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
            return Ok(Reply::Count(query.bind(count).execute(connection).await?.last_insert_id()));
        }
        Work::Insert { kind, id, version, write } => {
            content(query.bind(i16::from(kind.code())).bind(id.as_bytes()).bind(version), write)
        }
        Work::Update { kind, id, from, to, write } => {
            let named = content(query.bind(to), write).bind(i16::from(kind.code()));
            named.bind(id.as_bytes()).bind(from)
        }
        Work::Delete { kind, id, version } => query.bind(i16::from(kind.code())).bind(id.as_bytes()).bind(version),
        Work::Expire { now, limit } => query.bind(now).bind(limit),
    };
    Ok(Reply::Count(change.execute(connection).await?.rows_affected()))
}

fn content<'q>(query: Query<'q, MySql, MySqlArguments>, write: &Write) -> Query<'q, MySql, MySqlArguments> {
    let [first, second] = write.index.each_ref().map(|key| key.as_ref().map(|key| key.as_bytes().as_slice()));
    query.bind(first).bind(second).bind(write.expires_at.map(Timestamp::unix_nanos)).bind(write.data.as_slice())
}
