//! The end of each cell.

use contracts::order::Saga;
use serde_json::Value;

use super::{
    cell::{Cell, Fault, all, saga_named},
    told::Told,
};

/// A line for each cell that an order of the crowd goes through. The cells in which processes fail or abort have no
/// line: there everything must end as if nothing had happened ([`usual`]).
///
/// Marks: [`Told::marks`]. Log: the entries, in order. `..` at its beginning stands for the usual entries before the
/// step, at its end for the usual entries after it, or, if the saga is undone, for the order's cancel and the
/// customer's mail. Asked: the least number of times that the cell's command is sent; a busy machine may lead to more.
const TABLE: &str = "
saga        | step              | what goes wrong   | saga ends   | order ends                 | marks    | asked | log
place_order | charge_payment    | fails             | compensated | cancelled payment_declined | uurwwwww |  1 | charge_payment/do payment.declined > ..
place_order | charge_payment    | times out         | compensated | cancelled deadline         | uuuwwwww | 10 | charge_payment/do no answer > charge_payment/undo payment.nothing_to_undo > ..
place_order | charge_payment    | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | charge_payment    | replies late      | compensated | cancelled deadline         | uuuwwwww | 10 | charge_payment/do no answer > charge_payment/undo payment.refunded > ..
place_order | charge_payment    | is cancelled      | compensated | cancelled customer         | uuuwwwww |  1 | cancel customer > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | fails             | compensated | cancelled out_of_stock     | uuurwwww |  1 | .. > reserve_inventory/do inventory.rejected > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | times out         | compensated | cancelled deadline         | uuuuwwww | 10 | .. > reserve_inventory/do no answer > reserve_inventory/undo inventory.nothing_to_undo > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | reserve_inventory | replies late      | compensated | cancelled deadline         | uuuuwwww | 10 | .. > reserve_inventory/do no answer > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | is cancelled      | compensated | cancelled customer         | uuuuwwww |  1 | .. > cancel customer > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | confirm_order     | fails             | compensated | cancelled operator         | uuuurwww |  1 | .. > confirm_order/do order.confirm_rejected > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | confirm_order     | times out         | completed   | confirmed                  | dddddddd |  4 | ..
place_order | confirm_order     | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | confirm_order     | replies late      | completed   | confirmed                  | dddddddd |  2 | ..
place_order | confirm_order     | is cancelled      | compensated | cancelled customer         | uuuurwww |  1 | .. > confirm_order/do order.confirm_rejected > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | commit_inventory  | times out         | completed   | confirmed                  | dddddddd |  4 | ..
place_order | commit_inventory  | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | commit_inventory  | replies late      | completed   | confirmed                  | dddddddd |  2 | ..
place_order | commit_inventory  | is cancelled      | completed   | cancelled customer         | dddddddd |  1 | .. > commit_inventory/do inventory.released > ..
place_order | complete_order    | times out         | completed   | confirmed                  | dddddddd |  4 | ..
place_order | complete_order    | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | complete_order    | replies late      | completed   | confirmed                  | dddddddd |  2 | ..
place_order | complete_order    | is cancelled      | completed   | cancelled customer         | dddddddd |  1 | ..
place_order | send_notification | times out         | completed   | confirmed                  | dddddddd |  4 | ..
place_order | send_notification | replies twice     | completed   | confirmed                  | dddddddd |  1 | ..
place_order | send_notification | replies late      | completed   | confirmed                  | dddddddd |  2 | ..
place_order | send_notification | is cancelled      | completed   | cancelled customer         | dddddddd |  1 | ..
undo_order  | refund_payment    | times out         | completed   | cancelled customer         | ddddd    |  4 | ..
undo_order  | refund_payment    | replies twice     | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | refund_payment    | replies late      | completed   | cancelled customer         | ddddd    |  2 | ..
undo_order  | refund_payment    | is cancelled      | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | release_inventory | times out         | completed   | cancelled customer         | ddddd    |  4 | ..
undo_order  | release_inventory | replies twice     | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | release_inventory | replies late      | completed   | cancelled customer         | ddddd    |  2 | ..
undo_order  | release_inventory | is cancelled      | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | cancel_order      | times out         | completed   | cancelled customer         | ddddd    |  4 | ..
undo_order  | cancel_order      | replies twice     | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | cancel_order      | replies late      | completed   | cancelled customer         | ddddd    |  2 | ..
undo_order  | cancel_order      | is cancelled      | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | send_notification | times out         | completed   | cancelled customer         | ddddd    |  4 | ..
undo_order  | send_notification | replies twice     | completed   | cancelled customer         | ddddd    |  1 | ..
undo_order  | send_notification | replies late      | completed   | cancelled customer         | ddddd    |  2 | ..
undo_order  | send_notification | is cancelled      | completed   | cancelled customer         | ddddd    |  1 | ..
place_order | charge_payment    | undo fails once   | compensated | cancelled out_of_stock     | uuurwwww |  2 | charge_payment/do payment.completed > reserve_inventory/do inventory.rejected > charge_payment/undo payment.refunded > ..
place_order | charge_payment    | undo fails always | compensated | cancelled out_of_stock     | uutrwwww | 10 | charge_payment/do payment.completed > reserve_inventory/do inventory.rejected > charge_payment/undo no answer > skip > charge_payment/settle payment.settled > ..
place_order | charge_payment    | undo of unknown   | compensated | cancelled deadline         | uuuwwwww |  1 | charge_payment/do no answer > charge_payment/undo payment.nothing_to_undo > ..
place_order | reserve_inventory | undo fails once   | compensated | cancelled customer         | uuuurwww |  2 | .. > reserve_inventory/do inventory.reserved > confirm_order/do order.confirm_rejected > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | undo fails always | compensated | cancelled customer         | uuutrwww | 10 | .. > reserve_inventory/do inventory.reserved > confirm_order/do order.confirm_rejected > reserve_inventory/undo no answer > skip > reserve_inventory/settle inventory.settled > charge_payment/undo payment.refunded > ..
place_order | reserve_inventory | undo of unknown   | compensated | cancelled deadline         | uuuuwwww |  1 | .. > reserve_inventory/do no answer > reserve_inventory/undo inventory.nothing_to_undo > charge_payment/undo payment.refunded > ..
place_order | create_order      | undo fails once   | compensated | cancelled payment_declined | uurwwwww |  2 | charge_payment/do payment.declined > ..
place_order | create_order      | undo fails always | compensated | cancelled payment_declined | uurwwwww | 12 | charge_payment/do payment.declined > ..
place_order | create_order      | undo of unknown   | compensated | cancelled customer         | uuuurwww |  1 | charge_payment/do payment.completed > reserve_inventory/do inventory.reserved > confirm_order/do order.confirm_rejected > reserve_inventory/undo inventory.released > charge_payment/undo payment.refunded > ..
place_order | tell_customer     | undo fails once   | compensated | cancelled payment_declined | uurwwwww |  2 | charge_payment/do payment.declined > ..
place_order | tell_customer     | undo fails always | compensated | cancelled payment_declined | uurwwwww | 12 | charge_payment/do payment.declined > ..
place_order | tell_customer     | undo of unknown   | compensated | cancelled deadline         | uuuwwwww |  1 | charge_payment/do no answer > charge_payment/undo payment.nothing_to_undo > ..
";

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cell: Cell,
    saga_ends: &'static str,
    order_ends: &'static str,
    marks: &'static str,
    asked: u64,
    log: Vec<String>,
}

