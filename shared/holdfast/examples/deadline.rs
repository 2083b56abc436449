//! Deadline: one time budget for a call and all the calls below it. Needs nothing but this process.
//!
//! ```console
//! $ cargo run -p holdfast --example deadline
//! ```
//!
//! A customer calls the order service, which calls the inventory service, which calls a slow warehouse. Each service is
//! a TCP server that reads one line (the header with the remaining budget, or nothing) and answers one. It runs twice:
//! once with a timeout per hop, each reasonable where it stands, and once with a deadline that travels.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use holdfast::{
    backoff::pause,
    deadline::{Deadline, HEADER},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

/// The time that the customer waits.
const CUSTOMER: Duration = Duration::from_millis(300);
/// The time that each service grants a call: "to be safe".
const GRANTED: Duration = Duration::from_millis(1000);
/// The time that the warehouse takes.
const WAREHOUSE: Duration = Duration::from_millis(800);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    println!("The customer waits for {CUSTOMER:?}, the warehouse takes {WAREHOUSE:?}.");

    println!("\n1. A timeout of {GRANTED:?} for each hop:");
    run(Budgets::PerHop).await?;
    println!(
        "   Both services went on working for a customer who had left. Under load they would do nothing else."
    );

    println!("\n2. One deadline, which travels as `{HEADER}`:");
    run(Budgets::Travel).await?;
    println!("   Every service stopped when the customer did, or a little before.");

    println!("\n3. Headers that a caller may send to a server that grants {GRANTED:?}:");
    for header in ["250", "999999", "soon", "-1"] {
        let left = Deadline::from_header(Some(header), GRANTED).remaining();
        let left = left.unwrap_or_default().as_secs_f64() * 1000.0;
        println!("   {HEADER}: {header:<7} grants {left:.0} ms");
    }
    println!("   A caller can shorten what the server grants, and never extend it.");
    Ok(())
}

/// The time limit of each call.
#[derive(Clone, Copy, PartialEq)]
enum Budgets {
    /// Each hop starts with the whole time.
    PerHop,
    /// Each hop has the time that the one above it has left.
    Travel,
}

/// Runs a customer's request until no service works on it any more.
async fn run(budgets: Budgets) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (said, mut heard) = mpsc::unbounded_channel();
    let say: Say = Arc::new(move |line: String| {
        // After the last line that is printed the receiver is gone.
        let _ = said.send(format!("   {:>4} ms  {line}", begun.elapsed().as_millis()));
    });
    let inventory = serve("inventory", None, budgets, Arc::clone(&say)).await?;
    let order = serve("order", Some(inventory), budgets, Arc::clone(&say)).await?;

    let customer = Deadline::after(CUSTOMER);
    let header = (budgets == Budgets::Travel).then_some(customer);
    match customer.run(call(order, header)).await {
        Ok(answer) => say(format!("customer: {}", answer?)),
        // Not "it failed": it may have happened, and an order would now be repeated under its idempotency key.
        Err(exceeded) => say(format!("customer leaves: {exceeded}")),
    }

    // Each service prints one line when it stops working.
    drop(say);
    let mut ends = 0;
    while ends < 3 {
        let Some(line) = heard.recv().await else {
            break;
        };
        println!("{line}");
        ends += i32::from(!line.contains("asked"));
    }
    Ok(())
}

/// A function that prints a line, with the time.
type Say = Arc<dyn Fn(String) + Send + Sync>;

/// Starts a service that calls the one below it, or, without one, the warehouse.
async fn serve(
    name: &'static str,
    below: Option<SocketAddr>,
    budgets: Budgets,
    say: Say,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await?;
        let mut header = String::new();
        BufReader::new(&mut connection)
            .read_line(&mut header)
            .await?;

        // A service does no more than this at its entry ...
        let deadline = Deadline::from_header(Some(&header), GRANTED);
        let left = deadline.remaining().unwrap_or_default();
        say(format!("{name} is asked, and has {} ms", left.as_millis()));

        let work = async {
            let Some(below) = below else {
                pause(WAREHOUSE).await;
                return Ok("one left".to_owned());
            };
            // ... and this at each call that it makes. `within` would also give the call a bound of its own.
            call(below, (budgets == Budgets::Travel).then_some(deadline)).await
        };
        let answer = match deadline.run(work).await {
            Ok(answer) => {
                let answer = answer?;
                say(format!("{name} has the answer: {answer}"));
                answer
            }
            Err(exceeded) => {
                say(format!("{name} stops: {exceeded}"));
                "too late".to_owned()
            }
        };
        connection.write_all(format!("{answer}\n").as_bytes()).await
    });
    Ok(address)
}

/// Makes a call, with the remaining budget if that travels.
async fn call(to: SocketAddr, deadline: Option<Deadline>) -> io::Result<String> {
    let header = match deadline {
        // Without any time left a connection would be of no use.
        Some(deadline) => deadline.header_value().map_err(io::Error::other)?,
        None => String::new(),
    };
    let mut connection = BufReader::new(TcpStream::connect(to).await?);
    connection
        .write_all(format!("{header}\n").as_bytes())
        .await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}
