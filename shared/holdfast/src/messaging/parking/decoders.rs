//! The handlers' decoders, which check an operator's edit.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::messaging::{
    batch::decode,
    event::Incoming,
    handler::{Handler, Undecodable},
};

/// The decoders of the queues that a service consumes, from
/// [`Consumers::decoders`](crate::messaging::Consumers::decoders): an operator's edit is checked by the handler that
/// will get the message. Clones share them.
#[derive(Clone, Default)]
pub struct Decoders {
    queues: Arc<Mutex<BTreeMap<String, Decoder>>>,
    publisher_of: Option<PublisherOf>,
}

/// A handler's decoder, without its result.
type Decoder = Arc<dyn Fn(&Incoming) -> Result<(), Undecodable> + Send + Sync>;

/// A function that returns the source which alone publishes messages of a type.
pub type PublisherOf = fn(&str) -> Option<&'static str>;

impl Decoders {
    /// Sets the function that names the source of each type.
    pub(in crate::messaging) fn set_publisher_of(&mut self, publisher_of: PublisherOf) {
        self.publisher_of = Some(publisher_of);
    }

    /// Adds the decoder of a queue's handler.
    pub(in crate::messaging) fn add<H: Handler>(&self, queue: &str, handler: &Arc<H>) {
        let handler = Arc::clone(handler);
        let decoder = move |event: &Incoming| decode(&*handler, event).map(|_| ());
        self.lock().insert(queue.to_owned(), Arc::new(decoder));
    }

    /// Checks that the handler of `queue` can decode `event`; returns the reason if not.
    pub(super) fn check(&self, queue: &str, event: &Incoming) -> Result<(), String> {
        let decoder = self.lock().get(queue).cloned();
        let decoder = decoder.ok_or_else(|| format!("this service does not consume {queue:?}"))?;
        decoder(event).map_err(|undecodable| undecodable.to_string())
    }

    /// Returns the source that alone publishes messages of this type, if it is known.
    pub(super) fn publisher_of(&self, kind: &str) -> Option<&'static str> {
        self.publisher_of?(kind)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Decoder>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues: Vec<String> = self.lock().keys().cloned().collect();
        f.debug_struct("Decoders")
            .field("queues", &queues)
            .finish_non_exhaustive()
    }
}