/// Returns the lines of the table.
pub(super) fn rows() -> Vec<Row> {
    let all = all();
    let lines = TABLE.trim().lines().skip(1);
    lines
        .map(|line| {
            let columns: Vec<&'static str> = line.split('|').map(str::trim).collect();
            let [saga, step, fault, saga_ends, order_ends, marks, asked, log] = columns[..] else {
                panic!("not eight columns: {line}");
            };
            let name = format!("{saga} | {step} | {fault}");
            let cell = all.iter().find(|cell| cell.to_string() == name);
            let cell = *cell.unwrap_or_else(|| panic!("there is no such cell: {name}"));
            Row {
                cell,
                saga_ends,
                order_ends,
                marks,
                asked: asked.parse().expect("a number"),
                log: in_full(cell, saga_ends, log),
            }
        })
        .collect()
}

/// Returns the steps and the log of a saga without faults, or without visible ones.
pub(super) fn usual(saga: Saga) -> &'static [(&'static str, &'static str)] {
    match saga {
        Saga::PlaceOrder => &[
            ("charge_payment", "charge_payment/do payment.completed"),
            (
                "reserve_inventory",
                "reserve_inventory/do inventory.reserved",
            ),
            ("confirm_order", "confirm_order/do order.confirmed"),
            (
                "commit_inventory",
                "commit_inventory/do inventory.committed",
            ),
            ("complete_order", "complete_order/do order.completed"),
            (
                "send_notification",
                "send_notification/do notification.queued",
            ),
        ],
        Saga::UndoOrder => &[
            ("refund_payment", "refund_payment/do payment.refunded"),
            (
                "release_inventory",
                "release_inventory/do inventory.released",
            ),
            ("cancel_order", "cancel_order/do order.cancelled"),
            (
                "send_notification",
                "send_notification/do notification.queued",
            ),
        ],
    }
}

