//! A database per test.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::setting;

/// A database of a test's own. It is left behind, for a look at it after a failure; the server goes when the tests are
/// over.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// Creates an empty database.
    pub async fn create(label: &str) -> Self {
        let server = setting("HOLDFAST_TEST_POSTGRES");
        let name = format!("{}_{}", label.replace('-', "_"), Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&format!("{server}/postgres"))
            .await
            .expect("the test server answers");
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut admin)
            .await
            .expect("a superuser may create a database");
        Self {
            url: format!("{server}/{name}"),
            name,
        }
    }

    /// Returns the database's name, which no other test has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL by which a service connects to it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL by which another role of `deploy/postgres/roles.sql` connects to it, with its development
    /// password.
    pub fn url_of(&self, role: &str) -> String {
        format!(
            "postgres://{role}:development-{role}@{}/{}",
            self.server(),
            self.name
        )
    }

    /// Returns the URL by which a service connects to it through a proxy at `address`.
    pub fn url_via(&self, address: std::net::SocketAddr) -> String {
        let (credentials, _) = self.url.split_once('@').expect("the URL has credentials");
        format!("{credentials}@{address}/{}", self.name)
    }

    /// Returns the server's address.
    pub fn server(&self) -> std::net::SocketAddr {
        let (_, rest) = self.url.split_once('@').expect("the URL has credentials");
        let (address, _) = rest.split_once('/').expect("the URL has a name");
        address.parse().expect("the URL has an address")
    }

    /// Makes a pool of a few connections, for looking.
    pub fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(3)
            .connect_lazy(&self.url)
            .expect("the URL is valid")
    }
}
