//! Tokens for every caller that a test needs, and an HTTP client.

use std::{path::PathBuf, time::Duration};

use chassis::identity::{DevelopmentKey, Principal, Role};

/// Returns a token for `name`, as the services of this project expect it.
pub fn token(name: &str, role: Role) -> String {
    token_with(
        name,
        role,
        "https://issuer.holdfast.example",
        "holdfast",
        Duration::from_secs(3600),
    )
}

/// Returns a token for `name` with another issuer, audience or lifetime.
pub fn token_with(
    name: &str,
    role: Role,
    issuer: &str,
    audience: &str,
    lifetime: Duration,
) -> String {
    let principal = Principal {
        id: name.parse().expect("a valid name"),
        role,
        email: format!("{name}@example.test").parse().ok(),
    };
    let key = DevelopmentKey::load("development").expect("the key is in the repository");
    key.sign(&principal, issuer, audience, lifetime)
        .expect("it signs")
}

/// Writes a service's token to a file, as a service gets it; returns the file's path.
pub fn service_token_file(service: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("holdfast-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder for temporary files");
    let file = folder.join(format!("{service}-{}.token", uuid::Uuid::now_v7().simple()));
    std::fs::write(&file, token(service, Role::Service)).expect("a writable file");
    file
}

/// Makes an HTTP client for tests.
pub fn client() -> reqwest::Client {
    // An error means that a provider is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        // Sooner than our servers close idle connections: otherwise a request could be sent while its connection is
        // being closed.
        .pool_idle_timeout(Duration::from_secs(3))
        .build()
        .expect("a client")
}
