//! The classes of database errors.

/// A class of database errors, by whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server is unavailable, is starting or stopping, or has no room; or the session is gone. Nothing is wrong
    /// with the query.
    Unavailable,
    /// The query, or its transaction, ran into a time limit: the database is overloaded, or this query is too much for
    /// it.
    TooSlow,
    /// Another transaction got in the way. The same transaction may work now.
    Conflict,
    /// The query itself, or the data, is at fault.
    Other,
}

/// Returns the class of a database error.
pub fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // An earlier user of the session left a transaction open.
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => Class::Unavailable,
        sqlx::Error::Database(error) => error.code().map_or(Class::Other, |code| class_of(&code)),
        _ => Class::Other,
    }
}

/// Returns the class of a SQLSTATE.
///
/// A code that is not in the table is the statement's or the data's fault: callers count an attempt, or give up. So
/// every code that a well-formed statement can meet belongs in this table.
///
/// Source: PostgreSQL, "Appendix A. PostgreSQL Error Codes".
fn class_of(code: &str) -> Class {
    match code {
        // query_canceled (statement_timeout, or a call of pg_cancel_backend), transaction_timeout
        "57014" | "25P04" => Class::TooSlow,

        // transaction_rollback, serialization_failure, deadlock_detected, object_in_use, lock_not_available
        "40000" | "40001" | "40P01" | "55006" | "55P03" => Class::Conflict,

        // statement_completion_unknown: the connection broke before the reply. It may have committed, so what is run
        // again must recognise that.
        "40003" => Class::Unavailable,
        // The session is not in the state that its owner left it in: active_sql_transaction, no_active_sql_transaction,
        // in_failed_sql_transaction, idle_in_transaction_session_timeout, invalid_sql_statement_name (a pooler between
        // us, or DEALLOCATE, forgot a prepared statement). Another session will do.
        "25001" | "25P01" | "25P02" | "25P03" | "26000" => Class::Unavailable,
        // read_only_sql_transaction (a failover), object_not_in_prerequisite_state (a database that takes no
        // connections)
        "25006" | "55000" => Class::Unavailable,
        // insufficient_privilege, undefined_table, _column, _function, _object, invalid_schema_name: a server that was
        // restored or set up wrongly, or is not migrated yet. It is repaired at the server, and is not the caller's
        // fault.
        "42501" | "42P01" | "42703" | "42883" | "42704" | "3F000" => Class::Unavailable,
        // 08 connection exception, 28 invalid authorization, 3D no such database, 53 insufficient resources, 57
        // operator intervention (57P05: idle session), 58 system error, F0 configuration file error
        _ if ["08", "28", "3D", "53", "57", "58", "F0"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Class::Unavailable
        }
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, class_of};

    #[test]
    fn sqlstate_of_a_lost_server_or_session_costs_no_attempt() {
        for (class, codes) in [
            (
                Class::Unavailable,
                // Connection, authorization, database.
                "08000 08001 08003 08004 08006 08007 08P01 28000 28P01 3D000 \
                 25001 25006 25P01 25P02 25P03 26000 40003 \
                 53000 53100 53200 53300 53400 \
                 57000 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 F0000 F0001 \
                 55000 42501 42P01 42703 42883 42704 3F000",
            ),
            (Class::TooSlow, "57014 25P04"),
            (Class::Conflict, "40000 40001 40P01 55006 55P03"),
            // Division by zero, unique and foreign key violation, a check, a value too long, a raised exception; a
            // constraint that fails at the commit; corrupt data, which only the messages that touch it meet.
            (
                Class::Other,
                "22012 23505 23503 23514 22001 P0001 40002 42601 XX000 XX001 00000",
            ),
        ] {
            for code in codes.split_whitespace() {
                assert_eq!(class_of(code), class, "{code}");
            }
        }
    }
}
