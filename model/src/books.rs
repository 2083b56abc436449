//! Payment's and inventory's books on one order, and their transitions: the same in both ways of coordination.

use contracts::{inventory::RejectReason, payment::DeclineReason};
use inventory::domain as stock;
use payment::domain as money;

use super::{
    company::{CardAnswer, CardCompany},
    facts::Fact,
    guards::Without,
};

/// The money or units available to an order that finds some: enough for two, so that taking it twice is seen.
const PLENTY: u8 = 2;

/// The order's way of payment, and the money and goods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Set if the order is paid by card; otherwise it is paid from the wallet.
    pub card: bool,
    /// Set if the wallet holds enough. The card processor decides for itself.
    pub funds: bool,
    /// Set if the unit is in stock.
    pub in_stock: bool,
}

/// Payment's and inventory's databases, and the card processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Books {
    pub payment: Option<money::State>,
    /// The money in the wallet; the order costs 1.
    pub balance: i8,
    pub reservation: Option<stock::State>,
    /// The units in stock; the order takes 1.
    pub stock: stock::Stock,
    pub company: CardCompany,
}

/// A participant's answer, if it gives one; an error, if the input is not possible in its state.
pub(super) type Heard = Result<Option<Fact>, String>;

impl Terms {
    fn funded(self) -> i8 {
        if self.funds { PLENTY.cast_signed() } else { 0 }
    }

    fn stocked(self) -> i64 {
        if self.in_stock { PLENTY.into() } else { 0 }
    }
}

impl Books {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            payment: None,
            balance: terms.funded(),
            reservation: None,
            stock: stock::Stock {
                available: terms.stocked(),
                ..stock::Stock::default()
            },
            company: CardCompany::default(),
        }
    }

    /// Returns the input that charges the order, by the money that is there now.
    pub(super) fn charge(&self, terms: Terms) -> money::Input {
        money::Input::Charge(if terms.card {
            money::Means::Card
        } else if self.balance >= 1 {
            money::Means::Wallet(Ok(()))
        } else {
            money::Means::Wallet(Err(DeclineReason::InsufficientFunds))
        })
    }

    /// Returns the input that reserves the order's unit, by the stock that is there now.
    pub(super) fn reserve(&self) -> stock::Input {
        stock::Input::Reserve(if self.stock.available >= 1 {
            Ok(())
        } else {
            Err(stock::Rejection {
                reason: RejectReason::OutOfStock,
                sku: None,
            })
        })
    }

    pub(super) fn payment_hears(&mut self, input: money::Input, without: Without) -> Heard {
        let decision = without
            .decide_payment(self.payment, input)
            .map_err(|illegal| illegal.to_string())?;
        self.payment = Some(decision.state);
        self.balance += match decision.booking {
            None => 0,
            Some(money::Booking::Debit) => -1,
            Some(money::Booking::Credit) => 1,
        };
        Ok(decision.answer.map(Fact::from))
    }

    pub(super) fn card_answers(&mut self, answer: CardAnswer, without: Without) -> Heard {
        self.company.answers.take(answer);
        let input = match answer {
            CardAnswer::Captured => money::Input::CardCaptured,
            CardAnswer::Declined => money::Input::CardDeclined(DeclineReason::CardDeclined),
            CardAnswer::Refunded => money::Input::CardRefunded,
        };
        self.payment_hears(input, without)
    }

    pub(super) fn answer_lost(&mut self, answer: CardAnswer, without: Without) -> Heard {
        self.company.answers.take(answer);
        match without.no_answer() {
            Some(input) => self.payment_hears(input, without),
            None => Ok(None),
        }
    }

    pub(super) fn inventory_hears(&mut self, input: stock::Input, without: Without) -> Heard {
        let decision = without
            .decide_inventory(self.reservation.as_ref(), input)
            .map_err(|illegal| illegal.to_string())?;
        self.reservation = Some(decision.state);
        if let Some((from, to)) = decision.moves {
            self.stock
                .move_units(1, from, to)
                .map_err(|shortfall| shortfall.to_string())?;
        }
        Ok(decision.answer.map(Fact::from))
    }

    /// Returns whether money and units were taken at most once, and given back only if they were taken. True at any
    /// moment.
    pub fn took_once(&self, terms: Terms) -> bool {
        let stock::Stock {
            available,
            reserved,
            sold,
            written_off,
        } = self.stock;
        let once = |units: i64| (0..=1).contains(&units);
        let wallet = once((terms.funded() - self.balance).into());
        let card = !self.company.refunded || self.company.charge == Some(true);
        let units = once(reserved + sold + written_off) && available >= 0;
        wallet && card && units && available + reserved + sold + written_off == terms.stocked()
    }

    /// Returns whether payment's row, the wallet and the card processor agree. True while no call is under way.
    pub fn money_agrees(&self, terms: Terms) -> bool {
        let captured = |method| self.payment == Some(money::State::Captured(method));
        let taken = self.balance < terms.funded();
        // Money that an operator wrote off may have been taken or not, and may be with the card processor or not: the
        // operator sees to that.
        self.payment == Some(money::State::Settled)
            || (taken == captured(money::Method::Wallet)
                && self.company.keeps() == captured(money::Method::Card))
    }

    /// Returns whether the money is taken and the goods are sold.
    pub fn sold(&self) -> bool {
        self.taken() && self.reservation == Some(stock::State::Sold) && self.stock.sold == 1
    }

    /// Returns whether the money is taken and the goods are reserved or sold.
    pub fn taken(&self) -> bool {
        matches!(self.payment, Some(money::State::Captured(_)))
            && matches!(
                self.reservation,
                Some(stock::State::Reserved | stock::State::Sold)
            )
    }

    /// Returns whether neither money nor goods are taken or will be, or whether they were written off.
    pub fn undone(&self) -> bool {
        self.money_undone() && self.goods_undone()
    }

    fn money_undone(&self) -> bool {
        use money::State::{Declined, Refunded, Settled, Void};
        matches!(self.payment, Some(Declined(_) | Refunded | Void | Settled))
    }

    fn goods_undone(&self) -> bool {
        use stock::State::{Rejected, Released, Settled, Void};
        let stock::Stock { reserved, sold, .. } = self.stock;
        let row = matches!(
            self.reservation,
            Some(Rejected(_) | Released { .. } | Void | Settled)
        );
        row && reserved == 0 && sold == 0
    }
}
