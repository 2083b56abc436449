//! A new migration file alone must rebuild the crate that embeds it.

fn main() {
    for pattern in ["outbox", "inbox", "messaging", "saga"] {
        println!("cargo:rerun-if-changed=src/{pattern}/migrations");
    }
}
