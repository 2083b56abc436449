//! Whoever a test wants to be.

use std::{path::PathBuf, time::Duration};

use chassis::identity::{DevelopmentKey, Principal, Role};

/// A token for `name`, as the services of this project expect it.
pub fn token(name: &str, role: Role) -> String {
    token_with(
        name,
        role,
        "https://issuer.holdfast.example",
        "holdfast",
        Duration::from_secs(3600),
    )
}

/// A token for `name` that says something else.
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

/// A file with a service's token, as a service is given it.
pub fn service_token_file(service: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("holdfast-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder for temporary files");
    let file = folder.join(format!("{service}-{}.token", uuid::Uuid::now_v7().simple()));
    std::fs::write(&file, token(service, Role::Service)).expect("a writable file");
    file
}

/// An HTTP client for tests.
pub fn client() -> reqwest::Client {
    // An error means that there is a provider already: that is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        // Sooner than our servers hang up: else a request could meet the hanging up half way.
        .pool_idle_timeout(Duration::from_secs(3))
        .build()
        .expect("a client")
}
