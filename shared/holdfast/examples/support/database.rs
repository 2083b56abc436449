//! A schema of the example's own, in the database of `DATABASE_URL`, dropped afterwards.

use anyhow::Context;
use sqlx::{
    AssertSqlSafe, Executor, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// A schema, and connections that see no other.
pub(crate) struct Schema {
    name: String,
    pub(crate) pool: PgPool,
}

impl Schema {
    /// Creates the schema, in the database of `DATABASE_URL`.
    pub(crate) async fn create(example: &str) -> anyhow::Result<Self> {
        let url = std::env::var("DATABASE_URL").ok().with_context(|| {
            format!(
                "this example needs a PostgreSQL. Either\n\n    \
                 cargo xtask example {example}\n\n\
                 which starts a private one, or set DATABASE_URL to one in which you may create a schema:\n\n    \
                 docker run --rm --detach --env POSTGRES_PASSWORD=development --publish 127.0.0.1:5432:5432 postgres:18\n    \
                 export DATABASE_URL=postgres://postgres:development@127.0.0.1:5432/postgres\n"
            )
        })?;
        let name = format!("holdfast_example_{}", Uuid::now_v7().simple());
        let options: PgConnectOptions = url.parse().context("DATABASE_URL")?;
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect_with(options.options([("search_path", &name)]))
            .await
            .context("no connection to the PostgreSQL of DATABASE_URL")?;
        pool.execute(AssertSqlSafe(format!("create schema {name}")))
            .await?;
        Ok(Self { name, pool })
    }

    /// Drops the schema, with everything in it.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        let Self { name, pool } = self;
        pool.execute(AssertSqlSafe(format!("drop schema {name} cascade")))
            .await?;
        pool.close().await;
        Ok(())
    }
}
