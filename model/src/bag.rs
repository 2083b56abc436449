//! A multiset of items on their way.

/// Items on their way, each maybe more than once. They arrive in any order, so the bag has none.
///
/// A sorted list, so that equal bags are equal, and short, because a search clones millions of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bag<T>(Vec<(T, u8)>);

impl<T> Default for Bag<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord> Bag<T> {
    /// Returns whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns each item, once.
    pub fn each(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().map(|(item, _)| *item)
    }

    pub(super) fn add(&mut self, item: T) {
        match self.0.binary_search_by_key(&item, |(item, _)| *item) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (item, 1)),
        }
    }

    /// Takes one out, if there is one.
    pub(super) fn take(&mut self, item: T) {
        if let Ok(at) = self.0.binary_search_by_key(&item, |(item, _)| *item) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }
}