/// The end of the log of every saga that is undone.
const UNDONE: [&str; 2] = [
    "create_order/undo order.cancelled",
    "tell_customer/undo notification.queued",
];

/// Returns a log of the table with its dots replaced by the entries that they stand for.
fn in_full(cell: Cell, saga_ends: &str, log: &str) -> Vec<String> {
    let usual = usual(saga_named(cell.saga));
    let place = usual.iter().position(|(step, _)| *step == cell.step);
    let (before, after) = place.map_or((&usual[..0], &usual[..0]), |place| {
        (&usual[..place], &usual[place + 1..])
    });
    let said = |part: &[(&str, &'static str)]| part.iter().map(|(_, said)| *said).collect();
    let words: Vec<&str> = log.split(" > ").collect();
    let last = words.len() - 1;
    let full = words
        .iter()
        .enumerate()
        .flat_map(|(place, word)| -> Vec<&str> {
            match (*word, place) {
                ("..", 0) if last == 0 => said(usual),
                ("..", 0) => said(before),
                ("..", _) if saga_ends == "completed" => said(after),
                ("..", _) => UNDONE.to_vec(),
                (word, _) => vec![word],
            }
        });
    full.map(str::to_owned).collect()
}

impl Row {
    /// Checks that the saga and the order ended as in this line.
    #[track_caller]
    pub(super) fn check(&self, told: &Told, order: &Value) {
        let Self { cell, .. } = self;
        assert_eq!(told.log, self.log, "{cell}");
        assert_eq!(told.phase, self.saga_ends, "{cell}");
        assert_eq!(told.marks, self.marks, "{cell}");
        let is_undo = [
            Fault::UndoFailsOnce,
            Fault::UndoFailsAlways,
            Fault::UndoOfUnknown,
        ]
        .contains(&cell.fault);
        let asked = format!("{}/{}", cell.step, if is_undo { "undo" } else { "do" });
        let times = told.asked.get(&asked).copied().unwrap_or_default();
        assert!(
            times >= self.asked,
            "{cell}: {asked} was sent {times} times, not {}",
            self.asked
        );
        let ended = match order["reason"].as_str() {
            Some(reason) => format!("{} {reason}", order["state"].as_str().unwrap_or_default()),
            None => order["state"].as_str().unwrap_or_default().to_owned(),
        };
        assert_eq!(
            (&*ended, &order["at_rest"]),
            (self.order_ends, &Value::Bool(true)),
            "{cell}: {order}"
        );
    }
}
