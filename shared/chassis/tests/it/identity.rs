//! The keys that verify tokens: their files and URLs, loads and outages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::ResponseError as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use chassis::{
    http::Problem,
    identity::{ConfigurationError, DevelopmentKey, Role, Verifier},
    settings::IdentitySettings,
};
use testkit::{eventually, token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

const DEVELOPMENT: &str = include_str!("../../../../deploy/development/jwks.json");
const NONE: &str = r#"{"keys":[]}"#;
/// A set with another key than the development key.
const OTHER: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"other","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const REFRESH: Duration = Duration::from_secs(300);
const MAX_AGE: Duration = Duration::from_secs(43_200);

fn settings(jwks: &str, environment: &str) -> IdentitySettings {
    IdentitySettings {
        jwks: jwks.to_owned(),
        jwks_refresh_seconds: REFRESH.as_secs(),
        jwks_max_age_seconds: MAX_AGE.as_secs(),
        token_issuer: "https://issuer.holdfast.example".to_owned(),
        token_audience: "holdfast".to_owned(),
        environment: environment.to_owned(),
    }
}

/// In place of a key set: the server sends no response, and keeps the connection.
const HANGS: &str = "";

/// Serves a key set that can change, or hangs; counts the requests for it.
async fn serve(first: &'static str) -> (String, watch::Sender<&'static str>, Arc<AtomicUsize>) {
    // An error means that a provider is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("bound"));
    let (set, keys) = watch::channel(first);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut keys = keys.clone();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let body = *keys.borrow_and_update();
            if body == HANGS {
                tokio::spawn(async move {
                    let _ = keys.changed().await;
                    drop(stream);
                });
                continue;
            }
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
        "it signs nothing in production"
    );

    // Behind a URL the key is found when the set is loaded.
    let (url, _set, _) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "production")).expect("nothing is loaded yet");
    let refused = verifier.verify(&token("alice", Role::Customer)).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn unknown_keys_do_not_load_the_set_each_time() {
    let (url, set, asked) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "development")).expect("a verifier");
    let good = token("alice", Role::Customer);
    let alice = verifier.verify(&good).await.expect("the key is there");
    assert_eq!(alice.id.to_string(), "alice");

    // A client invents keys: the set is not loaded for each of them.
    let foreign = signed_by(&good, "nobodys");
    for _ in 0..20 {
        assert!(verifier.verify(&foreign).await.is_err());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    // After a while it is loaded again; an empty set is a mistake, and changes nothing.
    set.send_replace(NONE);
    pass(Duration::from_secs(31)).await;
    assert!(verifier.verify(&foreign).await.is_err());
    assert!(verifier.verify(&good).await.is_ok());
    assert!(asked.load(Ordering::Relaxed) > 1);
}

/// Lets this much time pass at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Returns `token` as if a key of this name had signed it.
fn signed_by(token: &str, key: &str) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":"{key}"}}"#);
    let rest = token.split_once('.').map_or("", |(_, rest)| rest);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

fn status(problem: &Problem) -> u16 {
    problem.status_code().as_u16()
}

#[tokio::test]
async fn removed_key_is_not_believed_after_a_refresh() {
    let (url, set, _) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "development")).expect("a verifier");
    let running = CancellationToken::new();
    let fresh = tokio::spawn(verifier.clone().keep_fresh(running.clone()));
    let alice = token("alice", Role::Customer);
    verifier.verify(&alice).await.expect("the key is there");

    set.send_replace(OTHER);
    verifier
        .verify(&alice)
        .await
        .expect("it was believed a moment ago");
    pass(REFRESH).await;
    let refused = eventually("the removed key is not believed", || async {
        verifier.verify(&alice).await.err().ok_or("it is")
    })
    .await;
    assert_eq!(status(&refused), 401, "{refused}");
    running.cancel();
    fresh.await.expect("it ends");
}

#[tokio::test]
async fn dead_key_url_delays_nobody_with_a_known_key() {
    let (url, set, asked) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "development")).expect("a verifier");
    let alice = token("alice", Role::Customer);
    verifier.verify(&alice).await.expect("the key is there");
    set.send_replace(HANGS);
    pass(Duration::from_secs(31)).await;

    let strangers: Vec<_> = (0..300)
        .map(|n| {
            let (verifier, invented) = (verifier.clone(), signed_by(&alice, &format!("key-{n}")));
            tokio::spawn(async move { verifier.verify(&invented).await })
        })
        .collect();
    // All requests except those that wait for the load are answered before it ends, and there is one load.
    eventually("most are answered while the URL hangs", || async {
        let open = strangers.iter().filter(|task| !task.is_finished()).count();
        if open <= 8 { Ok(()) } else { Err(open) }
    })
    .await;
    let begun = Instant::now();
    verifier.verify(&alice).await.expect("the key is known");
    // A load takes three seconds to fail.
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    for stranger in strangers {
        let refused = stranger
            .await
            .expect("no panic")
            .expect_err("an invented key");
        assert_eq!(status(&refused), 503, "{refused}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);

    // The failure is remembered: the next request does not wait either.
    let begun = Instant::now();
    let refused = verifier.verify(&signed_by(&alice, "one-more")).await;
    assert_eq!(status(&refused.expect_err("an invented key")), 503);
    // A load takes three seconds to fail.
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn keys_are_not_believed_for_ever_without_their_url() {
    let (url, set, _) = serve(DEVELOPMENT).await;
    let verifier = Verifier::new(&settings(&url, "development")).expect("a verifier");
    let alice = token("alice", Role::Customer);
    verifier.verify(&alice).await.expect("the key is there");
    set.send_replace(NONE);
    pass(MAX_AGE.saturating_sub(Duration::from_secs(60))).await;
    verifier
        .verify(&alice)
        .await
        .expect("the last known keys hold");
    pass(Duration::from_secs(120)).await;
    let refused = verifier.verify(&alice).await.expect_err("they are too old");
    assert_eq!(status(&refused), 503, "{refused}");
    // A failed load is remembered for some seconds; then the keys are loaded again.
    set.send_replace(DEVELOPMENT);
    pass(Duration::from_secs(6)).await;
    verifier.verify(&alice).await.expect("the set is back");
}
