//! Prints a development token.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use chassis::{
    identity::{DevelopmentKey, Principal, Role},
    settings::IdentitySettings,
};
use clap::Parser;
use contracts::value::{CustomerId, Email};

/// Prints a development token for NAME: by default a customer's
#[derive(Parser)]
#[command(name = "token")]
struct Arguments {
    /// The bearer: 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '@' and '-'
    name: CustomerId,

    /// An operator's token: may use the operator APIs and sees everything
    #[arg(long, conflicts_with = "service")]
    operator: bool,

    /// A service's token
    #[arg(long)]
    service: bool,

    /// The address for mails to the bearer; NAME@example.test if not given
    #[arg(long)]
    email: Option<Email>,

    /// The lifetime of the token, in hours
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    hours: u64,

    /// A file to write it to, instead of standard output
    #[arg(long)]
    output: Option<PathBuf>,

    #[command(flatten)]
    identity: IdentitySettings,
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> anyhow::Result<()> {
    let Arguments {
        name,
        operator,
        service,
        email,
        hours,
        output,
        identity,
    } = Arguments::parse();
    let role = match (operator, service) {
        (true, _) => Role::Operator,
        (_, true) => Role::Service,
        _ => Role::Customer,
    };
    let email = email.or_else(|| format!("{name}@example.test").parse().ok());
    let key = DevelopmentKey::load(&identity.environment)?;
    let principal = Principal {
        id: name,
        role,
        email,
    };
    let lifetime = Duration::from_secs(hours * 3600);
    let token = key.sign(
        &principal,
        &identity.token_issuer,
        &identity.token_audience,
        lifetime,
    )?;
    match output {
        Some(path) => std::fs::write(&path, token).with_context(|| path.display().to_string())?,
        None => println!("{token}"),
    }
    Ok(())
}
