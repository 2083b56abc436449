//! The author of an operator action.

/// The operator of an action, with the note that explains it.
pub(crate) struct ByOperator<'a> {
    pub(crate) operator: &'a str,
    pub(crate) note: &'a str,
}
