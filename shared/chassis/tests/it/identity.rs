//! Where the keys come from that tokens are believed by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chassis::{
    identity::{ConfigurationError, DevelopmentKey, Role, Verifier},
    settings::IdentitySettings,
};
use testkit::token;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

const DEVELOPMENT: &str = include_str!("../../../../deploy/development/jwks.json");
const NONE: &str = r#"{"keys":[]}"#;

fn settings(jwks: &str, environment: &str) -> IdentitySettings {
    IdentitySettings {
        jwks: jwks.to_owned(),
        token_issuer: "https://issuer.holdfast.example".to_owned(),
        token_audience: "holdfast".to_owned(),
        environment: environment.to_owned(),
    }
}

/// Serves a key set that can change; counts how often it was asked for.
async fn serve(first: &'static str) -> (String, watch::Sender<&'static str>, Arc<AtomicUsize>) {
    // An error means that there is a provider already: that is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("bound"));
    let (set, keys) = watch::channel(first);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let body = *keys.borrow();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    (url, set, asked)
}

#[tokio::test]
async fn production_refuses_the_development_key_whatever_it_is_called() {
    let renamed = DEVELOPMENT.replace("\"kid\": \"", "\"kid\": \"our-very-own-");
    assert_ne!(renamed, DEVELOPMENT, "the key has another name");
    let path = std::env::temp_dir().join(format!("holdfast-jwks-{}.json", std::process::id()));
    std::fs::write(&path, &renamed).expect("written");
    let path = path.display().to_string();
    assert!(Verifier::new(&settings(&path, "development")).is_ok());
    assert!(matches!(
        Verifier::new(&settings(&path, "production")),
        Err(ConfigurationError::DevelopmentKey(_))
    ));
    std::fs::remove_file(&path).expect("removed");
    assert!(
        DevelopmentKey::load("production").is_err(),
        "nor does anybody sign with it"
    );

    // Behind a URL it shows when it is loaded.
    let (url, _set, _) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "production")).expect("nothing is loaded yet");
    let refused = verifier.verify(&token("alice", Role::Customer)).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_key_that_was_added_is_found_but_not_asked_for_all_the_time() {
    let (url, set, asked) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "development")).expect("a verifier");
    let good = token("alice", Role::Customer);
    let alice = verifier.verify(&good).await.expect("the key is there");
    assert_eq!(alice.id.to_string(), "alice");

    // Somebody invents keys: the set is not loaded for each of them.
    let foreign = good.replacen(
        good.split('.').next().unwrap_or_default(),
        // {"typ":"JWT","alg":"EdDSA","kid":"nobodys"}
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6Im5vYm9keXMifQ",
        1,
    );
    for _ in 0..20 {
        assert!(verifier.verify(&foreign).await.is_err());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    // After a while it is, and what was withdrawn is not believed any more; an empty set is a mistake, and changes nothing.
    let later = async || {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
    };
    set.send_replace(NONE);
    later().await;
    assert!(verifier.verify(&foreign).await.is_err());
    assert!(verifier.verify(&good).await.is_ok());
    assert!(asked.load(Ordering::Relaxed) > 1);
}
